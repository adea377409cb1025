"""The log: what a line looks like, what never gets into it, and that it harms nobody."""

from __future__ import annotations

import io
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from proxyd.telemetry import Telemetry


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def test_a_line(stream: io.StringIO) -> None:
    Telemetry(stream=stream).log.bind(session="0123").warning("connection refused", reason="why")
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0)
    assert (line["level"], line["event"]) == ("warning", "connection refused")
    assert (line["session"], line["reason"]) == ("0123", "why")


def test_one_line_whatever_is_in_it(stream: io.StringIO) -> None:
    Telemetry(stream=stream).log.info("x", reason='a\nb\r\0"}\u2028', thing=b"\xff", more={"a": (1, object)})
    assert stream.getvalue().count("\n") == 1
    assert lines(stream)[0]["reason"] == 'a\nb\r\0"}\u2028'


def test_level(stream: io.StringIO) -> None:
    telemetry = Telemetry("warning", stream)
    bound = telemetry.log.bind(session="1")
    bound.info("quiet")
    telemetry.set_level("debug")
    bound.debug("loud")
    telemetry.set_level("error")
    bound.warning("quiet again")
    bound.error("still heard")
    assert [line["event"] for line in lines(stream)] == ["loud", "still heard"]


def test_unknown_level() -> None:
    with pytest.raises(KeyError):
        Telemetry("loud")


def test_exceptions_are_one_line_without_local_values(stream: io.StringIO) -> None:
    telemetry = Telemetry(stream=stream)
    hidden = "hunter" + "2"
    try:
        raise ValueError(len(hidden))
    except ValueError:
        telemetry.log.exception("session crashed")
    (line,) = lines(stream)
    assert line["level"] == "error"
    assert "ValueError: 7" in line["exception"]
    assert hidden not in stream.getvalue()


@pytest.mark.parametrize("name", ["password", "PGPASSWORD", "secret_key", "access_token", "Authorization"])
def test_values_that_smell_of_secrets_are_withheld(stream: io.StringIO, name: str) -> None:
    Telemetry(stream=stream).log.bind(**{name: "hunter2"}).info("x")
    assert lines(stream)[0][name] == "[withheld]"
    assert "hunter2" not in stream.getvalue()


def test_long_values_are_cut(stream: io.StringIO) -> None:
    Telemetry(stream=stream).log.info("x", reason="a" * 1_000_000)
    assert len(stream.getvalue()) < 6000
    assert lines(stream)[0]["reason"].endswith("(1000000 characters)")


def test_a_log_that_cannot_be_written_is_counted_and_harms_nobody() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    telemetry = Telemetry(stream=Full())
    telemetry.log.info("x")
    closed = io.StringIO()
    closed.close()
    lost = Telemetry(stream=closed)
    lost.log.info("x")
    assert (telemetry.lost_lines, lost.lost_lines) == (1, 1)
