"""Field lines of HTTP/1 heads and trailers (RFC 9110 section 5, RFC 9112 sections 5 to 7): one strict reading of each.

Owns what a field line may look like, which fields say how a message is framed and which are of one hop only. A line
that any server is known to read in another way is refused, not repaired. Must never look at bodies. Called by the
readers of `http1`.
"""

from __future__ import annotations

import re

import msgspec

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.messages import Headers

# A name is a token (RFC 9110, 5.6.2) with the colon straight behind it; a value is visible text, blanks, tabs and
# obs-text. Neither lets a CR, LF or NUL pass, so a lone CR or LF, a folded line and a blank before the colon all fail.
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]++):([\t -~\x80-\xff]*+)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,18}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_PLAIN_NAME = re.compile(r"[0-9a-z-]+")
_ODD = re.compile(r"[^0-9a-z-]")
# In heads and trailers, however much of them is here: other controls, and line ends that are not CRLF.
NOT_IN_HEADS = re.compile(rb"[^\t\r\n -~\x80-\xff]|\r[^\n]|(?<!\r)\n")
MAX_LENGTH = 2**63 - 1

# A host as the name of a target, a certificate or an address may have it; IP literals in brackets; a port.
_HOST = re.compile(r"(?:[0-9A-Za-z](?:[0-9A-Za-z._-]*[0-9A-Za-z.])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

# Lines that were read before on the same connection are not read again: clients repeat nearly all of theirs.
_KNOWN_CHARACTERS = 16384  # of all of them together, whatever a client sends
_KNOWN_LINE_CHARACTERS = 4096

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
_OPTIONS_WITHOUT_FIELD = _HANDLED | {"close"}
# Read by many servers as their dashed twins (CGI, WSGI), so a stand-in for one of these is an attack, not a habit.
_NOT_IMITABLE = _HANDLED | _NOT_REMOVABLE
# What trailers may not say: it would have to be known before the body (RFC 9110, 6.5.1), or was judged with the head.
NOT_TRAILERS = (
    _HANDLED | _NOT_REMOVABLE | frozenset({"max-forwards", "authentication-info", "age", "expires", "vary"})
)


class Framing(msgspec.Struct, frozen=True):
    """What the field lines of one head say beside the headers.

    length: None when there is no Content-Length. is_chunked: there is a Transfer-Encoding. takes_trailers: TE says so.
    dropped: names of headers that are for this hop only, because Connection says so.
    """

    host: str | None = None
    length: int | None = None
    is_chunked: bool = False
    closes: bool = False
    keeps_alive: bool = False
    upgrade: str = ""
    expect: str = ""
    takes_trailers: bool = False
    dropped: frozenset[str] = frozenset()


class FieldReader:
    """Reads the field lines of one connection in one direction: requests ("400" for what is wrong) or responses."""

    __slots__ = (
        "_code",
        "_is_of_requests",
        "_known",
        "_known_characters",
        "_last_framing",
        "_last_handled",
        "_limit",
    )

    def __init__(self, limit: int, *, is_of_requests: bool) -> None:
        """limit: most fields of a head.

        In requests, names that are not letters, digits and dashes are left out: a server that turns names into
        variables reads `x_env` as `x-env`, so that a rule on one would miss the other.
        """
        self._limit = limit
        self._is_of_requests = is_of_requests
        self._code = "400" if is_of_requests else "502"
        self._known: dict[str, tuple[str, str]] = {}
        self._known_characters = 0
        self._last_handled: list[tuple[str, str]] = []
        self._last_framing = Framing()

    def read(self, lines: list[str]) -> tuple[Headers, Framing]:
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
        if handled == self._last_handled:
            framing = self._last_framing
        else:
            framing = self._last_framing = self._framing(handled)
            self._last_handled = handled
        if framing.dropped:
            headers = [pair for pair in headers if pair[0] not in framing.dropped]
        if framing.takes_trailers:
            headers.append(("te", "trailers"))
        return tuple(headers), framing

    def trailers(self, lines: list[str]) -> Headers:
        if len(lines) > self._limit:
            raise LimitExceeded(f"more than {self._limit} trailer fields", self._limit_code())
        trailers = []
        for line in lines:
            pair = self._field(line)
            if pair[0] in NOT_TRAILERS:
                raise RemoteProtocolError(f"the field {pair[0]} may not stand in a trailer", self._code)
            if pair[0]:
                trailers.append(pair)
        return tuple(trailers)

    def _limit_code(self) -> str:
        return "431" if self._is_of_requests else self._code

    def _field(self, line: str) -> tuple[str, str]:
        """Name and value; an empty name for a field that is left out."""
        match = _FIELD.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(_why_not(line), self._code)
        name = match[1].lower()
        if self._is_of_requests and not _PLAIN_NAME.fullmatch(name):
            twin = _ODD.sub("-", name)
            if twin in _NOT_IMITABLE:
                raise RemoteProtocolError(f"a header name that some servers take for {twin}", self._code)
            name = ""
        pair = (name, match[2].strip(" \t"))
        if len(line) <= _KNOWN_LINE_CHARACTERS:
            self._known_characters += len(line)
            if self._known_characters > _KNOWN_CHARACTERS:
                self._known.clear()
                self._known_characters = len(line)
            self._known[line] = pair
        return pair

    def _framing(self, handled: list[tuple[str, str]]) -> Framing:
        host = length = coding = upgrade = expect = None
        takes_trailers = False
        options: set[str] = set()
        for name, value in handled:
            if name == "host":
                host = self._only(host, value, "Host")
            elif name == "connection":
                self._add_options(options, value)
            elif name == "content-length":
                length = self._only(length, value, "Content-Length")
            elif name == "transfer-encoding":
                coding = self._only(coding, value.lower(), "Transfer-Encoding")
            elif name == "te":
                takes_trailers |= any(each.strip(" \t").lower() == "trailers" for each in value.split(","))
            elif name == "upgrade":
                upgrade = (
                    self._only(upgrade, value.lower(), "Upgrade") if self._is_of_requests else value.lower()
                )
            elif name == "expect":
                expect = self._only(expect, value.lower(), "Expect")
        if self._is_of_requests and host is not None and not _HOST.fullmatch(host):
            raise RemoteProtocolError("a Host field that is not the name of a host", self._code)
        if coding is not None:
            self._check_coding(coding, length)
        if "upgrade" not in options:
            upgrade = None
        elif upgrade and self._is_of_requests and not _PROTOCOL.fullmatch(upgrade):
            raise RemoteProtocolError("Upgrade has to name one protocol", self._code)
        return Framing(
            host,
            None if length is None else self._length(length),
            coding is not None,
            "close" in options,
            "keep-alive" in options,
            upgrade or "",
            expect or "",
            takes_trailers,
            # The next hop is told of TE and of an upgrade anew.
            frozenset(options - _OPTIONS_WITHOUT_FIELD),
        )

    def _only(self, seen: str | None, value: str, name: str) -> str:
        if seen is not None:
            raise RemoteProtocolError(f"more than one {name} field", self._code)
        return value

    def _length(self, value: str) -> int:
        if not _LENGTH.fullmatch(value) or (length := int(value)) > MAX_LENGTH:
            raise RemoteProtocolError("Content-Length is not a plain number below 2^63", self._code)
        return length

    def _check_coding(self, coding: str, length: str | None) -> None:
        if length is not None:
            raise RemoteProtocolError("both Content-Length and Transfer-Encoding", self._code)
        if coding != "chunked":
            code = "501" if self._is_of_requests else self._code
            raise RemoteProtocolError("a Transfer-Encoding other than `chunked` alone", code)

    def _add_options(self, options: set[str], value: str) -> None:
        for each in value.split(","):
            option = each.strip(" \t").lower()
            if not option:
                continue
            if not _TOKEN.fullmatch(option):
                raise RemoteProtocolError("the Connection field is not a list of names", self._code)
            if option in _NOT_REMOVABLE:
                raise RemoteProtocolError(f"the Connection field may not name {option}", self._code)
            options.add(option)


def _why_not(line: str) -> str:
    if line[:1] in (" ", "\t"):
        return "a folded header line"
    if "\r" in line or "\n" in line:
        return "a header line that ends in a bare CR or LF"
    name, colon, _ = line.partition(":")
    if not colon:
        return "a header line without a colon"
    if not name:
        return "a header field without a name"
    if name[-1:] in (" ", "\t"):
        return "a blank between a header name and its colon"
    if not _TOKEN.fullmatch(name):
        return "a header name that is not a token"
    return "a control character in a header value"
