"""The bodies of a HAR file: JSON in pieces, as text where they are text and in base64 where not. Called by `har`.

A body is gone through twice, once to know what it is and once to write it, and never held whole.
"""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from proxyd.tape.http_content import ContentError, codings, decoded, is_text
from proxyd.tape.spool import SpooledContent

MAX_DECODED_BYTES: Final = 64 * 1024 * 1024
"""Compressed content that grows to more than this stays compressed."""
_BASE64_BYTES: Final = 48 * 1024  # a multiple of three
_LATIN: Final = ("iso-8859-1", "latin1", "latin-1", "windows-1252")


class Body(msgspec.Struct, frozen=True):
    """What was found out about a body. `size`: of what `pieces` gives. `codec`: None for base64."""

    content: SpooledContent
    content_encoding: str  # "": the pieces are taken as they are
    size: int
    codec: str | None
    comment: str


def examined(content: SpooledContent, content_type: str, content_encoding: str, *, is_whole: bool) -> Body:
    """How to write this body. One that is not whole stays as it is."""
    comment = ""
    if codings(content_encoding):
        if is_whole:
            try:
                return _sized(content, content_type, content_encoding)
            except ContentError as error:
                comment = f"{error}; "
        return Body(content, "", content.size, None, f"{comment}compressed: {content_encoding}")
    return _sized(content, content_type, "")


def text_json(body: Body) -> Iterator[str]:
    """The body as a JSON string, in pieces."""
    pieces = decoded(body.content.pieces(), body.content_encoding)
    yield '"'
    if body.codec is None:
        yield from (base64.b64encode(piece).decode("ascii") for piece in _regrouped(pieces))
    else:
        decoder = codecs.getincrementaldecoder(body.codec)("replace")
        yield from (json.dumps(decoder.decode(piece))[1:-1] for piece in pieces)
        yield json.dumps(decoder.decode(b"", final=True))[1:-1]
    yield '"'


def _sized(content: SpooledContent, content_type: str, content_encoding: str) -> Body:
    codec = _codec(content_type)
    decoder = codecs.getincrementaldecoder(codec)("strict") if codec is not None else None
    size = 0
    for piece in decoded(content.pieces(), content_encoding):
        size += len(piece)
        if size > MAX_DECODED_BYTES and content_encoding:
            raise ContentError(f"the content is longer than {MAX_DECODED_BYTES} bytes")
        decoder = _fed(decoder, piece, is_last=False)
    decoder = _fed(decoder, b"", is_last=True)
    return Body(content, content_encoding, size, codec if decoder is not None else None, "")


def _fed(
    decoder: codecs.IncrementalDecoder | None, piece: bytes, *, is_last: bool
) -> codecs.IncrementalDecoder | None:
    """The decoder, or None once the content has turned out not to be text."""
    if decoder is None:
        return None
    try:
        text = decoder.decode(piece, is_last)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else decoder


def _codec(content_type: str) -> str | None:
    if not is_text(content_type):
        return None
    lowered = content_type.lower().replace('"', "")
    return "cp1252" if any(f"charset={name}" in lowered for name in _LATIN) else "utf-8"


def _regrouped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece
        whole = len(rest) - len(rest) % _BASE64_BYTES
        for start in range(0, whole, _BASE64_BYTES):
            yield rest[start : start + _BASE64_BYTES]
        rest = rest[whole:]
    if rest:
        yield rest
