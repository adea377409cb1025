"""`proxyd tape` and `proxyd sessions watch` on sessions of HTTP."""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest

from proxyd.cli import tape as cli
from proxyd.cli.watching import JsonShow, ViewShow, chosen_show, watch
from proxyd.tape.reader import read_tape
from tests.proxyd.tape.http_tapes import ALLOWED, DENIED, facts, get, http_tape, small_http_tape
from tests.proxyd.tape.tapes import Clock


def proxyd(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="proxyd")
    cli.add_parser(parser.add_subparsers())
    options = parser.parse_args(["tape", *arguments])
    return int(options.run(options))


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proxyd("show", str(small_http_tape(tmp_path))) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "-- http to api as default"
    assert "-- denied by no-delete: Nothing is deleted here. (Ask.)" in lines
    assert '< {"name": "Ada"}' in lines
    assert lines[-1] == "-- session ended: client left"


def test_show_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_http_tape(tmp_path)
    assert proxyd("show", "--json", str(path)) == 0
    frames = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with read_tape(path) as tape:
        assert len(frames) == len(list(tape.entries())) + 2
    assert frames[0]["protocol"] == "http"
    requests = [frame for frame in frames if frame["kind"] == "http_request"]
    assert [frame["method"] for frame in requests] == ["GET", "POST", "GET", "GET"]
    judgement = next(frame for frame in frames if frame["kind"] == "judgement")
    assert judgement["facts"][0]["host"] == "api.internal"
    assert judgement["facts"][0]["body_state"] == "none"
    assert judgement["decisions"][0]["effect"] == "allow"
    assert frames[-1]["verdict"] == "whole"


def test_ls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_http_tape(tmp_path, session="s1")
    clock = Clock()
    torn = http_tape(tmp_path, clock, session="s2")
    get(torn, clock)
    get(torn, clock, 2, decision=DENIED)
    torn.close()
    assert proxyd("ls", "--json", "--directory", str(tmp_path)) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["state"], one["operations"], one["denials"]) for one in listed] == [
        ("ended", 4, 1),
        ("torn", 2, 1),
    ]


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_http_tape(tmp_path)
    assert proxyd("verify", str(path)) == 0
    path.write_bytes(path.read_bytes().replace(b"customers/7", b"customers/8"))
    assert proxyd("verify", str(path)) == 2
    assert "TAMPERED WITH" in capsys.readouterr().out


def test_play(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proxyd("play", "--speed", "0", str(small_http_tape(tmp_path))) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line.partition(";")[0].partition(",")[0] for line in lines if " -> " in line]
    assert told == [
        "-- [1] GET https://api.internal/v1/customers/7 -> 200",
        "-- [2] POST https://api.internal/v1/chat -> 200",
        "-- [3] GET https://api.internal/v1/customers/7 -> 403 by the gateway",
        "-- [4] GET https://api.internal/ws -> 101",
    ]
    assert "[2] < data: two" in lines


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
def test_watch(tmp_path: Path, piece: int) -> None:
    data = small_http_tape(tmp_path).read_bytes()
    out = io.StringIO()
    pieces = (data[start : start + piece] for start in range(0, len(data), piece))
    end = watch(pieces, ViewShow(out, max_rows=10), new_from=0)
    assert end is not None
    assert "-- [2] tool call search" in out.getvalue()
    assert out.getvalue().endswith("-- session ended: client left\n")


def test_watch_from_the_middle_knows_what_was_before(tmp_path: Path) -> None:
    """The request and its judgement are old, and the answer's line has them all the same."""
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock)
    before = tape.path.stat().st_size
    get(tape, clock, 2)
    tape.end("left")
    out, lines = io.StringIO(), io.StringIO()
    watch([tape.path.read_bytes()], ViewShow(out, max_rows=10), new_from=before)
    shown = out.getvalue().splitlines()[4:]
    assert [line.partition(",")[0] for line in shown] == [
        "-- [2] GET https://api.internal/v1/customers/7 -> 200",
        "-- session ended: left",
    ]
    assert shown[0].endswith("allowed by read-customers: allowed")
    watch([tape.path.read_bytes()], JsonShow(lines), new_from=before)
    kinds = [json.loads(line)["kind"] for line in lines.getvalue().splitlines()]
    assert kinds == ["header", "http_request", "http_response", "end"]


def test_a_watcher_is_told_what_goes_on(tmp_path: Path) -> None:
    """A WebSocket that was opened before, and none of what is over."""
    clock = Clock()
    tape = http_tape(tmp_path, clock)
    get(tape, clock)
    for number in (2, 3):
        tape.request(number, "GET", f"https://api.internal/ws{number}", "1.1", (), facts(), ALLOWED)
        tape.response(number, 101, (), made_here=False)
        tape.message(number, True, "text", b"before")
    tape.aborted(3, "gone")
    tape.flush()
    before = tape.path.stat().st_size
    tape.message(2, False, "text", b"behind")
    tape.event("watched", {"uid": 0})
    tape.end("left")
    out = io.StringIO()
    watch([tape.path.read_bytes()], ViewShow(out, max_rows=10), new_from=before)
    assert out.getvalue().splitlines()[4:] == [
        "-- [2] GET https://api.internal/ws2 -> 101; allowed by read-customers: allowed",
        "[2] < behind",
        "-- event watched: uid: 0",
        "-- [2] ended: 6 bytes up, 6 down, 0.0 ms",
        "-- session ended: left",
    ]


def test_on_a_terminal_http_is_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show = chosen_show("http", is_json=False, as_lines=False, max_rows=1, channel=None)
    assert isinstance(show, ViewShow)
    assert not show.is_terminal
