"""A PostgreSQL conversation as a person sees it: statements, decisions, results, errors and times.

Reads the raw messages of a tape with the same codecs that carried them. The view is kept in step with a
small ledger for each operation (a batch up to ReadyForQuery), because a result may come without its
description: a statement is described once and executed often. The ledger is for showing only. What it
cannot follow is shown without names; nothing here raises for what a tape holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, TypeVar

from protocols.errors import ProtocolError
from protocols.postgres.codec import HEADER_BYTES, BackendCodec, Frame, FrontendCodec, RowPart, RowRun
from protocols.postgres.message_types import Backend
from protocols.postgres.messages import (
    Bind,
    Close,
    CommandComplete,
    CopyData,
    CopyDone,
    CopyFail,
    CopyResponse,
    Describe,
    ErrorFields,
    ErrorResponse,
    Execute,
    FieldDescription,
    FrontendMessage,
    FunctionCall,
    Marker,
    NoticeResponse,
    NotificationResponse,
    ParameterDescription,
    ParameterStatus,
    Parse,
    Query,
    ReadyForQuery,
    RowDescription,
    Sync,
    Terminate,
    decode_backend,
    decode_frontend,
    truncate_name,
)
from proxyd.tape.entries import Reply, ReplyDigest, Request
from proxyd.tape.postgres_values import Result, error_lines, parameter_line
from proxyd.tape.screen import plain, plain_lines, shortened

MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
MAX_STATEMENTS: Final = 10_000
"""Remembered prepared statements, and portals."""
MAX_OPEN_BATCHES: Final = 1024
MAX_STATEMENT_CHARACTERS: Final = 100_000
MAX_COPIED_BYTES: Final = 400
"""Of one line of COPY data."""
_PROMPTS: Final = {"I": "=>", "T": "=*>", "E": "=!>"}


class _Statement:
    __slots__ = ("fields", "parameter_types", "shown_in", "text")

    def __init__(self, text: str, parameter_types: tuple[int, ...]) -> None:
        self.text = text
        self.parameter_types = parameter_types
        self.fields: tuple[FieldDescription, ...] | None = None
        self.shown_in: int | None = None


class _Portal:
    __slots__ = ("bound_in", "fields", "formats", "statement")

    def __init__(self, statement: _Statement | None, formats: tuple[int, ...], operation: int) -> None:
        self.statement = statement
        self.formats = formats
        self.fields: tuple[FieldDescription, ...] | None = None
        self.bound_in: int | None = operation

    def result(self, max_rows: int) -> Result:
        if self.fields is not None:
            return Result(self.fields, None, max_rows)
        fields = self.statement.fields if self.statement is not None else None
        return Result(fields, self.formats, max_rows)


class _Step:
    """What the target still has to answer. `subject`: whom a description is about, what an execution
    runs.
    """

    __slots__ = ("kind", "subject")

    def __init__(self, kind: str, subject: _Statement | _Portal | None = None) -> None:
        self.kind = kind
        self.subject = subject


class _Batch:
    __slots__ = ("began_us", "codec", "copied", "copied_bytes", "is_skipping", "result", "steps")

    def __init__(self, began_us: int) -> None:
        self.began_us = began_us
        self.codec: BackendCodec | None = BackendCodec(MAX_MESSAGE_BYTES)
        self.steps: deque[_Step] = deque()
        self.is_skipping = False
        self.result: Result | None = None
        self.copied: list[str] = []
        self.copied_bytes = 0


NamedT = TypeVar("NamedT", _Statement, _Portal)


class PostgresView:
    """Turns requests and replies into lines. `max_rows` of a result are shown; the others are counted."""

    def __init__(self, target: str, *, max_rows: int) -> None:
        self._target = target
        self._max_rows = max_rows
        self._status = "I"
        self._frontend = FrontendCodec(MAX_MESSAGE_BYTES)
        self._statements: dict[bytes, _Statement] = {}
        self._portals: dict[bytes, _Portal] = {}
        self._batches: dict[int, _Batch] = {}
        self._sent_rows = 0
        self._sent_bytes = 0

    def request(self, entry: Request) -> Iterator[str]:
        batch = self._batch(entry.operation, entry.at_us)
        try:
            frames = self._frontend.receive(entry.raw)
        except ProtocolError as fault:
            self._frontend = FrontendCodec(MAX_MESSAGE_BYTES)
            yield f"-- {len(entry.raw)} bytes that are no messages: {plain(fault.message)}"
            return
        for frame in frames:
            try:
                message = decode_frontend(frame)
            except ProtocolError as fault:
                yield f"-- a message of type {plain(chr(frame.type))}: {plain(fault.message)}"
                yield f"   {shortened(repr(frame.body), 400)}"
                continue
            yield from self._sent(message, batch, entry.operation)

    def reply(self, entry: Reply) -> Iterator[str]:
        batch = self._batch(entry.operation, entry.at_us)
        if batch.codec is None:
            return
        try:
            events = batch.codec.receive(entry.raw)
        except ProtocolError as fault:
            batch.codec = None
            yield f"-- {len(entry.raw)} bytes that are no messages: {plain(fault.message)}"
            return
        for event in events:
            yield from self._received(event, batch, entry)

    def digest(self, entry: ReplyDigest) -> Iterator[str]:
        batch = self._batches.pop(entry.operation, None)
        if batch is not None:
            yield from self._finish_result(batch, "(the rest of this result is not on the tape)")
        digest = entry.sha256.hex()
        yield f"-- {entry.omitted} more bytes were sent that are not on the tape, sha256 {digest}"
        if batch is not None:
            yield _time(entry.at_us - batch.began_us)

    def finish(self) -> Iterator[str]:
        """What is left when the tape ends in the middle."""
        for batch in self._batches.values():
            yield from self._finish_result(batch, "(the tape ends here)")
        self._batches.clear()

    # From the client

    def _sent(self, message: FrontendMessage, batch: _Batch, operation: int) -> Iterator[str]:
        match message:
            case Query(text):
                self._expect(batch, _Step("query"))
                yield from self._statement(text)
            case Parse(name, text, types):
                self._expect(batch, _Step("parse"))
                statement = _Statement(text, types)
                statement.shown_in = operation
                _remember(self._statements, truncate_name(name), statement)
                yield from self._statement(text)
                if name:
                    yield f"-- prepared as {_name(name)}"
            case Bind():
                yield from self._bind(message, batch, operation)
            case Describe(kind, name):
                key = truncate_name(name)
                subject = self._statements.get(key) if kind == "S" else self._portals.get(key)
                self._expect(batch, _Step("describe", subject))
            case Execute(name, max_rows):
                portal = self._portals.get(truncate_name(name))
                self._expect(batch, _Step("execute", portal))
                if portal is None or portal.bound_in is None:
                    yield f"-- continue {_name(name) or 'the unnamed portal'}"
                if portal is not None:
                    portal.bound_in = None
                if max_rows:
                    yield f"-- at most {max_rows} rows"
            case Close(kind, name):
                self._expect(batch, _Step("close"))
                known: dict[bytes, _Statement] | dict[bytes, _Portal]
                known = self._statements if kind == "S" else self._portals
                known.pop(truncate_name(name), None)
            case Sync():
                batch.is_skipping = False
                batch.steps.append(_Step("sync"))
            case FunctionCall(function):
                self._expect(batch, _Step("query"))
                yield f"-- call of the function with OID {function}"
            case CopyData(data):
                yield from self._copy_in(data)
            case CopyDone():
                yield from self._copy_in_end("")
            case CopyFail(reason):
                yield from self._copy_in_end(f"; given up by the client: {plain(reason)}")
            case Terminate():
                yield "-- the client says good-bye"
            case _:
                pass

    def _bind(self, message: Bind, batch: _Batch, operation: int) -> Iterator[str]:
        statement = self._statements.get(truncate_name(message.statement))
        self._expect(batch, _Step("bind"))
        portal = _Portal(statement, message.result_formats, operation)
        _remember(self._portals, truncate_name(message.portal), portal)
        if statement is None:
            yield f"-- execute {_name(message.statement) or 'the unnamed statement'}"
        elif statement.shown_in != operation:
            yield from self._statement(statement.text)
            statement.shown_in = operation
        if message.parameters:
            types = statement.parameter_types if statement is not None else ()
            yield parameter_line(message.parameters, message.parameter_formats, types)

    def _statement(self, text: str) -> Iterator[str]:
        prompt = f"{plain(self._target)}{_PROMPTS[self._status]} "
        lines = plain_lines(shortened(text.rstrip(), MAX_STATEMENT_CHARACTERS))
        yield prompt + lines[0]
        for line in lines[1:]:
            yield " " * len(prompt) + line

    def _copy_in(self, data: bytes) -> Iterator[str]:
        self._sent_rows += 1
        self._sent_bytes += len(data)
        if self._sent_rows <= self._max_rows:
            yield ">> " + _copied_line(data)

    def _copy_in_end(self, remark: str) -> Iterator[str]:
        yield f"-- {self._sent_rows} pieces, {self._sent_bytes} bytes sent{remark}"
        self._sent_rows = self._sent_bytes = 0

    def _expect(self, batch: _Batch, step: _Step) -> None:
        if not batch.is_skipping:
            batch.steps.append(step)

    # From the target, or the gateway in its place

    def _received(self, event: Frame | RowRun | RowPart, batch: _Batch, entry: Reply) -> Iterator[str]:
        if isinstance(event, RowRun):
            self._rows(event, batch)
            return
        if isinstance(event, RowPart):
            if event.first:
                self._row_too_large(event, batch)
            return
        try:
            message = decode_backend(event)
        except ProtocolError as fault:
            yield f"-- a message of type {plain(chr(event.type))}: {plain(fault.message)}"
            return
        match message:
            case RowDescription(fields):
                self._described(batch, fields)
            case ParameterDescription(types):
                self._parameters_described(batch, types)
            case CommandComplete(tag):
                yield from self._complete(batch, plain(tag))
            case ErrorResponse(fields=error):
                yield from self._failed(batch, error)
            case NoticeResponse(fields=notice):
                yield from error_lines(notice)
            case NotificationResponse(process, channel, payload):
                text = f' with payload "{plain(payload)}"' if payload else ""
                yield f'Asynchronous notification "{plain(channel)}"{text} from process {process}.'
            case ParameterStatus(name, value):
                yield f"-- {plain(name)} is now {plain(value)}"
            case CopyResponse(direction):
                yield f"-- COPY {plain(direction)}"
            case ReadyForQuery(status):
                self._status = status
                yield from self._finish_result(batch, "")
                self._batches.pop(entry.operation, None)
                yield _time(entry.at_us - batch.began_us)
            case Marker(kind):
                yield from self._marked(batch, kind)
            case _:
                yield f"-- {type(message).__name__}"

    def _rows(self, run: RowRun, batch: _Batch) -> None:
        if run.type == Backend.COPY_DATA:
            self._copy_out(run, batch)
        else:
            self._open_result(batch).add(run)

    def _row_too_large(self, part: RowPart, batch: _Batch) -> None:
        if part.type == Backend.COPY_DATA:
            batch.copied_bytes += len(part.raw)
            batch.copied.append("(a row too large to show)")
        else:
            self._open_result(batch).skip()

    def _open_result(self, batch: _Batch) -> Result:
        if batch.result is None:
            step = batch.steps[0] if batch.steps else None
            if step is not None and isinstance(step.subject, _Portal):
                batch.result = step.subject.result(self._max_rows)
            else:
                batch.result = Result(None, (), self._max_rows)
        return batch.result

    def _copy_out(self, run: RowRun, batch: _Batch) -> None:
        position, raw = 0, run.raw
        while position < len(raw):
            stop = position + 1 + int.from_bytes(raw[position + 1 : position + HEADER_BYTES], "big")
            data = raw[position + HEADER_BYTES : stop]
            batch.copied_bytes += len(data)
            if len(batch.copied) < self._max_rows:
                batch.copied.append(_copied_line(data))
            position = stop

    def _described(self, batch: _Batch, fields: tuple[FieldDescription, ...]) -> None:
        step = batch.steps[0] if batch.steps else None
        if step is not None and step.kind == "describe":
            batch.steps.popleft()
            if step.subject is not None:
                step.subject.fields = fields
        else:
            batch.result = Result(fields, None, self._max_rows)

    def _parameters_described(self, batch: _Batch, types: tuple[int, ...]) -> None:
        if batch.steps and isinstance(batch.steps[0].subject, _Statement):
            batch.steps[0].subject.parameter_types = types

    def _complete(self, batch: _Batch, tag: str) -> Iterator[str]:
        has_rows = batch.result is not None or bool(batch.copied)
        if not has_rows and tag.startswith("SELECT") and batch.steps and batch.steps[0].kind == "execute":
            self._open_result(batch)
            has_rows = True
        yield from self._finish_result(batch, "")
        if not has_rows or not tag.startswith("SELECT"):
            yield tag
        self._settle(batch, "execute")

    def _finish_result(self, batch: _Batch, remark: str) -> Iterator[str]:
        if batch.result is not None:
            yield from batch.result.lines()
            batch.result = None
            if remark:
                yield remark
        if batch.copied:
            yield from batch.copied
            yield f"-- {batch.copied_bytes} bytes copied out {remark}".rstrip()
            batch.copied, batch.copied_bytes = [], 0

    def _failed(self, batch: _Batch, error: ErrorFields) -> Iterator[str]:
        yield from self._finish_result(batch, "(then it failed)")
        yield from error_lines(error)
        steps = batch.steps
        if steps and steps[0].kind == "query":
            return
        while steps and steps[0].kind != "sync":
            steps.popleft()
        batch.is_skipping = not steps

    def _marked(self, batch: _Batch, kind: int) -> Iterator[str]:
        match kind:
            case Backend.PARSE_COMPLETE:
                self._settle(batch, "parse")
            case Backend.BIND_COMPLETE:
                self._settle(batch, "bind")
            case Backend.CLOSE_COMPLETE:
                self._settle(batch, "close")
            case Backend.NO_DATA:
                self._settle(batch, "describe")
            case Backend.PORTAL_SUSPENDED:
                yield from self._finish_result(batch, "")
                yield "-- more rows wait in the portal"
                self._settle(batch, "execute")
            case Backend.EMPTY_QUERY_RESPONSE:
                yield "-- empty statement"
                self._settle(batch, "execute")
            case _:
                pass

    def _settle(self, batch: _Batch, kind: str) -> None:
        if batch.steps and batch.steps[0].kind == kind:
            batch.steps.popleft()

    def _batch(self, operation: int, at_us: int) -> _Batch:
        batch = self._batches.get(operation)
        if batch is None:
            if len(self._batches) >= MAX_OPEN_BATCHES:
                del self._batches[next(iter(self._batches))]
            batch = self._batches[operation] = _Batch(at_us)
        return batch


def _remember(known: dict[bytes, NamedT], name: bytes, value: NamedT) -> None:
    known.pop(name, None)
    known[name] = value
    if len(known) > MAX_STATEMENTS:
        del known[next(iter(known))]


def _copied_line(data: bytes) -> str:
    return shortened(plain(_text(data[:MAX_COPIED_BYTES].rstrip(b"\n"))), MAX_COPIED_BYTES)


def _time(elapsed_us: int) -> str:
    return f"-- {elapsed_us / 1000:.3f} ms"


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _name(name: bytes) -> str:
    return plain(_text(name))
