"""Heads of HTTP/2: lists of fields from the wire to messages, and back.

Heads get the shape that HTTP/1.1 has too, and hold nothing that a later hop could read otherwise. So does a change of
protocol: the extended CONNECT of RFC 8441 is a GET with `upgrade` here, and the success that answers it a 101, whatever
version either side speaks. Called by `http2`. Raises MalformedHead for what comes, LocalProtocolError for what goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from protocols.errors import LocalProtocolError
from protocols.http.http1_fields import NOT_TRAILERS
from protocols.http.messages import Headers, RequestHead, ResponseHead

RawFields: TypeAlias = Iterable[tuple[bytes, bytes]]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9113, 8.2.2: these belong to HTTP/1.1's connections. h2 refuses the others of them itself.
_CONNECTION_FIELDS: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
_GUARDED_FIELDS: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "authorization", "proxy-authorization", "cookie"),
        *("x-api-key", "api-key", "content-type", "content-encoding", "connection", "upgrade", "expect"),
    }
)
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")  # as in HTTP/1.1 here
_ODD_NAME = re.compile(r"[^a-z0-9-]")
_STATUS = re.compile(r"[1-5][0-9]{2}")
_NUMBER = re.compile(r"[0-9]{1,19}")
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class HeadLimits(msgspec.Struct, frozen=True):
    """Bytes of one head and of the target in it, and how many fields it has."""

    head_bytes: int = 65536
    target_bytes: int = 16384  # as in HTTP/1.1 here
    fields: int = 128


class MalformedHead(Exception):
    """A message of one stream is not what it should be; the connection is sound."""


# From the wire


def read_request(raw: RawFields, *, scheme: str, limits: HeadLimits, is_ended: bool) -> RequestHead:
    """`scheme`: the connection's, for a CONNECT, which has none. `is_ended`: nothing follows."""
    pseudo, headers = _split(raw, limits, is_request=True)
    method, authority = pseudo.get(":method", ""), pseudo.get(":authority", "")
    if len(pseudo.get(":path", "")) > limits.target_bytes:
        raise MalformedHead(f"a target of more than {limits.target_bytes} bytes")
    if _METHOD.fullmatch(method) is None:
        raise MalformedHead("a method that is not in upper case")
    if pseudo.get(":scheme", scheme) not in ("http", "https"):
        raise MalformedHead("a scheme that is neither http nor https")
    length, headers = _length(headers)
    host = [value for name, value in headers if name == "host"]
    if host:
        if len(host) > 1 or (authority and host[0] != authority):
            raise MalformedHead("Host and :authority differ")
        authority = host[0]
        headers = tuple([field for field in headers if field[0] != "host"])
    if is_ended and length not in (None, 0):
        raise MalformedHead("a length, and no body")
    upgrade = ""
    if method == "CONNECT":
        if is_ended or length is not None:
            raise MalformedHead("a CONNECT with a length, or one that has ended")
        length = 0
    if ":protocol" in pseudo:
        upgrade = pseudo[":protocol"].lower()
        if method != "CONNECT" or _TOKEN.fullmatch(upgrade) is None:
            raise MalformedHead("a protocol without CONNECT, or one that is no name")
        method = "GET"
    expects = length != 0 and any(
        name == "expect" and value.lower() == "100-continue" for name, value in headers
    )
    return RequestHead(
        method,
        pseudo.get(":path", ""),
        pseudo.get(":scheme", scheme),
        authority,
        tuple([field for field in headers if field[0] != "expect"]),
        "2",
        0 if is_ended else length,
        expects,
        upgrade,
    )


