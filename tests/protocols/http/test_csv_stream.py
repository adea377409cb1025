"""Tables in text: the fields that Python's own reader sees, and nothing lost."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.csv_stream import Record, RecordReader, written

FIELDS = st.text(alphabet=st.sampled_from('ab",;\n \té'), max_size=6)


def read(text: str, size: int, separator: str = ",", **options: bool) -> list[Record]:
    reader = RecordReader(separator, held_bytes=1000, **options)
    records = [
        found for start in range(0, len(text), size) for found in reader.feed(text[start : start + size])
    ]
    return [*records, *reader.finish()]


@settings(max_examples=200, deadline=None)
@given(
    table=st.lists(st.lists(FIELDS, min_size=2, max_size=4), max_size=5),
    size=st.integers(1, 50),
    end=st.sampled_from(["\n", "\r\n"]),
    separator=st.sampled_from([",", ";", "\t"]),
)
def test_the_same_as_the_standard_library(
    table: list[list[str]], size: int, end: str, separator: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end, delimiter=separator).writerows(table)
    text = out.getvalue()
    records = read(text, size, separator)
    assert [[field.text for field in record.fields] for record in records] == table
    assert (
        "".join(separator.join(field.raw for field in record.fields) + record.end for record in records)
        == text
    )


@given(FIELDS)
def test_what_is_written_is_read_again(text: str) -> None:
    (record,) = read(f"x,{written(text)}", 3)
    assert record.fields[1].text == text


@pytest.mark.parametrize("text", ['a"b,c', '"a"b,c', '"a,b', '"a""', 'a,"b" ,c\n', '"\n'])
@pytest.mark.parametrize("size", [1, 100])
def test_quotes_that_could_be_read_in_two_ways_are_refused(text: str, size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        read(text, size)
    records = read(text, size, is_strict=False)
    assert "".join(",".join(field.raw for field in record.fields) + record.end for record in records) == text


def test_a_record_is_bounded() -> None:
    for text in ("x" * 1001, '"' + "\n" * 1001):
        with pytest.raises(LimitExceeded):
            read(text, 100)
