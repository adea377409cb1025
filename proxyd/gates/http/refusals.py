"""Why a request is not passed on, and the answer that says so in words its client shows.

`application/problem+json` (RFC 9457) as a rule; the error shape of a model's provider where its SDK expects one; a
status of gRPC for gRPC. Built by the other gates and by `http_exchange`, which sends it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final
from urllib.parse import quote

import msgspec

from policy.decision import Decision, Effect
from protocols.http.messages import Headers, ResponseHead
from protocols.http.problem import problem

GRPC: Final = "application/grpc"
MAX_TEXT_CHARACTERS: Final = 2000

_TITLES: Final = {
    400: "The request cannot be understood",
    401: "The gateway does not know who asks",
    403: "The policy does not allow this request",
    404: "There is no such place at the gateway",
    405: "The gateway does not take this method here",
    407: "The gateway does not know who asks",
    408: "The request took too long",
    411: "The length of the body is needed",
    413: "The body is too large",
    414: "The address is too long",
    415: "The body is of a type that cannot be judged",
    417: "The expectation cannot be met",
    421: "This connection is for another host",
    426: "Another protocol is needed",
    429: "A limit is reached",
    431: "The header fields are too large",
    500: "The gateway has failed",
    501: "The gateway does not do this",
    502: "The target cannot be asked, or its answer cannot be passed on",
    503: "The gateway cannot take the request now",
    504: "The target did not answer in time",
    505: "The gateway does not speak this version of HTTP",
}
# What to do next, where nothing more particular is known.
_NEXT: Final = {
    400: "Send the request in its plain form: one length, one host, a path without dots and encoded slashes.",
    408: "Send and read without long pauses, or ask the operators of the gateway for longer `timeouts`.",
    414: "Send less in the address.",
    417: "Leave the field out.",
    431: "Send less in the head; cookies are the usual reason.",
    501: "Use another method.",
    505: "Use HTTP/1.1 or HTTP/2.",
}
# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
_GRPC_STATUS: Final = {401: 16, 403: 7, 404: 12, 413: 8, 429: 8, 502: 14, 503: 14, 504: 4}


class Kind(Enum):
    """What a refusal counts as."""

    DENIED = "denied"  # by the policy
    HELD = "held"  # an approval is needed
    UNKNOWN = "unknown"  # who asks is not known
    NOT_ADMITTED = "not_admitted"
    PROTOCOL = "protocol"  # the request is not what HTTP allows
    TARGET = "target"
    LIMIT = "limit"
    INTERNAL = "internal"


class Refusal(Exception):
    """`detail`, `hint` and `rule` are for the client, `reason` for the log. `closes`: the connection cannot go on."""

    def __init__(
        self,
        status: int,
        kind: Kind,
        detail: str,
        *,
        hint: str = "",
        rule: str = "",
        reason: str = "",
        headers: Headers = (),
        closes: bool = False,
        body: tuple[str, bytes] | None = None,
    ) -> None:
        super().__init__(reason or detail)
        self.status = status
        self.kind = kind
        self.detail = detail[:MAX_TEXT_CHARACTERS]
        self.hint = hint[:MAX_TEXT_CHARACTERS]
        self.rule = rule
        self.reason = reason or detail
        self.headers = headers
        self.closes = closes
        self.body = body


class Answer(msgspec.Struct, frozen=True):
    head: ResponseHead
    body: bytes
    trailers: Headers = ()


def denied(decision: Decision) -> Refusal:
    """What a decision that is no ALLOW says to the client."""
    reasons = decision.reasons
    first, *others = [_sentence(reason.message) for reason in reasons] or ["No rule allows this request."]
    detail = " ".join((first, *(text[:1].upper() + text[1:] for text in others)))
    hints = dict.fromkeys(_sentence(reason.hint) for reason in reasons if reason.hint)
    rule = next((reason.rule for reason in reasons if reason.rule), "")
    is_held = decision.effect is Effect.HOLD
    return Refusal(
        403,
        Kind.HELD if is_held else Kind.DENIED,
        detail,
        hint=" ".join(hints),
        rule=rule,
        reason=f"{'held' if is_held else 'denied'}: {detail}",
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."


def answer(refusal: Refusal, *, is_grpc: bool = False) -> Answer:
    """The message that the client gets."""
    hint = refusal.hint or _NEXT.get(refusal.status, "")
    if is_grpc:
        return _grpc_answer(refusal)
    if refusal.body is not None:
        content_type, body = refusal.body
    else:
        content_type = "application/problem+json"
        title = _TITLES.get(refusal.status, "The gateway refuses this request")
        if refusal.kind is Kind.HELD:
            title = "The request needs an approval"
        body = problem(refusal.status, title, refusal.detail, refusal.rule, hint)
    headers = (("content-type", content_type), ("cache-control", "no-store"), *refusal.headers)
    return Answer(ResponseHead(refusal.status, headers, len(body), keep_alive=not refusal.closes), body)


def _grpc_answer(refusal: Refusal) -> Answer:
    """A response of trailers alone, which is a head with the status in it."""
    text = f"proxyd: {refusal.detail}" + (f" {refusal.hint}" if refusal.hint else "")
    status = _GRPC_STATUS.get(refusal.status, 13)
    headers = (
        ("content-type", GRPC),
        ("grpc-status", str(status)),
        ("grpc-message", quote(text[:1000], safe=" !\"#$&'()*+,-./:;<=>?@[]^_`{|}~")),
    )
    return Answer(ResponseHead(200, headers, 0), b"")
