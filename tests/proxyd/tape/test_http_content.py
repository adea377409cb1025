from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from proxyd.tape.http_content import PIECE_BYTES, ContentError, codings, decoded, is_text, media_type

TEXT = b"".join(b"line %d of a text that says little\n" % number for number in range(5000))


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": bare_deflate,
    "br": lambda data: brotli.compress(data, quality=4),
    "zstd": zstandard.compress,
    "identity": bytes,
    "": bytes,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    "br , gzip": lambda data: gzip.compress(brotli.compress(data)),
}


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize("coding", COMPRESSORS)
@pytest.mark.parametrize("content", [b"", b"x", TEXT], ids=["nothing", "a byte", "a text"])
def test_compression_is_undone_whatever_the_pieces(coding: str, content: bytes, step: int) -> None:
    raw = COMPRESSORS[coding](content)
    if step == 1 and len(raw) > 30_000:
        raw, content = COMPRESSORS[coding](content[:3000]), content[:3000]
    pieces = (raw[start : start + step] for start in range(0, len(raw), step))
    assert b"".join(decoded(pieces, coding)) == content


def test_files_of_gzip_may_follow_each_other() -> None:
    raw = gzip.compress(b"one") + gzip.compress(b"two")
    assert b"".join(decoded([raw], "gzip")) == b"onetwo"
    assert b"".join(decoded([raw[start : start + 1] for start in range(len(raw))], "gzip")) == b"onetwo"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_cut_off_gives_what_is_there(coding: str) -> None:
    raw = COMPRESSORS[coding](TEXT)
    found = b"".join(decoded([raw[: len(raw) // 2]], coding))
    assert TEXT.startswith(found)
    assert len(found) < len(TEXT)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_compressed_as_it_says(coding: str) -> None:
    with pytest.raises(ContentError, match="not compressed as it says"):
        list(decoded([b"\xff\x00this is a plain text, and no more than that"], coding))


@pytest.mark.parametrize(
    ("coding", "message"),
    [
        ("compress", "the content coding 'compress' is not known"),
        ("aws-chunked", "not known"),
        ("gzip, gzip, gzip, gzip, gzip", "too often"),
        ("\x1b[2J", r"'\\x1b\[2j'"),
    ],
)
def test_codings_that_are_not_undone(coding: str, message: str) -> None:
    with pytest.raises(ContentError, match=message):
        list(decoded([b"x"], coding))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_comes_in_small_pieces(coding: str) -> None:
    """However little it took: nobody has to hold what it grows to."""
    bomb = COMPRESSORS[coding](bytes(30_000_000))
    assert len(bomb) < 40_000
    size = 0
    for piece in decoded([bomb], coding):
        assert len(piece) <= PIECE_BYTES
        size += len(piece)
    assert size == 30_000_000


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/plain", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("application/x-ndjson", True),
        ("application/x-www-form-urlencoded", True),
        ("image/svg+xml", True),
        ("", True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("application/grpc", False),
        ("; charset=utf-8", True),
    ],
)
def test_types_that_are_text(content_type: str, expected: bool) -> None:
    assert is_text(content_type) is expected


def test_names() -> None:
    assert media_type("Application/JSON ; charset=x") == "application/json"
    assert codings(" GZip, identity,, x-gzip ") == ["gzip", "gzip"]
