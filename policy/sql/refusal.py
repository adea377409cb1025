"""The one exception of the SQL analysis: a text that is not passed on, with the words of the answer."""

from __future__ import annotations

SYNTAX_ERROR = "42601"
FEATURE_NOT_SUPPORTED = "0A000"
STATEMENT_TOO_COMPLEX = "54001"
PROGRAM_LIMIT_EXCEEDED = "54000"


class SqlRefused(Exception):
    """`message`, `sqlstate`, `detail` and `hint` as an ErrorResponse carries them.

    position: 1-based, in characters of the whole text; None when there is none.
    is_servers_answer: the target would give the same error (a syntax error, an unknown prepared statement).
    """

    def __init__(
        self,
        message: str,
        sqlstate: str = FEATURE_NOT_SUPPORTED,
        position: int | None = None,
        *,
        detail: str = "",
        hint: str = "",
        is_servers_answer: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.position = position
        self.detail = detail
        self.hint = hint
        self.is_servers_answer = is_servers_answer


def unknown_construct(what: str) -> SqlRefused:
    """A node, enum value or option that the classifier has no rule for."""
    return SqlRefused(
        f"proxyd does not know {what}",
        FEATURE_NOT_SUPPORTED,
        detail="A statement is passed on only when every part of it is understood.",
    )
