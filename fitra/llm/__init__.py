"""Jobs over language models: `run` asks each row once, ever, and keeps every paid answer in a ledger."""

from fitra.llm.client import Backend, EndpointBackend, EndpointDown, FunctionBackend, Message, Reply, RequestError
from fitra.llm.job import Answer, Job, ParseError, parse_json, request_key, run
from fitra.llm.ledger import Ledger, Record
from fitra.llm.segment import Damage
from fitra.llm.tools import compact, export, stats, verify

__all__ = [
    "Answer", "Backend", "Damage", "EndpointBackend", "EndpointDown", "FunctionBackend", "Job", "Ledger", "Message",
    "ParseError", "Record", "Reply", "RequestError", "compact", "export", "parse_json", "request_key", "run", "stats",
    "verify",
]  # fmt: skip
