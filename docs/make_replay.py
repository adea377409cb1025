"""Makes an animated SVG of a terminal on a tape: `python docs/make_replay.py TAPE docs/replay.svg`.

The SVG stands alone: no script, no font, nothing fetched, so that it plays in a browser, also as the source of an
<img>. Each row of the screen is a strip of all that it ever shows, side by side, which jumps (CSS keyframes) to
what it shows now; so a key costs one small piece and not a picture of the whole screen. Readers who prefer no motion
see the last screen.

A tool of the documentation: it needs pyte, which the product does not.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pyte

from proxyd.tape.entries import CHANNEL_CLOSED, Entry, Event, Output, Resized, TapeHeader, Terminal
from proxyd.tape.errors import TapeError
from proxyd.tape.reader import read_tape
from proxyd.tape.terminal_filter import TerminalFilter

CELL_WIDTH = 8.4
LINE_HEIGHT = 18
BASELINE = 13.5
MARGIN = 12
BAR_HEIGHT = 30
MERGED_S = 0.05
"""Changes nearer to each other than this are one."""
LAST_S = 4.0
"""How long the last screen stands before it begins again."""

BACKGROUND = "#1b1e27"
FOREGROUND = "#d7dae0"
BAR = "#2b2f3a"
COLOURS = {
    "black": "#3b4048",
    "red": "#e06c75",
    "green": "#98c379",
    "brown": "#e5c07b",
    "blue": "#61afef",
    "magenta": "#c678dd",
    "cyan": "#56b6c2",
    "white": "#abb2bf",
    "brightblack": "#6b7280",
    "brightred": "#ef8b92",
    "brightgreen": "#b0d796",
    "brightbrown": "#f0d197",
    "brightyellow": "#f0d197",
    "brightblue": "#86c3f5",
    "brightmagenta": "#d79be8",
    "bfightmagenta": "#d79be8",  # as pyte spells it
    "brightcyan": "#7fcdd6",
    "brightwhite": "#ffffff",
}


@dataclass(frozen=True)
class Run:
    """Cells of one look, next to each other."""

    column: int
    cells: int
    text: str
    foreground: str
    background: str
    is_bold: bool
    is_underlined: bool


Row = tuple[Run, ...]


@dataclass(frozen=True)
class Frame:
    """What the screen shows from `at_s` on. `cursor` is None when it is hidden."""

    at_s: float
    rows: tuple[Row, ...]
    cursor: tuple[int, int] | None


class Screen(pyte.Screen):
    """pyte's, and the alternate screen."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines)
        self._kept: tuple[Any, Any] | None = None

    def set_mode(self, *modes: int, **options: Any) -> None:
        if options.get("private") and {1049, 1047, 47} & set(modes) and self._kept is None:
            self._kept = (copy.deepcopy(self.buffer), copy.copy(self.cursor))
            self.erase_in_display(2)
        super().set_mode(*modes, **options)

    def reset_mode(self, *modes: int, **options: Any) -> None:
        super().reset_mode(*modes, **options)
        if options.get("private") and {1049, 1047, 47} & set(modes) and self._kept is not None:
            self.buffer, self.cursor = self._kept
            self._kept = None
            self.dirty.update(range(self.lines))


def frames_of(
    entries: Iterable[Entry], *, channel: int | None, idle_limit_s: float, speed: float
) -> list[Frame]:
    """The screens of one terminal, one after the other. Raises TapeError when there is none."""
    screen: Screen | None = None
    stream: pyte.Stream | None = None
    safe = TerminalFilter()
    frames: list[Frame] = []
    at_s, last_us = 0.0, 0
    for entry in entries:
        if isinstance(entry, Terminal) and screen is None and channel in (None, entry.channel):
            channel, last_us = entry.channel, entry.at_us
            screen = Screen(entry.columns, entry.rows)
            stream = pyte.Stream(screen)
            continue
        if screen is None or stream is None:
            continue
        if isinstance(entry, Event) and entry.name == CHANNEL_CLOSED and entry.data.get("channel") == channel:
            break
        if not isinstance(entry, Output | Resized) or entry.channel != channel:
            continue
        at_s += min((entry.at_us - last_us) / 1_000_000, idle_limit_s) / speed
        last_us = entry.at_us
        if isinstance(entry, Resized):
            screen.resize(entry.rows, entry.columns)
        else:
            stream.feed(safe.feed(entry.raw))
        frame = Frame(at_s, _rows(screen), _cursor(screen))
        if frames and at_s - frames[-1].at_s < MERGED_S:
            frame = Frame(frames.pop().at_s, frame.rows, frame.cursor)
        if not frames or (frames[-1].rows, frames[-1].cursor) != (frame.rows, frame.cursor):
            frames.append(frame)
    if not frames:
        raise TapeError("no terminal of this tape shows anything")
    return frames


