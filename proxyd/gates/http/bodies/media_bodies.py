"""Pictures, sounds, films, fonts: no mask concerns them, so they pass; but only if that is what they are.

A type is easy to choose for a client (many stores take it from the query), so a body has to begin as its kind does.
Pure but for what it holds: the beginning.
"""

from __future__ import annotations

import re
from collections import Counter

from proxyd.gates.http.bodies.interfaces import BodyRefused

_LOOKED_AT_BYTES = 192

# How files of these kinds begin. Two bytes are too few to tell, unless they cannot stand in a text.
_BEGINNINGS = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00",
    b"\xff\xd8\xff",  # JPEG
    b"GIF87a",
    b"GIF89a",
    b"II*\x00",  # TIFF
    b"MM\x00*",
    b"\x00\x00\x01\x00",  # icons
    b"\x00\x00\x02\x00",
    b"\xff\x0a",  # JPEG XL
    b"\x00\x00\x00\x0cJXL ",
    b"\x00\x00\x00\x0cjP  ",
    b"8BPS\x00\x01",
    b"ID3\x02",
    b"ID3\x03",
    b"ID3\x04",
    b"\xff\xfb",  # MPEG audio
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xf1",
    b"\xff\xf9",
    b"OggS\x00",
    b"fLaC\x00",
    b"MThd\x00\x00",
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"\x00\x00\x01\xba",  # MPEG
    b"\x00\x00\x01\xb3",
    b"wOFF\x00\x01\x00\x00",
    b"wOFFOTTO",
    b"wOF2\x00\x01\x00\x00",
    b"wOF2OTTO",
    b"\x00\x01\x00\x00",  # TrueType
    b"true\x00",
    b"OTTO\x00",
    b"\x00asm",
)
_DOCUMENTS = (b"%PDF-1.", b"%PDF-2.")
# These could begin a text too. A picture has such bytes soon, whatever it shows.
_PRINTABLE_BEGINNINGS = (b"GIF8", b"RIFF")
_NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x7f\xc0\xc1\xf5-\xff]")
_RIFF_KINDS = (b"WEBP", b"WAVE", b"AVI ")
_BOXES = (b"ftyp", b"styp", b"moof", b"moov", b"sidx", b"emsg")  # ISO media: a length, then the kind of a box
_TRANSPORT_PACKET_BYTES = 188


class MediaBody:
    """Passes as it is, once its beginning has been seen. `may_be_document`: PDF passes too, which holds text."""

    def __init__(self, *, may_be_document: bool = False) -> None:
        self.counts: Counter[str] = Counter()
        self._may_be_document = may_be_document
        self._held: bytes | None = b""

    def feed(self, data: bytes) -> bytes:
        if self._held is None:
            return data
        self._held += data
        return b"" if len(self._held) < _LOOKED_AT_BYTES else self._checked()

    def finish(self) -> bytes:
        return b"" if self._held is None else self._checked()

    def _checked(self) -> bytes:
        held, self._held = self._held or b"", None
        is_document = self._may_be_document and held.startswith(_DOCUMENTS)
        if held and not is_document and not is_media(held):
            raise BodyRefused("it does not begin as a body of its type does")
        return held


def is_media(data: bytes) -> bool:
    """Does a body begin like one of the kinds that are known here, and go on like one?"""
    if data.startswith(_PRINTABLE_BEGINNINGS) and _NOT_IN_TEXT.search(data) is None:
        return False
    if data.startswith(_BEGINNINGS):
        return True
    if data[:4] == b"RIFF":
        return data[8:12] in _RIFF_KINDS
    if data[:2] == b"BM":
        return data[6:10] == b"\x00\x00\x00\x00"
    if data[4:8] in _BOXES:
        return data[:2] == b"\x00\x00"
    return (
        data[:1] == b"G"
        and data[_TRANSPORT_PACKET_BYTES : _TRANSPORT_PACKET_BYTES + 1] == b"G"
        and b"\x00" in data[:4]
    )
