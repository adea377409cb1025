from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from proxyd.cli import tape as cli
from proxyd.tape.reader import read_tape
from tests.proxyd.tape.tapes import STARTED_AT, record, small_tape


def proxyd(*arguments: str) -> int:
    parser = argparse.ArgumentParser(prog="proxyd")
    cli.add_parser(parser.add_subparsers())
    options = parser.parse_args(["tape", *arguments])
    return int(options.run(options))


def damage(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# verify


def test_a_whole_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tape = record(tmp_path)
    tape.request(1, (), b"x")
    chain = tape.end("done")
    assert proxyd("verify", str(tape.path)) == 0
    assert capsys.readouterr().out == f"{tape.path}: whole: 3 frames, chain {chain}\n"
    assert proxyd("verify", str(tape.path), "--chain", chain.upper()) == 0


def test_a_torn_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_tape(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert proxyd("verify", str(path)) == 1
    out = capsys.readouterr().out
    with read_tape(path) as tape:
        assert f"torn at byte {tape.verdict.offset}" in out
    assert "6 frames before it are good" in out


def test_a_tape_that_was_tampered_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_tape(tmp_path)
    damage(path, 60)
    assert proxyd("verify", str(path)) == 2
    assert "TAMPERED WITH at byte 8" in capsys.readouterr().out


def test_a_tape_that_was_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = record(tmp_path / "a")
    chain = original.end("done")
    forged = record(tmp_path / "b", login="admin")
    forged.end("done")
    assert proxyd("verify", str(forged.path)) == 0
    assert proxyd("verify", str(forged.path), "--chain", chain) == 2
    assert "the final hash is not" in capsys.readouterr().out


def test_a_live_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = record(tmp_path)
    assert proxyd("verify", str(recorder.path)) == 1
    assert "still being written" in capsys.readouterr().out
    recorder.close()


def test_any_cut_and_any_flip_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_tape(tmp_path)
    data = path.read_bytes()
    for at in range(0, len(data), 7):
        path.write_bytes(data[:at])
        assert proxyd("verify", str(path)) == 1
        path.write_bytes(data)
        damage(path, at)
        assert proxyd("verify", str(path)) in (1, 2)
    capsys.readouterr()


# Which tape


def test_by_id_prefix_and_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_tape(tmp_path, session="abc")
    small_tape(tmp_path, session="abd")
    for reference in ("abc", str(next(tmp_path.rglob("*abc.tape")))):
        assert proxyd("verify", reference, "--directory", str(tmp_path)) == 0
    assert proxyd("verify", "ab", "--directory", str(tmp_path)) == 3
    assert "begins 2 session ids" in capsys.readouterr().err
    assert proxyd("verify", "x", "--directory", str(tmp_path)) == 3
    assert "no tape" in capsys.readouterr().err
    assert proxyd("verify", str(tmp_path / "none.tape")) == 3
    assert "cannot open" in capsys.readouterr().err


def test_the_directory_comes_from_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "proxyd.yaml"
    config.write_text(CONFIG)
    small_tape(tmp_path / "tapes")
    assert proxyd("ls", "--config", str(config)) == 0
    assert "s1a2b3" in capsys.readouterr().out
    assert proxyd("verify", "s1a", "-c", str(config)) == 0
    config.write_text("version: 7\n")
    assert proxyd("ls", "--config", str(config)) == 3
    assert "proxyd.yaml:1" in capsys.readouterr().err


CONFIG = """\
version: 1
listeners:
  - {name: pg, protocol: postgres, address: "127.0.0.1:0", tls: {certificate: c, key: k, client_ca: a}}
targets:
  - name: shop
    protocol: postgres
    address: 127.0.0.1:5432
    database: shop
    tls: {mode: disable}
    logins: [{name: readonly, password: {environment: X}}]
    catalog: {login: readonly}
policy: policy.yaml
tapes: {directory: tapes}
"""


# ls


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert proxyd("ls", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("SESSION")
    return [line.split()[0] for line in lines[1:]]


def test_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from policy.facts import Subject

    place = ("--directory", str(tmp_path))
    small_tape(tmp_path, session="a")
    small_tape(tmp_path, session="b", subject=Subject("bob\x1b"), started_at=STARTED_AT + 90_000)
    small_tape(tmp_path, session="c", target="other", started_at=STARTED_AT + 180_000)
    assert listed(capsys, *place) == ["a", "b", "c"]
    assert listed(capsys, *place, "--subject", "alice") == ["a", "c"]
    assert listed(capsys, *place, "--target", "other") == ["c"]
    assert listed(capsys, *place, "--since", "2025-07-21") == ["b", "c"]
    assert listed(capsys, *place, "--since", "2025-07-22T12:00:00+02:00") == ["c"]
    assert listed(capsys, *place, "--since", "1h") == []
    assert listed(capsys, *place, "--since", "200000d") == ["a", "b", "c"]
    proxyd("ls", *place)
    out = capsys.readouterr().out
    assert "bob\\x1b" in out
    assert "2025-07-20 08:26:40  1.0s" in out


def test_the_list_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_tape(tmp_path)
    assert proxyd("ls", "--directory", str(tmp_path), "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    summary = json.loads(line)
    assert summary["header"]["subject"]["name"] == "alice"
    assert (summary["state"], summary["denials"], summary["duration_us"]) == ("ended", 1, 1_003_000)
    assert Path(summary["path"]).is_file()


def test_a_tape_that_cannot_be_read_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_tape(tmp_path, session="a")
    small_tape(tmp_path, session="c")
    broken = tmp_path / "2025-07-20" / "082640-b.tape"
    broken.write_bytes(b"PXDTAPE\x01" + bytes(100))
    assert listed(capsys, "--directory", str(tmp_path), "--subject", "alice") == ["a", "b", "c"]
    assert proxyd("ls", "--directory", str(tmp_path / "none")) == 3
    assert "cannot list" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("ls", "--since", "yesterday"),
        ("ls", "--config", "a", "--directory", "b"),
        ("play", "x", "--speed", "-1"),
        ("play", "x", "--speed", "nan"),
        ("play", "x", "--speed", "fast"),
        ("play", "x", "--idle-limit", "1"),
        ("play", "x", "--seek", "-1s"),
        ("play", "x", "--channel", "one"),
        ("export", "x", "--format", "gif"),
        ("export", "x", "--asciicast-version", "1"),
        ("show", "x", "--rows", "-3"),
        ("show",),
        (),
    ],
)
def test_wrong_command_lines(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        proxyd(*arguments)
    assert leaving.value.code == 2
    assert "usage: proxyd tape" in capsys.readouterr().err


# show and play


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proxyd("show", str(small_tape(tmp_path))) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("-- session s1a2b3, 2025-07-20 08:26:40 UTC\n-- alice (data)")
    assert "shop=> select 1" in captured.out
    assert "--   policy p1" in captured.out
    assert captured.err == ""


def test_show_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert proxyd("show", "--json", str(small_tape(tmp_path))) == 0
    kinds = [json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["header", "judgement", "request", "reply", "reply_digest", "event", "end", "verdict"]


@pytest.mark.parametrize("action", ["show", "play"])
def test_a_torn_tape_is_shown_and_said_to_be_torn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    path = small_tape(tmp_path)
    os.truncate(path, path.stat().st_size - 1)
    assert proxyd(action, str(path)) == 0
    captured = capsys.readouterr()
    assert "shop=> select 1" in captured.out
    assert "torn at byte" in captured.err


@pytest.mark.parametrize("action", ["show", "play"])
def test_a_forged_tape_is_said_to_be_forged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    path = small_tape(tmp_path)
    damage(path, path.stat().st_size - 250)
    assert proxyd(action, str(path)) == 2
    assert "TAMPERED WITH" in capsys.readouterr().err
    path.write_bytes(b"not a tape")
    assert proxyd(action, str(path)) == 2
    assert "this is not a tape" in capsys.readouterr().err
