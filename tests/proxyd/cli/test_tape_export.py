from __future__ import annotations

import argparse
import json
import os
import stat
from pathlib import Path

import pytest

from proxyd.cli import tape as cli
from tests.proxyd.tape.casts import read_cast
from tests.proxyd.tape.http_tapes import small_http_tape
from tests.proxyd.tape.ssh_tapes import small_ssh_tape, terminal_tape
from tests.proxyd.tape.tapes import Clock, small_tape


def proxyd(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="proxyd")
    cli.add_parser(parser.add_subparsers())
    options = parser.parse_args(["tape", *arguments])
    return int(options.run(options))


@pytest.mark.parametrize("version", [2, 3])
def test_to_standard_output_and_to_a_file(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], version: int
) -> None:
    arguments = (
        "export",
        str(small_ssh_tape(tmp_path)),
        *("--format", "asciicast", "--asciicast-version", str(version), "--idle-limit", "2s"),
    )
    assert proxyd(*arguments) == 0
    out = capfdbinary.readouterr().out
    found = read_cast(out)
    assert found.header["version"] == version
    assert found.header["idle_time_limit"] == 2.0
    file = tmp_path / "out.cast"
    assert proxyd(*arguments, "--output", str(file)) == 0
    assert file.read_bytes() == out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_version_2_is_the_default(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert proxyd("export", str(small_ssh_tape(tmp_path)), "--channel", "0") == 0
    assert read_cast(capfdbinary.readouterr().out).header["version"] == 2


def test_a_file_that_exists_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.cast"
    file.write_text("mine")
    assert proxyd("export", str(small_ssh_tape(tmp_path)), "-o", str(file)) == 3
    assert file.read_text() == "mine"
    assert f"cannot write {file}: File exists" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [(), ("--channel", "9")])
def test_what_has_no_terminal_is_refused_and_leaves_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    path = small_ssh_tape(tmp_path) if arguments else small_tape(tmp_path)
    file = tmp_path / "out.cast"
    assert proxyd("export", str(path), "-o", str(file), *arguments) == 3
    assert "terminal" in capsys.readouterr().err
    assert not file.exists()


def test_a_torn_tape_and_a_forged_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = terminal_tape(tmp_path, Clock())
    tape.output(0, 1, b"$ ")
    tape.output(0, 1, b"ls")
    tape.close()
    file = tmp_path / "out.cast"
    os.truncate(tape.path, tape.path.stat().st_size - 1)
    assert proxyd("export", str(tape.path), "-o", str(file)) == 0
    assert read_cast(file.read_bytes()).output() == "$ "
    assert "torn" in capsys.readouterr().err
    tape.path.write_bytes(b"not a tape")
    assert proxyd("export", str(tape.path)) == 2
    assert "TAMPERED" in capsys.readouterr().err


def test_har_is_the_default_for_http(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    path = str(small_http_tape(tmp_path))
    assert proxyd("export", path) == 0
    out = capfdbinary.readouterr().out
    log = json.loads(out)["log"]
    assert log["version"] == "1.2"
    assert [entry["response"]["status"] for entry in log["entries"]] == [200, 200, 403, 101]
    assert log["comment"].startswith("whole: ")
    file = tmp_path / "out.har"
    assert proxyd("export", path, "--format", "har", "--output", str(file)) == 0
    assert file.read_bytes() == out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert proxyd("export", path, "--output", str(file)) == 3
    assert file.read_bytes() == out


@pytest.mark.parametrize("format_", ["har", "asciicast"])
def test_a_format_of_another_protocol_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], format_: str
) -> None:
    path = small_http_tape(tmp_path) if format_ == "asciicast" else small_ssh_tape(tmp_path)
    file = tmp_path / "out"
    assert proxyd("export", str(path), "--format", format_, "-o", str(file)) == 3
    assert not file.exists()
    assert "`proxyd tape show` prints it" in capsys.readouterr().err


def test_a_tape_of_http_that_was_tampered_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_http_tape(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"Ada", b"Eve"))
    assert proxyd("export", str(path)) == 2
    out, err = capsys.readouterr()
    log = json.loads(out)["log"]
    assert log["comment"].startswith("TAMPERED WITH")
    assert [entry["response"]["status"] for entry in log["entries"]] == [0]
    assert "TAMPERED WITH" in err
