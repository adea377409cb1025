"""Tables under masks (CSV, tab separated values): a column is masked by its title.

Paths for JSON say where a field stands; a table has rows and titles only. So a column is masked when its title, as a
member of the document or of its rows, is on a path, and also when it names the field that a path ends in, alone or
among other words (`Email address`). A table whose columns cannot be told is refused under masks by path.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policy.detectors.encoded import ENCODED
from policy.detectors.engine import Pattern
from policy.masking import Mask, MaskingError
from protocols.errors import LimitExceeded, RemoteProtocolError
from protocols.http.csv_stream import Field, Record, RecordReader, written
from protocols.http.forms import readings
from proxyd.gates.http.bodies.detecting import tells
from proxyd.gates.http.bodies.interfaces import BodyRefused
from proxyd.gates.http.bodies.plan import Plan, begins_document, masked_field

MAX_COLUMNS = 4096
_SEPARATORS = ",;\t|"
_encoded_cell = Pattern(rb"(?m)(?:^|[,;\t|])" + ENCODED + rb"(?:[,;\t|\r]|$)")
_quoted = re.compile(r'"(?:[^"]|"")*"')


@dataclass(frozen=True, slots=True)
class _Column:
    """places: where its title may stand in a document."""

    title: str
    mask: Mask | None
    places: Sequence[Sequence[str | int]]


class TableBody:
    """separator: "" where the first line has to tell. has_titles: its first record is its titles."""

    def __init__(self, plan: Plan, separator: str, *, has_titles: bool) -> None:
        if plan.has_paths and (not has_titles or plan.has_places):
            raise BodyRefused("it is a table, and which of its columns are masked cannot be told")
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._separator = separator
        self._reader: RecordReader | None = None
        self._start = ""  # what has come of the first line
        self._columns: list[_Column] | None = None if has_titles else []

    def feed(self, data: bytes) -> bytes:
        return self._out(data, is_last=False)

    def finish(self) -> bytes:
        return self._out(b"", is_last=True)

    def _out(self, data: bytes, *, is_last: bool) -> bytes:
        try:
            text = self._utf8.decode(data, is_last)
            if "\0" in text:  # another encoding, in which nothing would be found
                raise BodyRefused("it is a text that holds NUL characters")
            return "".join(self._masked(text, is_last)).encode()
        except UnicodeDecodeError:
            raise BodyRefused("it is a table that is not UTF-8") from None
        except RemoteProtocolError as fault:
            raise BodyRefused(f"it is {fault.message}") from fault
        except MaskingError as fault:
            raise BodyRefused("a mask cannot be applied to it", "Tell the owners of the policy.") from fault

    def _masked(self, text: str, is_last: bool) -> Iterator[str]:
        if self._reader is None:
            text = self._start = self._start + text
            if not is_last and "\n" not in text and "\r" not in text:
                if len(text) > self._plan.limits.held_bytes:
                    raise LimitExceeded(
                        f"a table with a line longer than {self._plan.limits.held_bytes} bytes"
                    )
                return
            self._start = ""
            if text.startswith("\ufeff"):
                yield "\ufeff"
                text = text[1:]
            self._separator = self._separator or self._told_separator(text)
            self._reader = RecordReader(
                self._separator, held_bytes=self._plan.limits.held_bytes, is_strict=self._plan.has_paths
            )
        if self._passes_lines:
            if self._reader.has_held:  # a record goes on
                end = text.find("\n") + 1
                yield self._detected_records(list(self._reader.feed(text[:end])))
                text = text[end:]
            end = text.rfind("\n") + 1
            if end and not self._reader.has_held and '"' not in text[:end]:
                yield from self._masked_lines(text[:end], self._reader)
                text = text[end:]
        records = list(self._reader.feed(text))
        if is_last:
            records += self._reader.finish()
        if records and self._columns is not None and not self._plan.has_paths:
            yield self._detected_records(records)
            return
        for record in records:
            yield self._masked_record(record)

    @property
    def _passes_lines(self) -> bool:
        """Are all cells alike, whatever their titles, so that lines can be looked at as they are?"""
        detectors = self._plan.detectors
        if self._columns is None or self._plan.has_paths or detectors is None or detectors.has_own:
            return False
        return not any(tells(column.title) for column in self._columns)

    def _masked_lines(self, lines: str, reader: RecordReader) -> Iterator[str]:
        """Whole lines without quotes: those in which something may be go cell by cell."""
        data = lines.encode()
        places = [*_encoded_cell.find_all(data, 0, len(data))]
        if self._plan.detectors is not None:
            places += [(match.start, match.end) for match in self._plan.detectors.find(data)]
        position = 0
        for first, last in sorted(places):
            if last <= position:
                continue
            start = data.rfind(b"\n", position, max(position, first)) + 1 or position
            end = data.index(b"\n", max(start, last - 1)) + 1
            yield data[position:start].decode()
            yield self._detected_records(list(reader.feed(data[start:end].decode())))
            position = end
        yield data[position:].decode()

    def _told_separator(self, text: str) -> str:
        """CSV has semicolons or tabs where commas are for decimals. The first line tells, if it tells one thing."""
        line = _quoted.sub("", text.split("\n", 1)[0])
        found = [separator for separator in _SEPARATORS if separator in line]
        if len(found) > 1 and self._plan.has_paths:
            raise RemoteProtocolError("a table whose columns cannot be told apart for certain")
        return found[0] if found else ","

    def _masked_record(self, record: Record) -> str:
        if self._columns is None:
            if len(record.fields) > MAX_COLUMNS:
                raise LimitExceeded(f"a table with more than {MAX_COLUMNS} columns")
            self._columns = [self._column(field.text) for field in record.fields]
            return self._written(record, [self._detected(field.text) for field in record.fields])
        if len(record.fields) == 1 and not record.fields[0].raw:
            return record.end
        if len(record.fields) > len(self._columns):
            raise RemoteProtocolError("a table with more fields than titles")
        pairs = zip(self._columns, record.fields, strict=False)
        return self._written(record, [self._masked_field(column, field) for column, field in pairs])

    def _detected_records(self, records: list[Record]) -> str:
        texts = [field.text for record in records for field in record.fields]
        detection = self._plan.detection
        becomes = None if detection is None else detection.all_replaced(texts, self.counts)
        values = iter(map(self._detected, texts) if becomes is None else becomes)
        return "".join(
            [self._with_titles(record, [next(values) for _ in record.fields]) for record in records]
        )

    def _with_titles(self, record: Record, values: list[str]) -> str:
        """Once more, where it is its title that says what a value is."""
        for number, column in enumerate((self._columns or ())[: len(values)]):
            if tells(column.title) and values[number] == record.fields[number].text:
                values[number] = self._plan.detected(values[number], self.counts, column.title)
        return self._written(record, values)

    def _column(self, title: str) -> _Column:
        if not self._plan.is_name(title):
            raise RemoteProtocolError("a table whose titles are none")
        places = [(*row, *steps) for row in ((), (0,)) for steps in readings(title.strip())]
        return _Column(title, self._plan.field_mask(places, title), places)

    def _masked_field(self, column: _Column, field: Field) -> str:
        if column.mask is not None:
            return masked_field(column.mask, field.text, self.counts)
        if self._plan.keys_masked(field.text) and not begins_document(field.text):
            raise RemoteProtocolError("a table with a masked field inside of another")
        if begins_document(field.text):
            return self._plan.open_field(column.places, field.text, self.counts, column.title)
        return self._plan.detected(field.text, self.counts, column.title)

    def _detected(self, text: str) -> str:
        return self._plan.detected(text, self.counts)

    def _written(self, record: Record, values: list[str]) -> str:
        pairs = zip(record.fields, values, strict=True)
        raw = [field.raw if field.text == value else written(value) for field, value in pairs]
        return self._separator.join(raw) + record.end
