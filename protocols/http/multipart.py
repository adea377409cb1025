"""Multipart bodies (RFC 2046, 5.1; RFC 7578): taken apart into the heads and contents of their parts as they stream.

Owns boundaries and the fields of a part's head. Strict: one reading of each head, no text before the first boundary or
behind the last. Contents stream; what is held is a head (bounded) or what may be the beginning of a boundary. Called by
the masking of bodies. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from protocols.errors import LimitExceeded, RemoteProtocolError

MAX_HEAD_BYTES = 16 * 1024

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,127}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_PARAMETER = re.compile(
    r"""[ \t]*;[ \t]*([!#$%&'+.^_`|~0-9A-Za-z-]+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,\\]*))[ \t]*""", re.ASCII
)


@dataclass(frozen=True, slots=True)
class PartHead:
    """raw: as it came, with the blank line that ends it. fields: names in lower case."""

    raw: bytes
    fields: dict[str, str]

    @property
    def disposition(self) -> tuple[str, dict[str, str]]:
        """Its kind in lower case, and its parameters. Raises RemoteProtocolError."""
        text = self.fields.get("content-disposition", "")
        kind, semicolon, _ = text.partition(";")
        parameters: dict[str, str] = {}
        position = len(kind) if semicolon else len(text)
        while position < len(text):
            found = _PARAMETER.match(text, position)
            if found is None:
                raise RemoteProtocolError("a part whose disposition cannot be read")
            name = found[1].lower().removesuffix("*")  # `name*=` and `name=` together are two names
            if name in parameters or (name == "name" and found[1].endswith("*")):
                raise RemoteProtocolError("a part with two names")
            parameters[name] = found[3] if found[2] is None else re.sub(r"\\(.)", r"\1", found[2])
            position = found.end()
        return kind.strip().lower(), parameters


@dataclass(frozen=True, slots=True)
class PartContent:
    data: bytes


class PartEnded(Enum):
    """A part has ended: another follows, or it was the last."""

    MORE = auto()
    LAST = auto()


PartEvent: TypeAlias = PartHead | PartContent | PartEnded


class _At(Enum):
    START = auto()
    HEAD = auto()
    CONTENT = auto()
    END = auto()


class PartReader:
    """Bytes in, events out. The body is `start`, then each part's head and content and `between` or `end`; behind the
    last, content is blanks.
    """

    def __init__(self, boundary: str) -> None:
        """Raises RemoteProtocolError."""
        if _BOUNDARY.fullmatch(boundary) is None:
            raise RemoteProtocolError("a multipart body without a boundary that can be")
        line = b"--" + boundary.encode()
        self.start = line + b"\r\n"
        self.between = b"\r\n" + line + b"\r\n"
        self.end = b"\r\n" + line + b"--"
        self._line = line
        self._mark = b"\r\n" + line
        self._buffer = b""
        self._at = _At.START

    def feed(self, data: bytes) -> Iterator[PartEvent]:
        """Raises RemoteProtocolError."""
        self._buffer += data
        while True:
            match self._at:
                case _At.START:
                    if not self._begin():
                        return
                case _At.HEAD:
                    head = self._head()
                    if head is None:
                        return
                    yield head
                case _At.CONTENT:
                    content, ended = self._content()
                    if content:
                        yield PartContent(content)
                    if ended is None:
                        return
                    yield ended
                case _At.END:
                    rest, self._buffer = self._buffer, b""
                    if rest.strip(b" \t\r\n"):
                        raise RemoteProtocolError("a multipart body with something behind its end")
                    if rest:
                        yield PartContent(rest)
                    return

    def finish(self) -> None:
        """Raises RemoteProtocolError."""
        if self._at is not _At.END and not (self._at is _At.START and not self._buffer):
            raise RemoteProtocolError("a multipart body that ends too early")

    def _begin(self) -> bool:
        """The first boundary. False when it has not come yet."""
        if self._buffer[:2] == b"\r\n":  # some send an empty line first
            self._buffer = self._buffer[2:]
        if len(self._buffer) < len(self._line) + 2:
            if not (self._line + b"--").startswith(self._buffer) and not self.start.startswith(self._buffer):
                raise RemoteProtocolError("a multipart body that does not begin with its boundary")
            return False
        if self._buffer.startswith(self.start):
            self._buffer = self._buffer[len(self.start) :]
            self._at = _At.HEAD
            return True
        raise RemoteProtocolError("a multipart body that does not begin with a part")

    def _head(self) -> PartHead | None:
        if self._buffer.startswith(b"\r\n"):
            end = 2
        else:
            found = self._buffer.find(b"\r\n\r\n")
            if found < 0 or found > MAX_HEAD_BYTES:
                if len(self._buffer) > MAX_HEAD_BYTES:
                    raise LimitExceeded(f"a part with a head longer than {MAX_HEAD_BYTES} bytes")
                return None
            end = found + 4
        raw, self._buffer = self._buffer[:end], self._buffer[end:]
        self._at = _At.CONTENT
        return PartHead(raw, _fields(raw))

    def _content(self) -> tuple[bytes, PartEnded | None]:
        """Content up to the next boundary, and how that ends the part; None when it has not come."""
        found = self._buffer.find(self._mark)
        if found < 0:
            kept = min(len(self._mark) - 1, len(self._buffer))
            while kept and not self._mark.startswith(self._buffer[len(self._buffer) - kept :]):
                kept -= 1
            content = self._buffer[: len(self._buffer) - kept]
            self._buffer = self._buffer[len(self._buffer) - kept :]
            return content, None
        after = found + len(self._mark)
        follows = self._buffer[after : after + 2]
        if follows == b"--":
            ended = PartEnded.LAST
            self._at = _At.END
        elif follows == b"\r\n":
            ended = PartEnded.MORE
            self._at = _At.HEAD
        elif len(follows) < 2:
            content, self._buffer = self._buffer[:found], self._buffer[found:]
            return content, None
        else:
            raise RemoteProtocolError("a multipart body with a boundary that something follows")
        content, self._buffer = self._buffer[:found], self._buffer[after + 2 :]
        return content, ended


def _fields(raw: bytes) -> dict[str, str]:
    try:
        lines = raw.decode().split("\r\n")[:-2]
    except UnicodeDecodeError:
        raise RemoteProtocolError("a part whose head is not UTF-8") from None
    fields: dict[str, str] = {}
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None or found[1].lower() in fields:
            raise RemoteProtocolError("a part whose head cannot be read")
        fields[found[1].lower()] = found[2]
    return fields
