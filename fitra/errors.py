"""The one exception that users see: what went wrong, where, and what to do about it."""

from __future__ import annotations


class FitraError(Exception):
    """An error with a cause the user can act on; the command line prints it in one line, without a traceback.

    `message` names the file, row or recipe line and what was expected; `hint` says what to do.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())
