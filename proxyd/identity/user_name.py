"""The user name of an SSH client, taken apart: `LOGIN+TARGET`, or a login alone.

The one place where this name is read, before anybody is known. It comes from strangers, and later stands in logs, paths
of tapes and messages; so it is refused, not repaired, when it holds anything that a name of ours cannot hold. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_USER_NAME_BYTES: Final = 256
SEPARATOR: Final = "+"

_SHOWN_CHARS: Final = 64
_LOGIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,127}")
_TARGET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class UserNameError(ValueError):
    """The user name cannot be read. The text is bounded, printable and fit for the log and for the client."""


@dataclass(frozen=True, slots=True)
class UserName:
    """`login`: the account on the target. `target`: the name of the target; None where none was given."""

    login: str
    target: str | None = None

    def __str__(self) -> str:
        return self.login if self.target is None else f"{self.login}{SEPARATOR}{self.target}"


def parse_user_name(text: str) -> UserName:
    """Raises UserNameError: what is wrong, "; " and what to write instead."""
    if len(text) > MAX_USER_NAME_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_USER_NAME_BYTES:
        raise UserNameError(f"the user name is longer than {MAX_USER_NAME_BYTES} bytes; write LOGIN+TARGET")
    login, plus, target = text.partition(SEPARATOR)
    if SEPARATOR in target:
        raise UserNameError(f"the user name {_shown(text)} has more than one `+`; write LOGIN+TARGET")
    if plus and not _is_name(_TARGET, target):
        raise UserNameError(f"{_shown(target)} is not the name of a target; {_ALLOWED}")
    if not _is_name(_LOGIN, login):
        raise UserNameError(f"{_shown(login)} is not a login; {_ALLOWED}")
    return UserName(login, target if plus else None)


_ALLOWED: Final = "use letters, digits, `.`, `_` and `-`, as in LOGIN+TARGET"


def _is_name(form: re.Pattern[str], part: str) -> bool:
    # Two dots climb out of a directory wherever a name becomes part of a path.
    return form.fullmatch(part) is not None and ".." not in part


def _shown(value: str) -> str:
    return ascii(value[:_SHOWN_CHARS])