def read_response(raw: RawFields, *, limits: HeadLimits, is_ended: bool, upgrade: str = "") -> ResponseHead:
    """`upgrade`: the protocol that was asked for by an extended CONNECT."""
    pseudo, headers = _split(raw, limits, is_request=False)
    status = pseudo.get(":status", "")
    if _STATUS.fullmatch(status) is None:
        raise MalformedHead("a status that is none")
    if status == "101":
        raise MalformedHead("a change of protocol, which HTTP/2 does not know")
    length, headers = _length(headers)
    if upgrade and status[0] == "2":
        return ResponseHead(101, headers, upgrade=upgrade)
    if status[0] == "1" and length:
        raise MalformedHead("an interim response with a body")
    # With its head alone come the answers to HEAD and 304s too: they say what the body would have been.
    return ResponseHead(int(status), headers, 0 if is_ended and length is None else length)


def read_trailers(raw: RawFields, *, limits: HeadLimits, is_request: bool) -> Headers:
    pseudo, headers = _split(raw, limits, is_request=is_request)
    if pseudo:
        raise MalformedHead("a pseudo field among the trailers")
    for name, _ in headers:
        if name in NOT_TRAILERS:
            raise MalformedHead(f"the field {name}, which may not stand in a trailer")
    return headers


def _split(raw: RawFields, limits: HeadLimits, *, is_request: bool) -> tuple[dict[str, str], Headers]:
    pseudo: dict[str, str] = {}
    headers: list[tuple[str, str]] = []
    cookies: list[str] = []
    size = 0
    for raw_name, raw_value in raw:
        size += len(raw_name) + len(raw_value)
        if size > limits.head_bytes:
            raise MalformedHead(f"a head of more than {limits.head_bytes} bytes")
        name, value = bytes(raw_name).decode("latin-1"), bytes(raw_value).decode("latin-1").strip(" \t")
        if _BAD_VALUE.search(value) is not None:
            raise MalformedHead("a control character in a field")
        if name.startswith(":"):
            pseudo[name] = value
        elif _TOKEN.fullmatch(name) is None or name in _CONNECTION_FIELDS:
            raise MalformedHead("a field that does not belong in HTTP/2")
        elif is_request and _ODD_NAME.search(name) is not None:
            # As in HTTP/1.1 here: CGI and its heirs would take `content_type` for `content-type`.
            if _ODD_NAME.sub("-", name) in _GUARDED_FIELDS:
                raise MalformedHead("a field whose name looks like another one's")
        elif name == "cookie":
            cookies.append(value)  # RFC 9113, 8.2.3: in pieces here, one field everywhere else
        else:
            headers.append((name, value))
    if len(headers) + len(cookies) > limits.fields:
        raise MalformedHead(f"more than {limits.fields} fields")
    if cookies:
        headers.append(("cookie", "; ".join(cookies)))
    return pseudo, tuple(headers)


def _length(headers: Headers) -> tuple[int | None, Headers]:
    found = [value for name, value in headers if name == "content-length"]
    if not found:
        return None, headers
    if len(found) > 1 or _NUMBER.fullmatch(found[0]) is None:
        raise MalformedHead("a length that is no number, or several")
    return int(found[0]), tuple([field for field in headers if field[0] != "content-length"])


# To the wire


def request_fields(head: RequestHead, *, ends: bool) -> list[tuple[bytes, bytes]]:
    """`target` and `authority` of the head go out as they are."""
    fields = [
        (":method", "CONNECT" if head.upgrade else head.method),
        (":scheme", head.scheme),
        (":authority", head.authority),
        (":path", head.target),
    ]
    if head.upgrade:
        fields.append((":protocol", head.upgrade))
    fields.extend(head.headers)
    length = head.body_bytes
    if length is not None and not head.upgrade and (length or (ends and head.method in _WITH_BODY)):
        fields.append(("content-length", str(length)))
    return _encoded(fields)


def response_fields(head: ResponseHead) -> list[tuple[bytes, bytes]]:
    fields = [(":status", "200" if head.upgrade else str(head.status)), *head.headers]
    if head.body_bytes and not head.upgrade:
        fields.append(("content-length", str(head.body_bytes)))
    return _encoded(fields)


def trailer_fields(trailers: Headers) -> list[tuple[bytes, bytes]]:
    return _encoded(trailers)


def _encoded(fields: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"HTTP/2: {error}"[:300]) from error
