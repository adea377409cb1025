"""Shows a session while it happens: the bytes of its tape, as they come, on the watcher's terminal.

What lies before the moment at which the watching began is read too, since what comes later refers to it, and is shown
only if wanted. Nothing recorded reaches the terminal but through `proxyd.tape.screen` or the `TerminalFilter`.
Called by `proxyd sessions watch`.
"""

from __future__ import annotations

import contextlib
import re
import sys
import termios
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TextIO

import msgspec

from proxyd.tape.entries import (
    CHANNEL_CLOSED,
    SSH,
    End,
    Entry,
    Event,
    Output,
    TapeHeader,
    Terminal,
    entry_of,
    header_of,
)
from proxyd.tape.errors import TapeError
from proxyd.tape.format import FrameDecoder, Tampered
from proxyd.tape.json_lines import entry_json, header_json
from proxyd.tape.render import Renderer
from proxyd.tape.terminal_filter import TerminalFilter
from proxyd.tape.wording import header_lines

MAX_BACKLOG_CHARACTERS: Final = 64 * 1024

_ALTERNATE_SCREEN = re.compile(r"\x1b\[\?(?:47|1047|1049)([hl])")
_TO_ALTERNATE_SCREEN: Final = "\x1b[?1049h"


class LiveTape:
    """Tape bytes in, entries out. `header` is there once its frame is."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self.header: TapeHeader | None = None

    def feed(self, data: bytes) -> Iterator[Entry]:
        """The entries that are whole now. Raises TapeError when what comes is no tape, or a damaged one."""
        decoder = self._decoder
        decoder.feed(data)
        while (frame := decoder.next_frame()) is not None:
            if self.header is not None:
                yield entry_of(frame, self.header.protocol)
                continue
            try:
                self.header = header_of(frame)
            except (msgspec.ValidationError, TypeError, ValueError) as error:
                raise TapeError(f"the header of the tape is of another shape: {error}") from error
        if decoder.is_done:
            verdict = decoder.finish()
            if isinstance(verdict, Tampered):
                raise TapeError(f"the tape is damaged at byte {verdict.offset}: {verdict.reason}")


class Show(Protocol):
    """One way of showing a session. `is_new` is False for what happened before the watching began."""

    def begin(self, header: TapeHeader) -> None: ...

    def entry(self, entry: Entry, *, is_new: bool) -> None: ...

    def finish(self) -> None:
        """There is no more to come, or nobody who would see it."""


def watch(pieces: Iterable[bytes], show: Show, *, new_from: int) -> End | None:
    """Show what comes until it ends; the session's end, or None when the tape broke off before.

    `new_from`: the byte of the tape from which on things are new. Raises TapeError.
    """
    tape = LiveTape()
    has_begun = False
    last: Entry | None = None
    try:
        for piece in pieces:
            for entry in tape.feed(piece):
                if not has_begun and tape.header is not None:
                    has_begun = True
                    show.begin(tape.header)
                show.entry(entry, is_new=entry.position >= new_from)
                last = entry
    finally:
        show.finish()
    return last if isinstance(last, End) else None


class JsonShow:
    """A JSON object for each frame, as `tape show --json` has them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def begin(self, header: TapeHeader) -> None:
        self._print(header_json(header))

    def entry(self, entry: Entry, *, is_new: bool) -> None:
        if is_new:
            self._print(entry_json(entry))

    def finish(self) -> None:
        pass

    def _print(self, line: str) -> None:
        print(line, file=self._out, flush=True)


class LineShow:
    """The lines of `tape show`."""

    def __init__(
        self, out: TextIO, *, max_rows: int, channel: int | None = None, shows_terminals: bool = True
    ) -> None:
        self._out = out
        self._max_rows = max_rows
        self._channel = channel
        self._shows_terminals = shows_terminals
        self._renderer: Renderer | None = None

    def begin(self, header: TapeHeader) -> None:
        self._print(header_lines(header))
        self._renderer = Renderer(
            header,
            max_rows=self._max_rows,
            detailed=True,
            shows_terminals=self._shows_terminals,
            channel=self._channel,
        )

    def entry(self, entry: Entry, *, is_new: bool) -> None:
        if self._renderer is not None:
            lines = list(self._renderer.lines(entry))
            if is_new:
                self._print(lines)

    def finish(self) -> None:
        if self._renderer is not None:
            self._print(self._renderer.finish())

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, file=self._out)
        self._out.flush()


class TerminalShow:
    """A terminal of an SSH session as its user sees it; lines while there is none.

    `channel`: whose terminal; None for the first one that there is.
    """

    def __init__(self, out: TextIO, *, max_rows: int, channel: int | None = None) -> None:
        self._out = out
        self._lines = LineShow(out, max_rows=max_rows, shows_terminals=False)
        self._wanted = channel
        self._shown: int | None = None
        self._filter = TerminalFilter(is_cooked=True)
        self._backlog = _Backlog()

    def begin(self, header: TapeHeader) -> None:
        self._lines.begin(header)

    def entry(self, entry: Entry, *, is_new: bool) -> None:
        if is_new and self._backlog.has_text:
            self._write(self._backlog.take())
        if isinstance(entry, Terminal) and self._shown is None and self._wanted in (None, entry.channel):
            self._lines.entry(entry, is_new=is_new)
            self._shown = entry.channel
            self._filter = TerminalFilter(is_cooked=True)
        elif isinstance(entry, Output) and entry.channel == self._shown:
            text = self._filter.feed(entry.raw)
            if is_new:
                self._write(text)
            else:
                self._backlog.add(text)
        else:
            if isinstance(entry, End) or (
                isinstance(entry, Event)
                and entry.name == CHANNEL_CLOSED
                and entry.data.get("channel") == self._shown
            ):
                self._leave_terminal()
            # Lines would spoil the screen that is being shown.
            self._lines.entry(entry, is_new=is_new and self._shown is None)

    def finish(self) -> None:
        self._leave_terminal()
        self._lines.finish()

    def _leave_terminal(self) -> None:
        if self._shown is not None:
            self._shown = None
            self._backlog = _Backlog()
            self._write(f"{self._filter.reset()}\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class _Backlog:
    """The last of what a terminal has shown before the watching began: enough to see where it stands."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._characters = 0
        self._is_alternate = False

    @property
    def has_text(self) -> bool:
        return bool(self._texts)

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._characters += len(text)
        while self._characters - len(self._texts[0]) > MAX_BACKLOG_CHARACTERS:
            dropped = self._texts.popleft()
            self._characters -= len(dropped)
            for switch in _ALTERNATE_SCREEN.finditer(dropped):
                self._is_alternate = switch[1] == "h"

    def take(self) -> str:
        text = "".join(self._texts)
        self._texts.clear()
        return f"{_TO_ALTERNATE_SCREEN}{text}" if self._is_alternate else text


def chosen_show(
    protocol: str,
    *,
    is_json: bool,
    as_lines: bool,
    max_rows: int,
    channel: int | None,
) -> Show:
    """The way to show a session on standard output."""
    if is_json:
        return JsonShow(sys.stdout)
    if protocol == SSH and sys.stdout.isatty() and not as_lines:
        return TerminalShow(sys.stdout, max_rows=max_rows, channel=channel)
    return LineShow(sys.stdout, max_rows=max_rows, channel=channel)


@contextlib.contextmanager
def unechoed() -> Iterator[None]:
    """What the watcher types does not appear between what is shown. Control-C still works."""
    if not sys.stdin.isatty():
        yield
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    quiet = [*before]
    quiet[3] = before[3] & ~termios.ECHO
    termios.tcsetattr(number, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(number, termios.TCIFLUSH)
