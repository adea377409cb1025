"""Shows a session while it happens: the bytes of its tape, as they come, on the watcher's terminal.

What lies before the moment at which the watching began is read too, since what comes later refers to it, and is shown
only if wanted. Nothing recorded reaches the terminal but through `proxyd.tape.screen` or the `TerminalFilter`.
Called by `proxyd sessions watch`.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import termios
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TextIO

import msgspec

from proxyd.tape.entries import SSH, End, Entry, TapeHeader, entry_of, header_of
from proxyd.tape.errors import TapeError
from proxyd.tape.format import FrameDecoder, Tampered
from proxyd.tape.json_lines import entry_json, header_json
from proxyd.tape.live import LiveView
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


class ViewShow:
    """What the session's user sees: lines, or on a terminal (`is_terminal`) an SSH session's terminal.

    `size`: columns and rows of the watcher's terminal.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        max_rows: int,
        channel: int | None = None,
        is_terminal: bool = False,
        size: tuple[int, int] | None = None,
    ) -> None:
        self._out = out
        self._max_rows = max_rows
        self._channel = channel
        self.is_terminal = is_terminal
        self._size = size
        self._view: LiveView | None = None
        self._backlog = _Backlog()
        self._is_caught_up = False

    def begin(self, header: TapeHeader) -> None:
        for line in header_lines(header):
            print(line, file=self._out)
        self._out.flush()
        self._view = LiveView(
            header, channel=self._channel, is_terminal=self.is_terminal, max_rows=self._max_rows
        )

    def entry(self, entry: Entry, *, is_new: bool) -> None:
        if self._view is None:
            return
        if is_new and not self._is_caught_up:
            self._is_caught_up = True
            self._write(self._view.standing_text())
        text = self._view.text(entry)
        if is_new:
            self._write(f"{self._backlog.take()}{text}")
        elif self._view.size is not None:
            self._backlog.add(text)
        else:
            self._backlog = _Backlog()
        if self._view.size is not None:
            self._say_if_too_small(self._view.size)

    def finish(self) -> None:
        if self._view is not None:
            self._write(self._view.end_text())

    def _say_if_too_small(self, size: tuple[int, int]) -> None:
        """Once: what follows will look broken."""
        if self._size is not None and (self._size[0] < size[0] or self._size[1] < size[1]):
            mine, theirs = (f"{columns}x{rows}" for columns, rows in (self._size, size))
            self._write(f"-- the watched terminal is {theirs}, this one is {mine}: make it larger\r\n")
            self._size = None

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


class _Backlog:
    """The last of what a terminal has shown before the watching began: enough to see where it stands."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._characters = 0
        self._is_alternate = False

    def add(self, text: str) -> None:
        self._texts.append(text)
        self._characters += len(text)
        while self._characters - len(self._texts[0]) > MAX_BACKLOG_CHARACTERS:
            dropped = self._texts.popleft()
            self._characters -= len(dropped)
            for switch in _ALTERNATE_SCREEN.finditer(dropped):
                self._is_alternate = switch[1] == "h"

    def take(self) -> str:
        """All of it, once."""
        switch = _TO_ALTERNATE_SCREEN if self._is_alternate else ""
        text = "".join(self._texts)
        self._texts.clear()
        self._characters, self._is_alternate = 0, False
        return f"{switch}{text}"


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
    if protocol != SSH or as_lines or not sys.stdout.isatty():
        return ViewShow(sys.stdout, max_rows=max_rows, channel=channel)
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    return ViewShow(sys.stdout, max_rows=max_rows, channel=channel, is_terminal=True, size=(columns, rows))


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