def _cursor(screen: Screen) -> tuple[int, int] | None:
    return None if screen.cursor.hidden else (min(screen.cursor.x, screen.columns - 1), screen.cursor.y)


def _rows(screen: Screen) -> tuple[Row, ...]:
    return tuple(_row(screen, line) for line in range(screen.lines))


def _row(screen: Screen, line: int) -> Row:
    cells = screen.buffer[line]
    runs: list[Run] = []
    for column in range(screen.columns):
        cell = cells[column]
        front, back = _colour(cell.fg, FOREGROUND), _colour(cell.bg, "")
        if cell.reverse:
            front, back = back or BACKGROUND, front
        look = (front, back, cell.bold, cell.underscore)
        last = runs[-1] if runs else None
        if last is not None and (last.foreground, last.background, last.is_bold, last.is_underlined) == look:
            runs[-1] = Run(last.column, last.cells + 1, last.text + cell.data, *look)
        else:
            runs.append(Run(column, 1, cell.data, *look))
    return tuple(run for run in map(_trimmed, runs) if run.background or run.text)


def _trimmed(run: Run) -> Run:
    """Without the blanks that nobody sees."""
    if run.background or run.is_underlined:
        return run
    text = run.text.rstrip()
    begins = len(text) - len(text.lstrip())
    cells = run.cells - (len(run.text) - len(text)) - begins
    look = (run.foreground, run.background, run.is_bold, run.is_underlined)
    return Run(run.column + begins, cells, text[begins:], *look)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return COLOURS.get(name, f"#{name}")


