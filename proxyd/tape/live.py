"""What somebody who watches a session sees, entry by entry: for `sessions watch` and `tape play`.

On a terminal an SSH session is one of its terminals, as the client sees it, made safe by `terminal_filter`; of a
session without a terminal, and of PostgreSQL, it is lines. Elsewhere (a pipe, a file) everything is lines. Pure.
"""

from __future__ import annotations

from typing import Final

from proxyd.tape.entries import (
    CHANNEL_CLOSED,
    SSH,
    End,
    Entry,
    Event,
    Output,
    Resized,
    TapeHeader,
    Terminal,
)
from proxyd.tape.render import DEFAULT_MAX_ROWS, Renderer
from proxyd.tape.terminal_filter import TerminalFilter

CLEARED: Final = "\x1b[H\x1b[2J"
_EVERYTHING: Final = 1 << 62


class LiveView:
    """One watcher of one tape. Give it every entry from the first on; entries may come long after each other.

    `channel`: only this channel of an SSH session. Without it the first terminal is shown until it closes, then the
    next. `is_terminal`: the text goes to a terminal. `max_rows`: of each result of PostgreSQL.
    """

    def __init__(
        self,
        header: TapeHeader,
        *,
        channel: int | None = None,
        is_terminal: bool = True,
        max_rows: int = DEFAULT_MAX_ROWS,
    ) -> None:
        is_ssh = header.protocol == SSH
        self._renderer = Renderer(
            header,
            max_rows=_EVERYTHING if is_ssh else max_rows,
            shows_terminals=not is_terminal,
            channel=channel,
        )
        self._channel = channel
        self._follows = is_ssh and is_terminal
        self._newline = "\r\n" if is_terminal else "\n"
        self._sizes: dict[int, tuple[int, int]] = {}  # of the open terminals
        self._shown: int | None = None
        self._filter = TerminalFilter(is_cooked=True)

    @property
    def size(self) -> tuple[int, int] | None:
        """Columns and rows of the terminal that is being shown."""
        return self._sizes.get(self._shown) if self._shown is not None else None

    def feed(self, entry: Entry) -> bytes:
        """What the entry adds to the watcher's screen, in UTF-8; often nothing."""
        return self.text(entry).encode("utf-8", "backslashreplace")

    def finish(self) -> bytes:
        """What is left when nothing more comes; brings the watcher's terminal back."""
        return self.end_text().encode("utf-8", "backslashreplace")

    def text(self, entry: Entry) -> str:
        """As `feed`."""
        lines = list(self._renderer.lines(entry))  # it follows the session even where it is not asked
        if isinstance(entry, Output) and entry.channel == self._shown:
            return self._filter.feed(entry.raw)
        if not self._follows:
            return self._laid_out(lines)
        was_shown = self._shown is not None
        prefix = self._follow(entry)
        if was_shown and not prefix:
            return ""
        return prefix + self._laid_out(lines)

    def standing_text(self) -> str:
        """What a watcher who comes in between has to know to understand what follows."""
        return self._laid_out(list(self._renderer.standing()))

    def end_text(self) -> str:
        """As `finish`."""
        self._sizes.clear()
        return self._leave() + self._laid_out(list(self._renderer.finish()))

    def _follow(self, entry: Entry) -> str:
        """Which terminal is shown from here on. What the change takes on the watcher's terminal."""
        match entry:
            case Terminal(channel=channel, columns=columns, rows=rows) if self._channel in (None, channel):
                self._sizes[channel] = (columns, rows)
                if self._shown is None:
                    self._shown = channel
            case Resized(channel=channel, columns=columns, rows=rows) if channel in self._sizes:
                self._sizes[channel] = (columns, rows)
            case Event(name=name, data={"channel": int() as channel}) if name == CHANNEL_CLOSED:
                self._sizes.pop(channel, None)
                if channel == self._shown:
                    return self._leave()
            case End():
                self._sizes.clear()  # a session that is ended from outside leaves its channels open
                return self._leave()
        return ""

    def _leave(self) -> str:
        if self._shown is None:
            return ""
        self._shown = next(iter(self._sizes), None)
        return f"{self._filter.reset()}{self._newline if self._shown is None else CLEARED}"

    def _laid_out(self, lines: list[str]) -> str:
        return "".join(f"{line}{self._newline}" for line in lines)
