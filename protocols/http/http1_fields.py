"""Field lines of HTTP/1 heads and trailers (RFC 9110 section 5, RFC 9112 sections 5 to 7): one strict reading of each.

Owns what a field line may look like, which fields say how a message is framed and which are of one hop only. A line
that any server is known to read in another way is refused, not repaired. Must never look at bodies. Called by the
readers of `http1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.messages import Headers

# A name is a token (RFC 9110, 5.6.2) with the colon straight behind it; a value is visible text, blanks, tabs and
# obs-text. Neither lets a CR, LF or NUL pass, so a lone CR or LF, a folded line and a blank before the colon all fail.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):([\t -~\x80-\xff]*+)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,18}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_PLAIN_NAME = re.compile(r"[0-9a-z-]+")
_ODD = re.compile(r"[^0-9a-z-]")
MAX_LENGTH = 2**63 - 1

# Lines that were read before on the same connection are not read again: clients repeat nearly all of theirs.
_KNOWN_LINES = 32
_KNOWN_LINE_BYTES = 2048

# What this module takes out of the headers and says in another form, or drops as the business of one hop.
_HANDLED = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
    }
    | {"expect", "http2-settings"}
)
# Removing one of these on the word of the peer would change what is meant: who asks, for what, of whom.
_NOT_REMOVABLE = frozenset(
    {"host", "authorization", "proxy-authorization", "cookie", "set-cookie", "content-length"}
    | {"transfer-encoding", "content-type", "content-encoding", "content-range", "range", "expect"}
    | {"date", "location", "proxyd-login", "x-api-key", "api-key", "cache-control", "forwarded"}
    | {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "www-authenticate"}
    | {"proxy-authenticate", "trailer", "origin", "referer", "accept-encoding", "if-match"}
    | {"if-none-match", "idempotency-key"}
)
# Read by many servers as their dashed twins (CGI, WSGI), so a stand-in for one of these is an attack, not a habit.
_NOT_IMITABLE = _HANDLED | _NOT_REMOVABLE
# What trailers may not say: it would have to be known before the body (RFC 9110, 6.5.1), or was judged with the head.
_NOT_TRAILERS = (
    _HANDLED | _NOT_REMOVABLE | frozenset({"max-forwards", "authentication-info", "age", "expires", "vary"})
)


class Fields(NamedTuple):
    """What the field lines of one head say. length: None when no Content-Length; chunked: Transfer-Encoding was."""

    headers: Headers
    host: str | None
    length: int | None
    chunked: bool
    close: bool
    keep_alive: bool
    upgrade: str
    expect: str


class FieldReader:
    """Reads the field lines of one connection in one direction. code: the status for what breaks the protocol."""

    __slots__ = ("_code", "_drops_odd_names", "_known", "_limit")

    def __init__(self, limit: int, code: str, *, drops_odd_names: bool) -> None:
        """limit: most fields of a head. drops_odd_names: leave out names that are not letters, digits and dashes.

        A server that turns names into variables reads `x_env` as `x-env`, so that a rule on one would miss the other.
        """
        self._limit = limit
        self._code = code
        self._drops_odd_names = drops_odd_names
        self._known: dict[bytes, tuple[str, str]] = {}

    def read(self, lines: list[bytes]) -> Fields:
        """The lines of a head behind its first, without their ends."""
        if len(lines) > self._limit:
            raise LimitExceeded(f"more than {self._limit} header fields", self._limit_code())
        headers: list[tuple[str, str]] = []
        handled: list[tuple[str, str]] = []
        known = self._known
        for line in lines:
            pair = known.get(line)
            if pair is None:
                pair = self._field(line)
            if pair[0] in _HANDLED:
                handled.append(pair)
            elif pair[0]:
                headers.append(pair)
        return self._sorted_out(headers, handled)

    def trailers(self, lines: list[bytes]) -> Headers:
        if len(lines) > self._limit:
            raise LimitExceeded(f"more than {self._limit} trailer fields", self._limit_code())
        trailers = []
        for line in lines:
            pair = self._field(line)
            if pair[0] in _NOT_TRAILERS:
                raise RemoteProtocolError(f"the field {pair[0]} may not stand in a trailer", self._code)
            if pair[0]:
                trailers.append(pair)
        return tuple(trailers)

    def _limit_code(self) -> str:
        return "431" if self._code == "400" else self._code

    def _field(self, line: bytes) -> tuple[str, str]:
        """Name and value; an empty name for a field that is left out."""
        match = _FIELD.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(_why_not(line), self._code)
        name = match[1].decode("ascii").lower()
        value = match[2].strip(b" \t").decode("latin-1")
        if self._drops_odd_names and not _PLAIN_NAME.fullmatch(name):
            twin = _ODD.sub("-", name)
            if twin in _NOT_IMITABLE:
                raise RemoteProtocolError(f"a header name that some servers take for {twin}", self._code)
            name = ""
        pair = (name, value)
        if len(line) <= _KNOWN_LINE_BYTES:
            if len(self._known) >= _KNOWN_LINES:
                self._known.clear()
            self._known[line] = pair
        return pair

    def _sorted_out(self, headers: list[tuple[str, str]], handled: list[tuple[str, str]]) -> Fields:
        host = length = coding = None
        upgrade = expect = ""
        options: set[str] = set()
        for name, value in handled:
            if name == "host":
                if host is not None:
                    raise RemoteProtocolError("more than one Host field", self._code)
                host = value
            elif name == "connection":
                self._add_options(options, value)
            elif name == "content-length":
                if length is not None:
                    raise RemoteProtocolError("more than one Content-Length field", self._code)
                length = self._length(value)
            elif name == "transfer-encoding":
                if coding is not None:
                    raise RemoteProtocolError("more than one Transfer-Encoding field", self._code)
                coding = value.lower()
            elif name == "te":
                if any(each.strip(" \t").lower() == "trailers" for each in value.split(",")):
                    headers.append(("te", "trailers"))
            elif name == "upgrade":
                if upgrade:
                    raise RemoteProtocolError("more than one Upgrade field", self._code)
                upgrade = value.lower()
            elif name == "expect":
                if expect:
                    raise RemoteProtocolError("more than one Expect field", self._code)
                expect = value.lower()
        if coding is not None:
            self._check_coding(coding, length)
        if "upgrade" not in options:
            upgrade = ""
        elif upgrade and not _PROTOCOL.fullmatch(upgrade) and self._code == "400":
            raise RemoteProtocolError("Upgrade has to name one protocol", self._code)
        if options:
            headers = self._without(headers, options)
        return Fields(
            tuple(headers),
            host,
            length,
            coding is not None,
            "close" in options,
            "keep-alive" in options,
            upgrade,
            expect,
        )

    def _length(self, value: str) -> int:
        if not _LENGTH.fullmatch(value) or (length := int(value)) > MAX_LENGTH:
            raise RemoteProtocolError("Content-Length is not a plain number below 2^63", self._code)
        return length

    def _check_coding(self, coding: str, length: int | None) -> None:
        if length is not None:
            raise RemoteProtocolError("both Content-Length and Transfer-Encoding", self._code)
        if coding != "chunked":
            code = "501" if self._code == "400" else self._code
            raise RemoteProtocolError("a Transfer-Encoding other than `chunked` alone", code)

    def _add_options(self, options: set[str], value: str) -> None:
        if value in ("keep-alive", "close"):  # nearly always
            options.add(value)
            return
        for each in value.split(","):
            option = each.strip(" \t").lower()
            if not option:
                continue
            if not _TOKEN.fullmatch(option):
                raise RemoteProtocolError("the Connection field is not a list of names", self._code)
            if option in _NOT_REMOVABLE:
                raise RemoteProtocolError(f"the Connection field may not name {option}", self._code)
            options.add(option)

    @staticmethod
    def _without(headers: list[tuple[str, str]], options: Iterable[str]) -> list[tuple[str, str]]:
        """Without the fields that Connection names. `TE: trailers` stays: it is what the next hop is told anew."""
        gone = {option for option in options if option not in ("keep-alive", "close", "te", "upgrade")}
        return [pair for pair in headers if pair[0] not in gone] if gone else headers


def _why_not(line: bytes) -> str:
    if line[:1] in (b" ", b"\t"):
        return "a folded header line"
    if b"\r" in line or b"\n" in line:
        return "a header line that ends in a bare CR or LF"
    name, colon, _ = line.partition(b":")
    if not colon:
        return "a header line without a colon"
    if not name:
        return "a header field without a name"
    if name[-1:] in (b" ", b"\t"):
        return "a blank between a header name and its colon"
    if not _TOKEN.fullmatch(name.decode("latin-1")):
        return "a header name that is not a token"
    return "a control character in a header value"
