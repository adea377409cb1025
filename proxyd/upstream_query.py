"""Statements of the gateway's own on a connection that carries no client: the catalog's loader, small probes.

Simple protocol, values in text. Everything is bounded: the rows, their bytes, the time. Not for the relay: it
must not run while anybody else reads from the connection.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from protocols.errors import ProtocolError
from protocols.postgres.codec import Frame
from protocols.postgres.message_types import Backend
from protocols.postgres.messages import (
    CommandComplete,
    ErrorFields,
    ErrorResponse,
    Marker,
    NoticeResponse,
    NotificationResponse,
    ParameterStatus,
    Query,
    ReadyForQuery,
    RowDescription,
    decode_backend,
)
from protocols.postgres.rows import split_rows
from proxyd.tls_engine import TlsError
from proxyd.upstream import UpstreamConnection
from proxyd.upstream_errors import broken_off, failed_query, out_of_protocol
from proxyd.upstream_wire import MessageReader, PeerClosed

Row = tuple[str | None, ...]

QUERY_TIMEOUT_S = 10.0
MAX_ROWS = 10_000
MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one answer may come to. `bytes` counts whole messages."""

    rows: int = MAX_ROWS
    bytes: int = MAX_BYTES
    deadline_s: float = QUERY_TIMEOUT_S


DEFAULT_LIMITS = QueryLimits()


async def query(connection: UpstreamConnection, sql: str, limits: QueryLimits = DEFAULT_LIMITS) -> list[Row]:
    """The rows of `sql` (of its last statement that gives any), text format; None is NULL.

    Raises UpstreamQueryError when the target refuses the statement: the connection goes on. Raises
    UpstreamError when the connection is lost, too slow or over a limit: it `is_broken` then, close it.
    """
    target = connection.target.name
    if connection.is_broken:
        raise broken_off(target, "this connection was left in the middle of an exchange")
    connection.is_broken = True
    reader = MessageReader(connection.stream, limits.bytes)
    reader.put_back(connection.leftover)
    try:
        with trio.fail_after(limits.deadline_s):
            await connection.stream.send_all(Query(sql).encode())
            answer = _Answer(connection, limits)
            while not answer.is_complete:
                answer.take(await reader.frame())
    except trio.TooSlowError as error:
        raise broken_off(target, f"no answer within {limits.deadline_s:g} s") from error
    except (PeerClosed, TlsError, OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
        raise broken_off(target, str(error) or "connection lost") from error
    except ProtocolError as error:
        raise out_of_protocol(target, error.message) from error
    connection.leftover = reader.take_rest()
    connection.is_broken = False
    if answer.error is not None:
        raise failed_query(target, answer.error)
    return answer.rows


class _Answer:
    """What one Query brings, up to its ReadyForQuery."""

    def __init__(self, connection: UpstreamConnection, limits: QueryLimits) -> None:
        self._connection = connection
        self._limits = limits
        self._bytes = 0
        self.rows: list[Row] = []
        self.error: ErrorFields | None = None
        self.is_complete = False

    def take(self, frame: Frame) -> None:
        """Raises ProtocolError, UpstreamError."""
        self._bytes += len(frame.raw)
        if self._bytes > self._limits.bytes:
            raise out_of_protocol(
                self._connection.target.name, f"an answer of more than {self._limits.bytes} bytes"
            )
        if frame.type == Backend.DATA_ROW:
            self._take_row(frame.raw)
            return
        match decode_backend(frame):
            case ReadyForQuery(status):
                self._connection.transaction_status = status
                self.is_complete = True
            case RowDescription():
                self.rows = []
            case ErrorResponse(fields):
                self.error = fields
            case ParameterStatus(name, value):
                self._connection.parameters[name] = value
            case CommandComplete() | NoticeResponse() | NotificationResponse():
                pass
            case Marker(kind) if kind == Backend.EMPTY_QUERY_RESPONSE:
                pass
            case message:
                # COPY would wait for us for ever; the rest does not belong to a Query.
                name = type(message).__name__
                raise out_of_protocol(self._connection.target.name, f"{name} in answer to a query")

    def _take_row(self, raw: bytes) -> None:
        if len(self.rows) >= self._limits.rows:
            target = self._connection.target.name
            raise out_of_protocol(target, f"an answer of more than {self._limits.rows} rows")
        try:
            self.rows += [
                tuple(None if value is None else value.decode() for value in values)
                for values in split_rows(raw)
            ]
        except UnicodeDecodeError as error:
            target = self._connection.target.name
            raise out_of_protocol(target, "a value that is not UTF-8") from error
