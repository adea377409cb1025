"""The documentation's replay: docs/make_replay.py makes an SVG of a tape."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from docs.make_replay import LAST_S, Drawing, Frame, Run, frames_of, main
from proxyd.tape.reader import read_tape
from tests.proxyd.tape.ssh_tapes import ALLOWED, SHELL, ssh_tape, terminal_tape, type_line
from tests.proxyd.tape.tapes import Clock, small_tape

SVG = "{http://www.w3.org/2000/svg}"


def session(directory: Path) -> Path:
    clock = Clock()
    tape = terminal_tape(directory, clock)
    tape.output(0, 1, b"\x1b[1;32mdeploy\x1b[0m$ ")
    type_line(tape, clock, "ls <&>", b"\x1b[7ma\x1b[0m  \x1b[38;5;200mb\x1b[0m\r\n\x1b]0;title\x07$ ")
    clock.now_s += 3600
    tape.output(0, 1, b"\x1b[?1049h\x1b[Hfull screen\x1b[?25l")
    clock.now_s += 1
    tape.output(0, 1, b"\x1b[?1049l\x1b[?25h")
    clock.now_s += 1
    tape.resized(0, 100, 30)
    tape.output(0, 1, b"end")
    tape.closed(0, {})
    tape.end("done")
    return tape.path


def drawn(directory: Path, *options: str) -> str:
    output = directory / "replay.svg"
    assert main([str(session(directory)), str(output), *options]) == 0
    return output.read_text("utf-8")


def frames(path: Path, **options: object) -> list[Frame]:
    values: dict[str, object] = {"channel": None, "idle_limit_s": 1.5, "speed": 1.0}
    with read_tape(path) as tape:
        return frames_of(tape.entries(), **(values | options))  # type: ignore[arg-type]


def text(frame: Frame) -> list[str]:
    lines = []
    for row in frame.rows:
        line = ""
        for run in row:
            line = line.ljust(run.column) + run.text
        lines.append(line.rstrip())
    return [line for line in lines if line]


def test_it_is_one_small_picture_that_fetches_nothing(tmp_path: Path) -> None:
    svg = drawn(tmp_path)
    root = ElementTree.fromstring(svg)  # noqa: S314 (our own)
    assert len(svg) < 20_000
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "style", "defs", "g", "rect", "path", "text", "use"),
    }
    references = [
        value
        for element in root.iter()
        for name, value in element.items()
        if "href" in name or "url(" in value
    ]
    assert references
    assert all(re.fullmatch("#p[0-9]+", reference) for reference in references)
    assert "url(" not in svg
    assert "@import" not in svg
    names = {element.get("id") for element in root.iter() if element.get("id")}
    assert {reference[1:] for reference in references} <= names
    keyframes = set(re.findall(r"@keyframes (\w+)", svg))
    assert set(re.findall(r"animation-name:(\w+)", svg)) == keyframes
    assert "prefers-reduced-motion" in svg


def test_the_screens(tmp_path: Path) -> None:
    found = frames(session(tmp_path))
    assert text(found[0]) == ["deploy$"]
    assert text(found[1]) == ["deploy$ l"]
    assert text(found[-3]) == ["full screen"]
    assert found[-3].cursor is None
    assert text(found[-2]) == ["deploy$ ls <&>", "a  b", "$"]
    assert text(found[-1])[-1] == "$ end"
    assert len(found[-1].rows) == 30
    # An hour of nothing is shown as the limit.
    assert found[-1].at_s == pytest.approx(0.125 * 7 + 1.5 + 1 + 1)
    assert frames(session(tmp_path / "2"), speed=2.0)[-1].at_s == pytest.approx(found[-1].at_s / 2)


def test_colours(tmp_path: Path) -> None:
    last = frames(session(tmp_path))[-1]
    assert last.rows[0][0] == Run(0, 6, "deploy", "#98c379", "", True, False)
    reversed_, coloured = last.rows[1]
    assert (reversed_.foreground, reversed_.background) == ("#1b1e27", "#d7dae0")
    assert (coloured.text, coloured.foreground) == ("b", "#ff00d7")


def test_a_key_changes_one_row_only(tmp_path: Path) -> None:
    svg = drawn(tmp_path)
    rows = [rule for rule in re.findall(r"@keyframes r\d+{(.*?)}}", svg)]
    assert len(rows) == 3
    # Every animation lasts as long as the others, or they would part.
    assert len(re.findall(r"animation:[0-9.]+s", svg)) == 1
    length = frames(session(tmp_path / "2"))[-1].at_s + LAST_S
    assert f"animation:{length:.1f}s steps(1,end) infinite" in svg


def test_the_last_screen_stands_without_animation(tmp_path: Path) -> None:
    svg = drawn(tmp_path)
    for name, last in re.findall(r'style="transform:(\S+?);animation-name:(\w+)"', svg):
        rule = re.search(rf"@keyframes {last}{{(.*?)}}}}", svg)
        assert rule is not None
        assert rule[1].endswith(f"transform:{name}")


def test_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "<title>alice: deploy@web1</title>" in drawn(tmp_path / "a")
    assert "<title>a &lt;b&gt;</title>" in drawn(tmp_path / "b", "--title", "a <b>")
    assert main([str(session(tmp_path / "c")), str(tmp_path / "x.svg"), "--channel", "7"]) == 1
    assert main([str(small_tape(tmp_path / "d")), str(tmp_path / "x.svg")]) == 1
    assert "no terminal of this tape shows anything" in capsys.readouterr().err
    assert not (tmp_path / "x.svg").exists()


def test_a_small_screen_and_wide_characters(tmp_path: Path) -> None:
    tape = ssh_tape(tmp_path)
    tape.terminal(0, "xterm", 20, 3)
    tape.judged(0, SHELL, ALLOWED)
    tape.output(0, 1, "日本 ok\r\n\x1b[4munder\x1b[0m".encode())
    tape.end("done")
    (frame,) = frames(tape.path)
    assert frame.rows[0] == (Run(0, 7, "日本 ok", "#d7dae0", "", False, False),)
    svg = Drawing([frame], "x").svg()
    ElementTree.fromstring(svg)  # noqa: S314 (our own)
    assert "text-decoration:underline" in svg
    assert "@keyframes" not in svg
