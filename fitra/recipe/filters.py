"""Recipe: the filters of the corpus room, their presets and the profiles of registers.

A preset fills every threshold that the recipe leaves out, so a loaded recipe holds all that decides; `null` switches a
filter off. `docs/filters.md` has the table of filters, presets and sources.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from fitra.errors import FitraError
from fitra.recipe.base import Config

Preset = Literal["fitra", "gopher", "c4", "fineweb", "fineweb2", "allam", "none"]
Overrides = dict[str, float | None]

PROFILES = (
    "default", "news", "encyclopedia", "religious", "poetry", "classical", "social", "dialogue", "legal", "web"
)  # fmt: skip


class Filters(Config):
    """Thresholds of the filters; None is off. See `fitra.signals.quality.FIGURES` for what is measured."""

    preset: Preset = "fitra"
    fineweb2: str | None = Field(None, description="a FineWeb-2 configs/*.yml; its thresholds and stop words are used")
    stop_words: list[str] | None = Field(None, description="instead of the built-in function words")
    profiles: dict[str, Overrides] = Field({}, description="register: {key: threshold}, on top of the keys below")
    # How much text the shares below need before they say anything.
    long_text_words: int | None = Field(None, ge=0, description="shares of repetition and function words ask this")
    many_lines: int | None = Field(None, ge=0, description="filters of lines ask this many lines")
    # The corpus room's own keys; None leaves them as the corpus says.
    min_words: float | None = None
    min_language_share: float | None = None
    max_symbol_share: float | None = None
    max_repeated_line_share: float | None = None
    # Language and length.
    min_language_confidence: float | None = None
    max_words: float | None = None
    min_sentences: float | None = None
    # Damage.
    max_mojibake_share: float | None = None
    max_ta_za_share: float | None = None
    max_digit_share: float | None = None
    min_mean_word_length: float | None = None
    max_mean_word_length: float | None = None
    max_long_word_share: float | None = None
    min_alpha_word_share: float | None = None
    max_single_letter_share: float | None = None
    max_hash_to_word: float | None = None
    max_ellipsis_to_word: float | None = None
    # Web pages.
    max_javascript_share: float | None = None
    max_lorem: float | None = None
    max_curly_share: float | None = None
    max_furniture_share: float | None = None
    max_link_share: float | None = None
    # Lines.
    max_bullet_line_share: float | None = None
    max_ellipsis_line_share: float | None = None
    max_dup_line_share: float | None = None
    max_dup_line_char_share: float | None = None
    max_dup_paragraph_share: float | None = None
    max_dup_paragraph_char_share: float | None = None
    min_line_end_share: float | None = None
    max_short_line_share: float | None = None
    max_newline_per_word: float | None = None
    min_mean_line_length: float | None = None
    # Repetition of words.
    max_top_2_gram_share: float | None = None
    max_top_3_gram_share: float | None = None
    max_top_4_gram_share: float | None = None
    max_dup_5_gram_share: float | None = None
    max_dup_6_gram_share: float | None = None
    max_dup_7_gram_share: float | None = None
    max_dup_8_gram_share: float | None = None
    max_dup_9_gram_share: float | None = None
    max_dup_10_gram_share: float | None = None
    min_unique_word_share: float | None = None
    # Running text or keywords.
    min_stop_words: float | None = None
    min_stop_word_share: float | None = None
    max_stop_word_share: float | None = None
    # Two figures at once. A list or menu: more short lines and fewer function words than this. Keywords: fewer function
    # words and fewer lines that end. One sentence over and over: more repeated 5-grams and fewer different words.
    list_short_line_share: float | None = None
    list_stop_word_share: float | None = None
    keyword_stop_word_share: float | None = None
    keyword_line_end_share: float | None = None
    formula_dup_5_gram_share: float | None = None
    formula_unique_word_share: float | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        preset = given.get("preset", "fitra")
        if cls.model_fields.keys() <= given.keys():
            return given  # as dumped: all is there, and where it is read again the file may not be
        base: dict[str, Any] = dict(PRESETS.get(preset, {}))
        profiles = {k: dict(v) for k, v in REGISTERS.items()} if preset == "fitra" else {}
        if given.get("fineweb2"):
            base, profiles = read_fineweb2(Path(str(given["fineweb2"]))), {}
        if isinstance(mine := given.get("profiles"), dict):
            for register, keys in mine.items():
                _check(str(register), keys, set(cls.model_fields))
                profiles[register] = profiles.get(register, {}) | dict(keys or {})
        return base | given | {"profiles": profiles}


def _check(register: str, keys: Any, known: set[str]) -> None:
    if register not in PROFILES:
        near = difflib.get_close_matches(register, PROFILES, n=1)
        raise FitraError(
            f"corpus.filters.profiles: unknown register '{register}'.",
            f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(PROFILES)}.",
        )
    thresholds = known - {"preset", "fineweb2", "stop_words", "profiles"}
    for key in keys or {}:
        if key not in thresholds:
            near = difflib.get_close_matches(str(key), sorted(thresholds), n=1)
            raise FitraError(
                f"corpus.filters.profiles.{register}: unknown key '{key}'.",
                f"Did you mean '{near[0]}'?" if near else "See docs/filters.md.",
            )


def _ngrams(top: tuple[float, ...], dup: tuple[float, ...]) -> dict[str, float]:
    return {f"max_top_{n}_gram_share": t for n, t in zip((2, 3, 4), top, strict=True)} | {
        f"max_dup_{n}_gram_share": t for n, t in zip(range(5, 11), dup, strict=True)
    }


# Rae et al. 2021, table A1 and section A.1.1. Arabic-safe: words may be one letter shorter in the mean (two letters,
# not three: the article and the clitics are written together, but what is left of dialect posts is short).
_GOPHER = {
    "min_words": 50, "max_words": 100_000, "min_mean_word_length": 2, "max_mean_word_length": 10,
    "max_hash_to_word": 0.1, "max_ellipsis_to_word": 0.1, "max_bullet_line_share": 0.9, "max_ellipsis_line_share": 0.3,
    "min_alpha_word_share": 0.8, "min_stop_words": 2, "max_dup_line_share": 0.3, "max_dup_paragraph_share": 0.3,
    "max_dup_line_char_share": 0.2, "max_dup_paragraph_char_share": 0.2,
    **_ngrams((0.2, 0.18, 0.16), (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)),
}  # fmt: skip
# Raffel et al. 2020, section 2.2, for whole documents: what C4 does line by line (terminal punctuation, lines of few
# words) would take verse and classical prose apart and is left out.
_C4 = {"min_sentences": 3, "max_lorem": 0, "max_curly_share": 0, "max_javascript_share": 0.01}
# FineWeb-2's thresholds for Standard Arabic (configs/arb_Arab.yml). Measured on folded words without tashkeel, and
# the function words are the built-in ones: its own list has a comma and the word "United".
_FINEWEB2 = {
    **_GOPHER, "min_language_confidence": 0.711, "max_dup_line_share": 0.304, "max_dup_paragraph_share": None,
    "max_dup_paragraph_char_share": None, "max_dup_line_char_share": 0.1, "min_line_end_share": 0.143,
    "max_newline_per_word": 0.189, "min_mean_word_length": 2, "max_mean_word_length": 9, "min_alpha_word_share": 0.787,
    **_ngrams((0.197, 0.172, 0.146), (0.165, 0.153, 0.142, 0.131, 0.12, 0.109)),
}  # fmt: skip

PRESETS: dict[str, dict[str, float | None]] = {
    "none": {},
    "gopher": dict(_GOPHER),
    "c4": dict(_C4),
    # Penedo et al. 2024, section 3.6: Gopher, C4 without terminal punctuation, three filters of lines. Here not
    # "any curly bracket": wikis and legal text use them.
    "fineweb": {
        **_GOPHER, **_C4, "max_curly_share": 0.02, "min_sentences": None, "min_line_end_share": 0.12,
        "max_short_line_share": 0.67, "max_dup_line_char_share": 0.01, "max_newline_per_word": 0.3,
    },
    "fineweb2": dict(_FINEWEB2),
    # Bari et al. 2024 (ALLaM), data section: language confidence 95%, 30 words, "a high ratio of spam or stop words"
    # (no figure is given: these two are ours).
    "allam": {
        "min_language_confidence": 0.95, "min_words": 30, "max_furniture_share": 0.2, "max_stop_word_share": 0.65,
    },
    "fitra": {
        "long_text_words": 50, "many_lines": 4, "max_mojibake_share": 0.15, "max_ta_za_share": 0.25,
        "max_digit_share": 0.35, "min_mean_word_length": 2.5, "max_mean_word_length": 10, "max_long_word_share": 0.3,
        "min_alpha_word_share": 0.5, "max_single_letter_share": 0.15, "max_hash_to_word": 0.35,
        "max_ellipsis_to_word": 0.3, "max_javascript_share": 0.03, "max_lorem": 3, "max_curly_share": 0.03,
        "max_furniture_share": 0.15, "max_link_share": 0.6, "max_ellipsis_line_share": 0.7, "max_dup_line_share": 0.6,
        "max_dup_paragraph_share": 0.6, **_ngrams((0.25, 0.3, 0.3), (0.45, 0.43, 0.41, 0.4, 0.4, 0.4)),
        "min_unique_word_share": 0.08, "min_stop_word_share": 0.02,
        "list_short_line_share": 0.8, "list_stop_word_share": 0.1,
        "keyword_stop_word_share": 0.06, "keyword_line_end_share": 0.1,
        "formula_dup_5_gram_share": 0.3, "formula_unique_word_share": 0.18,
    },
}  # fmt: skip

_REFRAINS: dict[str, float | None] = {
    "max_repeated_line_share": 0.7, "max_dup_line_share": 0.8, "max_dup_paragraph_share": 0.8,
    **_ngrams((0.45, 0.5, 0.5), (0.65,) * 6), "formula_dup_5_gram_share": None,
}  # fmt: skip
_NO_LISTS: dict[str, float | None] = {"list_short_line_share": None}
# What each register may do that would be a fault elsewhere. Registers are labelled by a model and may be wrong, so no
# profile is much harsher than the default.
REGISTERS: dict[str, Overrides] = {
    "news": {"max_furniture_share": 0.1},
    "encyclopedia": {"max_digit_share": 0.4, "min_alpha_word_share": 0.45},
    "religious": {**_REFRAINS, **_NO_LISTS},
    "poetry": {**_REFRAINS, **_NO_LISTS, "min_stop_word_share": 0.01, "max_ellipsis_line_share": None},
    "classical": {**_NO_LISTS, "max_ellipsis_to_word": 0.5},
    "social": {**_NO_LISTS, "max_hash_to_word": 0.6, "max_symbol_share": 0.6, "max_ellipsis_line_share": None,
               "min_alpha_word_share": 0.4},
    "dialogue": {**_NO_LISTS, "max_ellipsis_line_share": None, "max_ellipsis_to_word": 0.6,
                 "max_repeated_line_share": 0.6},
    "legal": {"max_digit_share": 0.4, **_ngrams((0.3, 0.35, 0.35), (0.6,) * 6)},
    "web": {"max_furniture_share": 0.1, "max_link_share": 0.5, "min_stop_word_share": 0.03,
            **_ngrams((0.22, 0.25, 0.25), (0.4, 0.38, 0.36, 0.35, 0.35, 0.35))},
}  # fmt: skip

_FINEWEB2_KEYS = {
    "dup_line_frac": "max_dup_line_share",
    "language_score": "min_language_confidence",
    "line_punct_thr": "min_line_end_share",
    "new_line_ratio": "max_newline_per_word",
    "short_line_thr": "max_short_line_share",
    "char_duplicates_ratio": "max_dup_line_char_share",
    "min_avg_word_length": "min_mean_word_length",
    "max_avg_word_length": "max_mean_word_length",
    "max_non_alpha_words_ratio": "min_alpha_word_share",  # its name says the opposite of what it does
    "min_stop_words": "min_stop_words",
}


def read_fineweb2(path: Path) -> dict[str, Any]:
    """The keys of `Filters` that a FineWeb-2 `configs/{language}.yml` sets, on top of what its pipeline fixes.

    Raises FitraError for a missing file, bad YAML, a key that is not one of that format, or a value of another kind.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise FitraError(f"{path}: no such FineWeb-2 configuration.", "Give corpus.filters.fineweb2 a file.") from None
    except PermissionError:
        raise FitraError(f"{path}: not readable.", "Check its permissions.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise FitraError(f"{path}: not valid YAML: {str(e).splitlines()[0]}.", "Expected a configs/*.yml.") from None
    if not isinstance(raw, dict):
        raise FitraError(f"{path}: expected a mapping.", "For example 'dup_line_frac: 0.304'.")
    out: dict[str, Any] = dict(PRESETS["fineweb2"]) | {"max_ellipsis_to_word": 0.1, "max_hash_to_word": 0.1}
    for key, value in raw.items():
        try:
            if key in _FINEWEB2_KEYS:
                # -1 stands for "off" where a share must be reached.
                out[_FINEWEB2_KEYS[key]] = None if float(value) < 0 else float(value)
            elif key in ("top_n_grams", "dup_n_grams"):
                for n, share in value:
                    name = f"max_{key.split('_')[0]}_{int(n)}_gram_share"
                    if name not in Filters.model_fields:
                        raise FitraError(f"{path}: {key}: {n}-grams are not measured.", "top: 2-4, dup: 5-10.")
                    out[name] = float(share)
            elif key == "stopwords":
                if not isinstance(value, list):
                    raise TypeError
                out["stop_words"] = [str(w) for w in value]
            else:
                near = difflib.get_close_matches(str(key), [*_FINEWEB2_KEYS, "top_n_grams", "dup_n_grams", "stopwords"])
                raise FitraError(
                    f"{path}: unknown key '{key}'.", f"Did you mean '{near[0]}'?" if near else "Is it a FineWeb-2 file?"
                )
        except (TypeError, ValueError):
            raise FitraError(f"{path}: '{key}' has a value of another kind: {value!r}.", "Correct the file.") from None
    return out
