"""A token typed at an SSH prompt, which may come in pieces.

Owns the questions and putting the answers together. Says nothing of whether a token holds. Pure. Called by
`proxyd.identity.ssh`.

OpenSSH's client reads at most 1,023 characters of an answer, from a terminal or from SSH_ASKPASS (readpass.c: a buffer
of 1,024), and drops the rest without a word; tokens are often longer. So an answer of just that length is asked on,
with the place where to go on in the question, where a program that answers it can read it.
"""

from __future__ import annotations

from typing import Final

from proxyd.identity.oidc.token import MAX_TOKEN_BYTES

PIECE_CHARS: Final = 1023
FIRST_QUESTION: Final = "Token: "


class TokenAnswer:
    """One token that is being typed. `text`: what has come of it."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = ""

    @property
    def question(self) -> str:
        return f"Token, from character {len(self.text) + 1} on: " if self.text else FIRST_QUESTION

    def add(self, answer: str) -> bool:
        """True when more has to be asked for."""
        self.text += answer
        return len(answer) == PIECE_CHARS and len(self.text) <= MAX_TOKEN_BYTES
