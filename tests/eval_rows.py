"""Two worked examples and one question per benchmark, made up, with what a prompt could trip over: white space at the
edges, braces, a passage, options that end early, a subject with a name of its own."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def mcq(split: str, subject: str, n: int, question: str, answer: str) -> Row:
    options = {k: f"خيار {k}{n} " for k in "ABCD"}
    return {
        "split": split,
        "subject": subject,
        "idx": n,
        "id": f"{subject}-{n}",
        "question": question,
        **options,
        "answer": answer,
    }


def exams() -> list[Row]:
    return [
        mcq("dev", "Islamic Studies", 1, "ما الأول؟ ", "B"),
        mcq("dev", "Islamic Studies", 2, "ما الثاني؟", "D"),
        mcq("test", "Islamic Studies", 3, " ما {question} الثالث؟ ", "A"),
    ]


def mmlu() -> list[Row]:
    return [{**r, "subject": "high_school_us_history"} for r in exams()]


def acva() -> list[Row]:
    def row(split: str, n: int, question: str, label: bool) -> Row:
        return {
            "id": f"Arabic Math-{n}",
            "category": "Arabic Math",
            "split": split,
            "question": question,
            "label": label,
        }

    return [row("dev", 1, "الأولى. ", True), row("dev", 2, "الثانية.", False), row("test", 3, " الثالثة {0}.", True)]


def arabicmmlu() -> list[Row]:
    def row(n: int, shot: str, options: int, **more: Any) -> Row:
        given = {f"option_{k}": f"خيار {k}" if k <= options else None for k in range(1, 6)}
        base = {"id": str(n), "country": "Egypt", "subject": "Political Science", "level": "Univ", "context": None}
        return {**base, "question": f"السؤال {n}؟", "answer_key": "B", "is_few_shot": shot, **given, **more}

    return [
        row(1, "1", 2), row(2, "1", 4),
        row(3, "0", 5, context="نص\nمن سطرين."),
        row(4, "0", 3, subject="Arabic Language (General)", level=None, country=None),
    ]  # fmt: skip


def aratrust() -> list[Row]:
    options = {"A": "أ) نعم", "B": "ب) لا", "C": "ج) لا أدري"}
    return [{"category": "Ethics", "question": "هل الصدق واجب؟", **options, "answer": "أ"}]


def boolq() -> list[Row]:
    return [{"passage": "القاهرة عاصمة مصر.", "question": "هل القاهرة عاصمة مصر؟", "answer": True}]


def arc() -> list[Row]:
    return [{"query": "ما الذي يغلي؟", "sol1": "الماء", "sol2": "الحجر", "sol3": "الخشب", "sol4": "", "label": "0"}]


def xquad() -> list[Row]:
    return [
        {
            "id": "x1", "context_ar": " نص قصير عن 308 نقطة. ", "question_ar": "كم نقطة؟", "answer_ar": "308",
            "context_en": "A short text on 308 points.", "question_en": "How many points?", "answer_en": "308",
        }
    ]  # fmt: skip


def arcd() -> list[Row]:
    def row(split: str, n: int) -> Row:
        context = f"ولد الكاتب {n} في المدينة."
        return {"split": split, "id": str(n), "context": context, "question": " - أين ولد؟ ", "answer": "في المدينة"}

    return [row("train", 1), row("train", 2), row("test", 3)]


def own() -> list[Row]:
    return [{"question": " ما اللون؟", "A": "أحمر", "B": "أزرق", "C": "أخضر", "answer": "ج"}]


def yesno() -> list[Row]:
    return [{"question": "السماء فوقنا.", "label": "صح"}]


ROWS = {
    "acva": acva, "arabicmmlu": arabicmmlu, "aratrust": aratrust, "arc_ar": arc, "arcd": arcd, "boolq_ar": boolq,
    "exams": exams, "mcq": own, "mmlu_ar": mmlu, "mmlu_en": mmlu, "xquad_ar": xquad, "xquad_en": xquad,
    "yesno": yesno,
}  # fmt: skip
