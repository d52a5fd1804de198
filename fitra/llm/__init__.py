"""Jobs over language models: `run` asks each row once, ever, and keeps every paid answer in a ledger."""

from fitra.llm.backend import Backend, EndpointDown, FunctionBackend, Message, Reply, RequestError
from fitra.llm.batch import run_batch
from fitra.llm.budget import Budget, BudgetSpent
from fitra.llm.client import EndpointBackend
from fitra.llm.completions import CompletionsBackend
from fitra.llm.job import Answer, Job, request_key, run
from fitra.llm.ledger import Ledger, Record
from fitra.llm.segment import Damage
from fitra.llm.store import pull, push
from fitra.llm.structured import REWRITE_SCHEMA, ParseError, is_refusal, parse_json, parse_object, parse_rewrite
from fitra.llm.tools import Imported, compact, export, gc, import_, keys_of, seal, stats, verify

__all__ = [
    "REWRITE_SCHEMA",
    "Answer",
    "Backend",
    "Budget",
    "BudgetSpent",
    "CompletionsBackend",
    "Damage",
    "EndpointBackend",
    "EndpointDown",
    "FunctionBackend",
    "Imported",
    "Job",
    "Ledger",
    "Message",
    "ParseError",
    "Record",
    "Reply",
    "RequestError",
    "compact",
    "export",
    "gc",
    "import_",
    "is_refusal",
    "keys_of",
    "parse_json",
    "parse_object",
    "parse_rewrite",
    "pull",
    "push",
    "request_key",
    "run",
    "run_batch",
    "seal",
    "stats",
    "verify",
]  # fmt: skip
