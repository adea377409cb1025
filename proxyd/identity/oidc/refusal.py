"""A token that does not count, in the words for the log and in those for whoever sent it.

Owns the rule that neither ever quotes the token, its signature or a claim that is nobody's business: `reason` may
name the issuer, the fault and, of a signed token, whose it is; `text` says what, why and what to do next.
"""

from __future__ import annotations

GET_ANOTHER = "get a new one from your identity provider and try again"
ASK_OPERATORS = "ask the operators of the gateway"


class TokenRefused(Exception):
    """`reason`: a line for the log. `text`: a line for the client. `may_pass`: the same token may hold in a moment."""

    def __init__(self, reason: str, text: str, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.text = text
        self.may_pass = may_pass


def refused(what: str, next_step: str = GET_ANOTHER, *, reason: str = "") -> TokenRefused:
    """`what`: the fault as the end of "the token ..."."""
    return TokenRefused(reason or f"the token {what}", f"the token {what}: {next_step}")
