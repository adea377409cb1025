"""The fields with which a WebSocket begins, on either side of the gateway and in either version of HTTP.

HTTP/1.1 has a key, and an answer that proves it was read (RFC 6455, 4); HTTP/2 has neither (RFC 8441, 5). So each hop
has its own, and the client's goes no further. Extensions end here: without them every frame is what it says. Called by
`http_judging`, `http_forwarding` and `http_answering`; pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

import msgspec

from protocols.http.messages import Headers, RequestHead, ResponseHead
from proxyd.gates.http.refusals import Kind, Refusal

WEBSOCKET: Final = "websocket"
KEY: Final = "sec-websocket-key"
ACCEPT: Final = "sec-websocket-accept"
KEY_BYTES: Final = 16
OF_ONE_HOP: Final = frozenset({KEY, ACCEPT, "sec-websocket-extensions"})
_SUFFIX: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def refuse_unknown(head: RequestHead) -> None:
    """An extended CONNECT for something else than WebSocket (RFC 9220, 3). Raises Refusal."""
    if head.version == "2" and head.upgrade not in ("", WEBSOCKET):
        raise Refusal(
            501,
            Kind.PROTOCOL,
            f"The gateway does not know the protocol {head.upgrade[:64]!r}.",
            hint="Over CONNECT with a protocol only `websocket` is spoken here.",
        )


def client_key(head: RequestHead) -> str:
    """What the client wants an answer to. Raises Refusal.

    Over HTTP/2 there is none (""), but some clients send one all the same, and wait for the answer (urllib3-future).
    """
    found = [value for name, value in head.headers if name == KEY]
    try:
        is_sound = len(found) == 1 and len(base64.b64decode(found[0], validate=True)) == KEY_BYTES
    except (binascii.Error, ValueError):
        is_sound = False
    if not is_sound and head.version == "2":
        return ""
    if not is_sound:
        raise Refusal(
            400,
            Kind.PROTOCOL,
            "A WebSocket needs the field Sec-WebSocket-Key, once, with 16 bytes in base64.",
            hint="Use a client for WebSockets.",
        )
    return found[0]


def new_key(noise: bytes) -> str:
    """For the way to a target over HTTP/1.1. `noise`: KEY_BYTES at random."""
    return base64.b64encode(noise).decode()


def with_key(head: RequestHead, key: str) -> RequestHead:
    return msgspec.structs.replace(head, headers=(*head.headers, (KEY, key)))


def answer_to(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _SUFFIX, usedforsecurity=False).digest()).decode()


def changed(head: ResponseHead, headers: Headers, sent_key: str, client_key: str) -> ResponseHead:
    """The 101 of a target as the client gets it.

    `headers`: those of its fields that the client may have. `sent_key`: what the target was sent, "" over HTTP/2.
    `client_key`: what the client has sent. Raises Refusal when the target has not read the key, and so may not know
    that it speaks WebSocket.
    """
    if sent_key and [value for name, value in head.headers if name == ACCEPT] != [answer_to(sent_key)]:
        raise not_changed("the answer to the key of the WebSocket is wrong")
    kept: Headers = tuple([field for field in headers if field[0] not in OF_ONE_HOP])
    if client_key:
        kept = (*kept, (ACCEPT, answer_to(client_key)))
    return ResponseHead(101, kept, 0, upgrade=head.upgrade)


def refuse_unchanged(asked: RequestHead, answer: ResponseHead) -> None:
    """Over HTTP/2 a client would take any success for the change of protocol. Raises Refusal."""
    if asked.upgrade and asked.version == "2" and 200 <= answer.status < 300:
        raise not_changed(f"status {answer.status} for an upgrade")


def not_changed(why: str) -> Refusal:
    return Refusal(
        502,
        Kind.TARGET,
        "The target has not changed to WebSocket, though it says that all is well.",
        hint="Ask it without the upgrade, or tell its operators.",
        reason=f"target: {why}",
    )
