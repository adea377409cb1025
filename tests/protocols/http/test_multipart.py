"""Multipart bodies: what goes in comes out, and there is one reading of each part's head."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.multipart import PartContent, PartEnded, PartHead, PartReader

CONTENTS = st.lists(
    st.lists(
        st.sampled_from([b"\r\n", b"--", b"-", b"b", b"--b", b"\r", b"\n", b"x", b"\r\n--", b"\x00\xff"])
    ).map(b"".join),
    min_size=1,
    max_size=4,
)


def put_together(boundary: str, data: bytes, size: int) -> tuple[bytes, list[bytes]]:
    reader = PartReader(boundary)
    out, contents = reader.start, [b""]
    for start in range(0, len(data), size):
        for event in reader.feed(data[start : start + size]):
            match event:
                case PartHead(raw):
                    out += raw
                case PartContent(content):
                    out += content
                    contents[-1] += content
                case PartEnded.MORE:
                    out += reader.between
                    contents.append(b"")
                case PartEnded.LAST:
                    out += reader.end
                    contents.append(b"")
    reader.finish()
    return out, contents[:-1]


@settings(max_examples=200, deadline=None)
@given(contents=CONTENTS, size=st.integers(1, 30), epilogue=st.sampled_from([b"", b"\r\n", b"\r\n \r\n"]))
def test_what_goes_in_comes_out(contents: list[bytes], size: int, epilogue: bytes) -> None:
    contents = [content for content in contents if b"\r\n--bb" not in b"\r\n" + content]
    parts = [
        b"--bb\r\n" + (b"a: b\r\n" if number else b"") + b"\r\n" + content
        for number, content in enumerate(contents)
    ]
    data = b"\r\n".join([*parts, b"--bb--"]) + epilogue
    if not contents:
        with pytest.raises(RemoteProtocolError):
            put_together("bb", data, size)
        return
    out, found = put_together("bb", data, size)
    assert out == data and found == contents


def head(*lines: str) -> PartHead:
    reader = PartReader("b")
    events = list(reader.feed(("--b\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()))
    assert isinstance(events[0], PartHead)
    return events[0]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("form-data", ("form-data", {})),
        ('Form-Data; name="a"', ("form-data", {"name": "a"})),
        ("form-data; NAME=a ; filename=b", ("form-data", {"name": "a", "filename": "b"})),
        ('form-data; name="a\\"b\\\\;c"', ("form-data", {"name": 'a"b\\;c'})),
        ('form-data; name="é"', ("form-data", {"name": "é"})),
    ],
)
def test_dispositions(value: str, expected: object) -> None:
    assert head(f"Content-Disposition: {value}").disposition == expected


@pytest.mark.parametrize(
    "value",
    [
        'form-data; name="a',
        'form-data; name="a"b',
        "form-data; name",
        "form-data; name=a name=b",
        "form-data; name=a; name=b",
        "form-data; name*=utf-8''a",
        "form-data; filename=a; filename*=utf-8''b",
        "form-data;;",
    ],
)
def test_dispositions_that_could_be_read_in_two_ways(value: str) -> None:
    with pytest.raises(RemoteProtocolError):
        _ = head(f"Content-Disposition: {value}").disposition


@pytest.mark.parametrize("line", ["a", ": b", "a b: c", "a: b\n", "a: \x00", " a: b", "a:b\r\n c"])
def test_heads_that_are_none(line: str) -> None:
    with pytest.raises(RemoteProtocolError):
        head(line)
    with pytest.raises(RemoteProtocolError):
        head("a: 1", "A: 2")


@pytest.mark.parametrize("boundary", ["", "x" * 71, "a\r\n", "a ", "a;b", 'a"', "é"])
def test_boundaries_that_are_none(boundary: str) -> None:
    with pytest.raises(RemoteProtocolError):
        PartReader(boundary)


def test_a_head_is_bounded() -> None:
    reader = PartReader("b")
    with pytest.raises(LimitExceeded):
        list(reader.feed(b"--b\r\nx: " + b"y" * 20_000))
