"""What a type says decides how a body is read, never that masks do not look at it."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import brotli
import pytest
import zstandard

from proxyd.gates.http.bodies import BodyLimits, BodyRefused, transformer_for
from tests.proxyd.gates.http.bodies.body_masks import (
    BOTH,
    CARD,
    DETECT,
    EMAIL,
    REDACT,
    Masks,
    masks,
    transformed,
)

RECORD = b'{"email":"bob@x.org"}'
MASKED = b'{"email":"[redacted]"}'
EVERYTHING = masks(("$..*", REDACT))


def test_without_masks_nothing_is_touched() -> None:
    assert transformer_for("application/json", masks()) is None
    assert transformer_for("no type at all", masks(), content_encoding="br") is None


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON ; charset=UTF-8",
        'application/json;charset="utf-8";',
        "application/json; charset=us-ascii; profile=x",
        "application/problem+json",
        "application/vnd.api+json; ext=bulk",
        "text/json",
        "application/x-ndjson",
        "application/json5",
        "application/x-amz-json-1.1",
        "application/octet-stream",
        "text/plain",
        "text/html; charset=utf-8",
        "application/javascript",
        "application/xml",
        "something/else",
        "",
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize("padding", [b"", b" \r\n\t", b"\xef\xbb\xbf"])
def test_json_is_masked_whatever_it_is_called(content_type: str, pieces: int | None, padding: bytes) -> None:
    out, counts = transformed(content_type, padding + RECORD, pieces=pieces)
    assert out == padding + MASKED and counts == {"redact": 1}
    long = b'{"a":"' + b"x" * 2000 + b'",' + RECORD[1:]
    assert b"bob" not in transformed(content_type, padding + long, pieces=pieces)[0]


@pytest.mark.parametrize(
    "content_type",
    [
        "text/css",
        "text/csv",
        "text/tab-separated-values",
        "text/event-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/mixed; boundary=x",
        "multipart/byteranges; boundary=x",
        "image/png",
        "image/svg+xml",
        "audio/mpeg",
        "video/mp4",
        "font/woff2",
        "application/pdf",
        "application/wasm",
        "application/grpc",
        "application/grpc-web-text",
        "application/x-protobuf",
    ],
)
@pytest.mark.parametrize("these", [EMAIL, BOTH, EVERYTHING])
@pytest.mark.parametrize(
    "data",
    [
        RECORD,
        b"\xef\xbb\xbf" + RECORD,
        b'[{"id":1},\n{"email":"bob@x.org"}]',
        b'{"a=":1,"email":"bob@x.org"}',
        b'{"a":"&x=1",\n"email":"bob@x.org"}',
        b"callback(" + RECORD + b")",
        b"<user><email>bob@x.org</email></user>",
        b"<html>\n<td>email: bob@x.org</td>",
        b"id: 1\nemail: bob@x.org\n",
        b"email = bob@x.org\n",
        b'"email": "bob@x.org"',
    ],
)
def test_a_lie_about_the_type_shows_nothing(content_type: str, these: Masks, data: bytes) -> None:
    try:
        out, _ = transformed(content_type, data, these)
    except BodyRefused as refused:
        assert "bob" not in refused.reason + refused.hint
    else:
        assert b"bob" not in out


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json; charset=iso-8859-1",
        "text/plain; charset=utf-16le",
        "text/csv; charset=windows-1252",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json, text/html",
        "application/json; charset",
        "application/json; =x",
        "application/ json",
        "application",
        "/json",
        "application/json\x00",
        'application/json; charset="utf-8',
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="a b "',
        f"multipart/form-data; boundary={'x' * 71}",
        "multipart/byteranges; boundary=x",
    ],
)
def test_a_type_that_could_be_read_in_two_ways_is_refused(content_type: str) -> None:
    with pytest.raises(BodyRefused):
        transformer_for(content_type, EMAIL)


UTF16 = '{"email":"bob"}'.encode("utf-16-le")


@pytest.mark.parametrize(
    "data",
    [UTF16, b"\xff\xfe" + UTF16, '{"email":"bob"}'.encode("utf-16-be"), b'{"\xe9":1,"email":"bob"}', b"\x00"],
)
@pytest.mark.parametrize(
    "content_type",
    ["application/json", "text/plain", "text/html", "text/csv", "", "text/event-stream", "application/xml"],
)
def test_other_encodings_are_refused(content_type: str, data: bytes) -> None:
    for these in (EMAIL, DETECT):
        with pytest.raises(BodyRefused):
            transformed(content_type, data, these)


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("image/png", b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"),
        ("image/jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
        ("image/gif", b"GIF89a\x01\x00"),
        ("image/webp", b"RIFF\x24\x00\x00\x00WEBPVP8 "),
        ("image/avif", b"\x00\x00\x00\x1cftypavif"),
        ("image/x-icon", b"\x00\x00\x01\x00\x01\x00"),
        ("audio/mpeg", b"ID3\x04\x00"),
        ("video/mp4", b"\x00\x00\x00\x18ftypmp42"),
        ("video/mp2t", (b"G\x40\x00\x10" + b"\xff" * 184) * 2),
        ("font/woff2", b"wOF2\x00\x01\x00\x00"),
        ("application/wasm", b"\x00asm\x01\x00\x00\x00"),
        ("application/pdf", b"%PDF-1.7\n%\xe2\xe3"),
        ("image/png", b""),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_media_pass(content_type: str, data: bytes, pieces: int | None) -> None:
    data = data and data + bytes(range(256)) * 4
    assert transformed(content_type, data, pieces=pieces)[0] == data
    if content_type != "application/pdf":
        assert transformed(content_type, data, BOTH, pieces=pieces)[0] == data


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/pdf", b"%PDF-1.7\n"),
        ("application/zip", b"PK\x03\x04"),
        ("application/octet-stream", b"\x00\x01\x02"),
        ("application/octet-stream", b"\x1f\x8b\x08\x00"),
        ("application/msgpack", b"\x81\xa5email\xa3bob"),
        ("application/grpc", b""),
        ("application/grpc-web-text+proto", b"AAAA"),
    ],
)
def test_what_cannot_be_looked_into_is_refused_under_detectors(content_type: str, data: bytes) -> None:
    with pytest.raises(BodyRefused, match="cannot be looked into"):
        transformed(content_type, data, DETECT)


@pytest.mark.parametrize(
    ("content_type", "beginning"),
    [
        ("image/gif", b"GIF89a"),
        ("image/png", b"\x89PNG\r\n\x1a\n"),
        ("image/webp", b"RIFF    WEBP"),
        ("font/woff2", b"GIF87a"),
    ],
)
def test_a_text_that_only_begins_like_a_picture_is_none(content_type: str, beginning: bytes) -> None:
    for these in (EMAIL, DETECT):
        with pytest.raises(BodyRefused):
            transformed(content_type, beginning + b'{"email":"bob@example.com"}', these)


@pytest.mark.parametrize("content_type", ["image/png", "video/mp4", "font/woff2"])
def test_a_document_is_no_picture_to_detectors(content_type: str) -> None:
    """Many stores let their clients choose the type."""
    with pytest.raises(BodyRefused):
        transformed(content_type, b"%PDF-1.7\n(bob@example.com) Tj", DETECT)


@pytest.mark.parametrize("data", [b"email,x\nbob,1", b"--b\r\nContent-Disposition: form-data; name=email"])
def test_a_table_is_no_form(data: bytes) -> None:
    with pytest.raises(BodyRefused):
        transformed("application/x-www-form-urlencoded", data, EMAIL)


@pytest.mark.parametrize(
    "content_type", ["application/x-protobuf", "application/octet-stream", "application/foo"]
)
def test_a_message_of_printable_bytes_is_not_taken_for_text(content_type: str) -> None:
    with pytest.raises(BodyRefused):
        transformed(content_type, b"\n\nbob@x.orgs", EMAIL)
    assert transformed(content_type, b"some text", DETECT)[0] == b"some text"


# --- text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/xml", "text/css", ""])
@pytest.mark.parametrize("pieces", [None, 1])
@pytest.mark.parametrize(
    "text", ["<p>fine</p>", "[info] fine", "{fine}", "[", "fine", "emails, e-mail, e_mail, \xe9"]
)
def test_text_that_names_nothing_masked_passes(content_type: str, pieces: int | None, text: str) -> None:
    assert transformed(content_type, text.encode(), pieces=pieces)[0].decode() == text


@pytest.mark.parametrize("pieces", [None, 1, 3])
@pytest.mark.parametrize("text", ["Email", "<a eMaIl='x'>", "x" * 5000 + " email", "[info] email", "{email"])
def test_text_that_names_a_masked_field_is_refused(pieces: int | None, text: str) -> None:
    with pytest.raises(BodyRefused, match="names a field"):
        transformed("text/plain", text.encode(), pieces=pieces)


def test_no_text_passes_where_masks_have_no_name() -> None:
    for path in ("$", "$.*", "$..*", "$[0]"):
        with pytest.raises(BodyRefused):
            transformed("text/plain", b"hello", masks((path, REDACT)))


@pytest.mark.parametrize("pieces", [None, 1, 3, 10])
def test_detectors_look_through_text(pieces: int | None) -> None:
    out, counts = transformed("text/html", f"<p>{CARD}</p>\n<b>{CARD}</b>".encode(), DETECT, pieces=pieces)
    assert (out, counts) == (b"<p><card></p>\n<b><card></b>", {"card": 2})


def test_plain_text_leaves_as_it_comes() -> None:
    transformer = transformer_for("text/plain", EMAIL)
    assert transformer is not None and transformer.feed(b"step 1\n") == b"step 1\n"


# --- compressed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [None, 1, 5])
@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", gzip.compress(RECORD)),
        (" X-GZIP ", gzip.compress(RECORD)),
        ("deflate", zlib.compress(RECORD)),
        ("br", brotli.compress(RECORD)),
        ("zstd", zstandard.ZstdCompressor().compress(RECORD)),
        ("identity", RECORD),
        ("", RECORD),
    ],
)
def test_what_comes_compressed_leaves_masked_and_plain(
    encoding: str, data: bytes, pieces: int | None
) -> None:
    assert transformed("application/json", data, pieces=pieces, content_encoding=encoding)[0] == MASKED


@pytest.mark.parametrize(
    "encoding", ["compress", "gzip, gzip", "br, gzip", "dcb", "identity, gzip", "aes128gcm", "x"]
)
def test_other_encodings_of_content_are_refused(encoding: str) -> None:
    with pytest.raises(BodyRefused, match="compressed"):
        transformer_for("application/json", EMAIL, content_encoding=encoding)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(RECORD)[:-1],
        gzip.compress(RECORD)[:10],
        gzip.compress(RECORD) + b"\x00",
        gzip.compress(RECORD) * 2,
        gzip.compress(RECORD)[:-8] + b"\x00" * 8,
        RECORD,
        zlib.compress(RECORD),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_broken_compression_is_refused(data: bytes, pieces: int | None) -> None:
    with pytest.raises(BodyRefused, match="compressed"):
        transformed("application/json", data, pieces=pieces, content_encoding="gzip")


BR = brotli.compress(RECORD)
ZSTD = zstandard.ZstdCompressor(write_checksum=True).compress(RECORD)
_large_window = zstandard.ZstdCompressor(
    compression_params=zstandard.ZstdCompressionParameters(window_log=27)
).compressobj()
LARGE_WINDOW = _large_window.compress(RECORD) + _large_window.flush()


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("br", BR[:-1]),
        ("br", BR + b"\x00"),
        ("br", BR * 2),
        ("br", RECORD),
        ("br", b"\x11" + BR),  # a large window
        ("br", ZSTD),
        ("zstd", ZSTD[:-1]),
        ("zstd", ZSTD[:-4]),
        ("zstd", ZSTD + b"\x00"),
        ("zstd", ZSTD * 2),
        ("zstd", ZSTD[:-4] + b"\x00" * 4),
        ("zstd", RECORD),
        ("zstd", BR),
        ("zstd", LARGE_WINDOW),
    ],
)
@pytest.mark.parametrize("pieces", [None, 1])
def test_other_broken_compression_is_refused(encoding: str, data: bytes, pieces: int | None) -> None:
    with pytest.raises(BodyRefused, match="compressed"):
        transformed("application/json", data, pieces=pieces, content_encoding=encoding)


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_any_way_to_cut_what_is_compressed_gives_the_same(encoding: str) -> None:
    rows = b",".join(
        b'{"id":%d,"email":"user%d@example.com"}' % (number, number * number) for number in range(20_000)
    )
    data = b"[" + rows + b"]"
    compressed = {
        "gzip": gzip.compress,
        "br": lambda body: brotli.compress(body, quality=3),
        "zstd": zstandard.ZstdCompressor().compress,
    }[encoding](data)
    expected = transformed("application/json", data)[0]
    for pieces in (None, 7, 1000, 65536):
        assert (
            transformed("application/json", compressed, pieces=pieces, content_encoding=encoding)[0]
            == expected
        )


@pytest.mark.parametrize("encoding", ["br", "zstd"])
@pytest.mark.parametrize("pieces", [None, 1000])
def test_a_bomb_of_other_kinds_is_refused_before_it_is_large(encoding: str, pieces: int | None) -> None:
    data = b"[" + b" " * 200_000_000 + b"1]"
    bomb = brotli.compress(data, quality=1) if encoding == "br" else zstandard.ZstdCompressor().compress(data)
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(BodyRefused, match="too large"):
            transformed("application/json", bomb, pieces=pieces, content_encoding=encoding)
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data", [b"[" + b"1," * 5_000_000 + b"1]", b'{"email":"' + b"x" * 10_000_000 + b'"}']
)
def test_a_bomb_is_refused_before_it_is_large(data: bytes) -> None:
    bomb = gzip.compress(data)
    transformer = transformer_for("application/json", EMAIL, content_encoding="gzip")
    assert transformer is not None
    with pytest.raises(BodyRefused, match="too large"):
        transformer.feed(bomb)
    with pytest.raises(BodyRefused, match="too large"):
        transformed("text/plain", bomb, content_encoding="gzip", limits=BodyLimits(decoded_bytes=1000))
