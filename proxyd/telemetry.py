"""Logs: one JSON object a line on stderr, UTC, with the session's id on each line that belongs to a session.

Owns how a line looks, which lines are kept, and that writing one never harms a session: a line that cannot be
written is counted and dropped (the record of what happened is the tape, not the log). Never called once a
message or a row: a session binds its id with `log.bind(session=...)` and logs a few lines in its life.
Secrets have no place here; values under names that smell of one are withheld as a second line of defence.
"""

from __future__ import annotations

import json
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

Log = FilteringBoundLogger

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_METHOD_LEVELS = {**LEVELS, "warn": 30, "exception": 40, "fatal": 50}

_SECRET_WORDS = ("password", "passwd", "secret", "token", "authorization", "cancel_key", "private_key")
_WITHHELD = "[withheld]"
_MAX_VALUE_CHARS = 4096
_MAX_TRACEBACK_CHARS = 32 * 1024


class Telemetry:
    """The log of one daemon. `log` is the root logger; `lost_lines` counts lines that could not be written.

    The level can change while loggers bound earlier are alive: they follow.
    """

    def __init__(self, level: str = "info", stream: TextIO | None = None) -> None:
        self._threshold = LEVELS[level]
        self._stream = stream
        self.lost_lines = 0
        logger = structlog.wrap_logger(
            _Writer(self),
            processors=[
                self._drop_below_threshold,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
                structlog.processors.format_exc_info,
                _withhold_secrets,
                _clip,
                _lead_with_time,
                structlog.processors.JSONRenderer(serializer=_serialize),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug"]),
        )
        self.log = cast(Log, logger.bind())

    def set_level(self, level: str) -> None:
        """Raises KeyError for a level that is none of `LEVELS`."""
        self._threshold = LEVELS[level]

    def write(self, line: str) -> None:
        stream = self._stream or sys.stderr
        try:
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.lost_lines += 1

    def _drop_below_threshold(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if _METHOD_LEVELS[method] < self._threshold:
            raise structlog.DropEvent
        return event


class _Writer:
    """What structlog wraps: every method of a logger ends in one write."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def msg(self, line: str) -> None:
        self._telemetry.write(line)

    debug = info = warn = warning = error = critical = exception = fatal = log = failure = err = msg


def _withhold_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = _WITHHELD
    return event


def _clip(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        limit = _MAX_TRACEBACK_CHARS if key == "exception" else _MAX_VALUE_CHARS
        if isinstance(value, str) and len(value) > limit:
            event[key] = f"{value[:limit]}... ({len(value)} characters)"
    return event


def _lead_with_time(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """People read the first three fields of a line: when, how bad, what."""
    first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    return {**first, **event}


def _serialize(event: EventDict, **_: object) -> str:
    return json.dumps(event, default=str, skipkeys=True)
