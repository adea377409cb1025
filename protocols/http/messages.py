"""What an HTTP message is once it has been read: heads, pieces of a body, ends. The same for HTTP/1.1 and HTTP/2.

Field names are in lower case, values are text decoded as Latin-1 without blanks around them. A head here is sound:
names are tokens, values hold no control characters; whoever makes one keeps it so. Framing (`content-length`,
`transfer-encoding`, `connection`) is not in `headers` of what a codec gives: it is said by `body_bytes`, and made anew
by the codec that sends.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Headers: TypeAlias = tuple[tuple[str, str], ...]


class RequestHead(msgspec.Struct, frozen=True):
    """target: as it came (origin, absolute, authority or asterisk form); for HTTP/2 `:path`.

    scheme, authority: HTTP/2's pseudo fields; for HTTP/1 the scheme of the connection and the Host field ("" when
    HTTP/1.0 has none). body_bytes: 0 no body, None chunked or not said before its end. expects_continue: the client
    waits for a 100. upgrade: the protocol that it wants to change to ("websocket"), in lower case.
    """

    method: str
    target: str
    scheme: str
    authority: str
    headers: Headers
    version: str = "1.1"
    body_bytes: int | None = 0
    expects_continue: bool = False
    upgrade: str = ""
    keep_alive: bool = True


class ResponseHead(msgspec.Struct, frozen=True):
    """body_bytes: None chunked, or until the connection ends. Statuses from 100 to 199 have neither body nor end."""

    status: int
    headers: Headers
    body_bytes: int | None = 0
    keep_alive: bool = True
    upgrade: str = ""


class Data(msgspec.Struct, frozen=True):
    """A piece of the body, never empty."""

    data: bytes


class MessageEnded(msgspec.Struct, frozen=True):
    trailers: Headers = ()


RequestEvent: TypeAlias = RequestHead | Data | MessageEnded
ResponseEvent: TypeAlias = ResponseHead | Data | MessageEnded

END = MessageEnded()
