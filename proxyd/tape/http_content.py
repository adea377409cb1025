"""What is in a body: undone of its compression, and as text where it is text. For showing a tape; pure and bounded.

Content comes in pieces and goes on in pieces of at most PIECE_BYTES, however much a compressed one may grow to.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Final, cast

import brotli
import zstandard

PIECE_BYTES: Final = 64 * 1024
MAX_CODINGS: Final = 4

_GZIP_OR_ZLIB: Final = 47
_RAW_DEFLATE: Final = -15
_MAX_ZSTD_WINDOW: Final = 8 * 1024 * 1024  # RFC 9659
_TEXT_TYPES: Final = (
    "json",
    "xml",
    "javascript",
    "ecmascript",
    "x-www-form-urlencoded",
    "graphql",
    "yaml",
    "toml",
    "ndjson",
    "jsonl",
)


class ContentError(Exception):
    """It is not compressed as its headers say, or in a way that is not known."""


def codings(content_encoding: str) -> list[str]:
    """The codings of a Content-Encoding header, in the order in which they were applied."""
    names = (name.strip().lower().removeprefix("x-") for name in content_encoding.split(","))
    return [name for name in names if name not in ("", "identity")]


def decoded(pieces: Iterable[bytes], content_encoding: str) -> Iterator[bytes]:
    """The content. Raises ContentError where it breaks; content that is cut off just ends."""
    names = codings(content_encoding)
    if len(names) > MAX_CODINGS:
        raise ContentError("the content is compressed too often")
    for name in reversed(names):
        match name:
            case "gzip":
                pieces = _inflated(pieces, _GZIP_OR_ZLIB)
            case "deflate":
                pieces = _deflated(pieces)
            case "br":
                pieces = _brotli(pieces)
            case "zstd":
                pieces = _zstandard(pieces)
            case _:
                raise ContentError(f"the content coding {name!r} is not known")
    return iter(pieces)


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def is_text(content_type: str) -> bool:
    """Is content of this type meant to be read? One that says nothing may be."""
    media = media_type(content_type)
    return not media or media.startswith("text/") or any(known in media for known in _TEXT_TYPES)


def _inflated(pieces: Iterable[bytes], window: int) -> Iterator[bytes]:
    inflater = zlib.decompressobj(window)
    for piece in pieces:
        rest = piece
        while rest:
            if inflater.eof:  # a gzip file may be followed by another one
                inflater = zlib.decompressobj(window)
            yield from _inflate(inflater, rest)
            rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    while not inflater.eof and (left := list(_inflate(inflater, b""))):
        yield from left


def _inflate(inflater: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    try:
        piece = inflater.decompress(data, PIECE_BYTES)
    except zlib.error as error:
        raise ContentError(f"the content is not compressed as it says: {error}") from error
    if piece:
        yield piece


def _deflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """RFC 9110 wants a zlib stream; some send a bare one."""
    source = iter(pieces)
    first = next(source, b"")
    while len(first) < 2 and (more := next(source, b"")):
        first += more
    is_zlib = len(first) < 2 or (first[0] & 0x0F == 8 and (first[0] << 8 | first[1]) % 31 == 0)
    return _inflated(_chained(first, source), _GZIP_OR_ZLIB if is_zlib else _RAW_DEFLATE)


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _brotli(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decompressor = brotli.Decompressor()
    for piece in pieces:
        rest = piece
        while True:
            try:
                data = decompressor.process(rest, output_buffer_limit=PIECE_BYTES)
            except brotli.error as error:
                raise ContentError(f"the content is not compressed as it says: {error}") from error
            yield from _cut(data)
            rest = b""
            if not data and decompressor.can_accept_more_data():
                break


def _zstandard(pieces: Iterable[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
    with decompressor.stream_reader(
        cast(IO[bytes], _Source(iter(pieces))), read_across_frames=True
    ) as reader:
        while True:
            try:
                data = reader.read(PIECE_BYTES)
            except zstandard.ZstdError as error:
                raise ContentError(f"the content is not compressed as it says: {error}") from error
            if not data:
                return
            yield data


class _Source:
    """Pieces as something to read from."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        data = self._rest or next(self._pieces, b"")
        if size < 0:
            size = len(data)
        self._rest = data[size:]
        return data[:size]


def _cut(data: bytes) -> Iterator[bytes]:
    """The limit of a brotli buffer is where it stops growing, not how long it is."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]