class Drawing:
    """The SVG of some frames."""

    def __init__(self, frames: list[Frame], title: str) -> None:
        self._frames = frames
        self._title = title
        self._lines = max(len(frame.rows) for frame in frames)
        self._columns = max(
            (run.column + run.cells for frame in frames for row in frame.rows for run in row), default=1
        )
        self._columns = max(self._columns, 40)
        self._length_s = frames[-1].at_s + LAST_S
        self._rules: list[str] = []
        self._classes: dict[str, str] = {}
        self._pieces: dict[Row, str] = {}
        self._defs: list[str] = []

    def svg(self) -> str:
        width = self._columns * CELL_WIDTH
        height = self._lines * LINE_HEIGHT
        strips = [self._strip(line) for line in range(self._lines)]
        cursor = self._cursor()
        whole_width, whole_height = _number(width + 2 * MARGIN), height + 2 * MARGIN + BAR_HEIGHT
        title = escape(self._title)
        return "".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole_width} {whole_height}" '
                f'width="{whole_width}" height="{whole_height}" role="img">',
                f"<title>{title}</title><style>{self._style()}</style><defs>{''.join(self._defs)}</defs>",
                f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
                f'<path d="M0 {BAR_HEIGHT}V8a8 8 0 0 1 8-8H{_number(width + 2 * MARGIN - 8)}'
                f'a8 8 0 0 1 8 8V{BAR_HEIGHT}z" fill="{BAR}"/>',
                f'<text x="50%" y="20" text-anchor="middle" class="t">{title}</text>',
                f'<svg x="{MARGIN}" y="{BAR_HEIGHT + MARGIN}" width="{_number(width)}" height="{height}">',
                *(strip for strip in strips if strip),
                cursor,
                "</svg></svg>\n",
            ]
        )

    def _style(self) -> str:
        family = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
        looks = "".join(f".{name}{{{look}}}" for look, name in self._classes.items())
        return (
            f"text{{font:14px {family};fill:{FOREGROUND};white-space:pre}}.t{{font-size:12px;fill:#9aa0ab}}"
            f".a{{animation:{_number(self._length_s)}s steps(1,end) infinite}}{looks}{''.join(self._rules)}"
            "@media(prefers-reduced-motion:reduce){.a{animation:none}}"
        )

    def _strip(self, line: int) -> str:
        """All that a row shows, side by side, and when it shows which."""
        shown: list[Row] = []
        moves: list[tuple[float, str]] = []
        at: Row | None = None
        for frame in self._frames:
            row = frame.rows[line] if line < len(frame.rows) else ()
            if row == at:
                continue
            at = row
            if row not in shown:
                shown.append(row)
            moves.append(
                (frame.at_s, f"translateX({_number(-shown.index(row) * self._columns * CELL_WIDTH)}px)")
            )
        if shown == [()]:
            return ""
        uses = "".join(
            f'<use href="#{self._piece(row)}" x="{_number(index * self._columns * CELL_WIDTH)}"/>'
            for index, row in enumerate(shown)
            if row
        )
        y = line * LINE_HEIGHT
        return f'<g transform="translate(0 {y})"><g {self._moving(f"r{line}", moves)}>{uses}</g></g>'

    def _cursor(self) -> str:
        moves: list[tuple[float, str]] = []
        at = ""
        for frame in self._frames:
            x, y = frame.cursor if frame.cursor is not None else (-9, 0)
            to = f"translate({_number(x * CELL_WIDTH)}px,{y * LINE_HEIGHT}px)"
            if to != at:
                moves.append((frame.at_s, to))
                at = to
        look = f'width="{CELL_WIDTH}" height="{LINE_HEIGHT}" fill="{FOREGROUND}" opacity=".6"'
        return f"<g {self._moving('c', moves)}><rect {look}/></g>"

    def _moving(self, name: str, moves: list[tuple[float, str]]) -> str:
        """Attributes of what jumps; where nothing moves it stands at its last place."""
        last = moves[-1][1]
        if len(moves) == 1:
            return f'style="transform:{last}"'
        stops = [(0.0, moves[0][1]), *moves[1:]]
        self._rules.append(
            f"@keyframes {name}{{"
            + "".join(f"{_number(100 * at_s / self._length_s, 3)}%{{transform:{to}}}" for at_s, to in stops)
            + "}"
        )
        return f'class="a" style="transform:{last};animation-name:{name}"'

    def _piece(self, row: Row) -> str:
        """The id of a row's drawing, of which there is one however often it is shown."""
        name = self._pieces.get(row)
        if name is None:
            name = self._pieces[row] = f"p{len(self._pieces)}"
            self._defs.append(f'<g id="{name}">{"".join(map(self._run, row))}</g>')
        return name

    def _run(self, run: Run) -> str:
        x, width = _number(run.column * CELL_WIDTH), _number(run.cells * CELL_WIDTH)
        drawn = (
            f'<rect x="{x}" width="{width}" height="{LINE_HEIGHT}" fill="{run.background}"/>'
            if run.background
            else ""
        )
        if not run.text.strip():
            return drawn
        look = self._look(run)
        shape = f' class="{look}"' if look else ""
        return f'{drawn}<text x="{x}" y="{BASELINE}" textLength="{width}"{shape}>{escape(run.text, quote=False)}</text>'

    def _look(self, run: Run) -> str:
        rules = []
        if run.foreground != FOREGROUND:
            rules.append(f"fill:{run.foreground}")
        if run.is_bold:
            rules.append("font-weight:700")
        if run.is_underlined:
            rules.append("text-decoration:underline")
        if not rules:
            return ""
        return self._classes.setdefault(";".join(rules), f"s{len(self._classes)}")


def _number(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}".rstrip("0").rstrip(".")


def title_of(header: TapeHeader) -> str:
    return f"{header.subject.name}: {header.login}@{header.target}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make an animated SVG of a terminal on a tape.")
    parser.add_argument("tape", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--channel", type=int, help="default: the first with a terminal")
    parser.add_argument("--idle-limit", type=float, default=1.5, help="seconds (default: 1.5)")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--title", help="default: who is where")
    options = parser.parse_args(arguments)
    try:
        with read_tape(options.tape) as tape:
            if tape.header is None:
                raise TapeError(f"{options.tape} has no header")
            frames = frames_of(
                tape.entries(),
                channel=options.channel,
                idle_limit_s=options.idle_limit or math.inf,
                speed=options.speed,
            )
            options.output.write_text(Drawing(frames, options.title or title_of(tape.header)).svg(), "utf-8")
    except TapeError as error:
        print(f"make_replay: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
