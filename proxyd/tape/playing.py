"""Replays entries at the pace at which they were recorded. Called by `proxyd tape play`.

Decides what is written when; what waits, and which keys there are, is handed in. Going back is playing again from the
beginning without waiting, since what a terminal shows has no way back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol

import msgspec

from proxyd.tape.entries import Entry
from proxyd.tape.live import CLEARED, LiveView

STEP_US: Final = 10_000_000
"""How far the arrow keys go."""
_MICROSECONDS: Final = 1_000_000


class Key(Enum):
    PAUSE = "space"
    NEXT = "."
    BACK = "left"
    FORWARD = "right"
    QUIT = "q"


class Pace(msgspec.Struct, frozen=True):
    """`speed`: times as fast, 0 does not wait. No wait is longer than `idle_limit_s` of recorded time. `seek_s`: up
    to here nothing waits.
    """

    speed: float = 1.0
    idle_limit_s: float = math.inf
    seek_s: float = 0.0


class Waiting(Protocol):
    """Time and keys. `wait` returns after so many seconds (inf: never), or at once with the key pressed."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> Key | None: ...


class _GoBack(Exception):
    def __init__(self, to_us: int) -> None:
        self.to_us = to_us


class Player:
    """One replay. `entries` gives the tape from its first entry whenever it is called, `view` a new watcher."""

    def __init__(
        self,
        entries: Callable[[], Iterable[Entry]],
        view: Callable[[], LiveView],
        write: Callable[[str], None],
        pace: Pace,
        waiting: Waiting,
    ) -> None:
        self._entries = entries
        self._new_view = view
        self._write = write
        self._pace = pace
        self._waiting = waiting
        self._seek_us = int(pace.seek_s * _MICROSECONDS)
        self._is_paused = False
        self._is_over = False

    def play(self) -> None:
        """Write everything, or until QUIT. Whatever happens, the terminal is left as it was."""
        while not self._is_over:
            view = self._new_view()
            try:
                self._play_once(view)
                self._is_over = True
            except _GoBack as back:
                self._seek_us = back.to_us
                self._write(view.end_text() + CLEARED)
                continue
            except BaseException:
                self._write(view.end_text())
                raise
            self._write(view.end_text())

    def _play_once(self, view: LiveView) -> None:
        last_us = 0
        for entry in self._entries():
            text = view.text(entry)
            if not text:
                continue
            if entry.at_us > self._seek_us:
                self._wait(max(last_us, self._seek_us), entry.at_us)
                if self._is_over:
                    return
            last_us = entry.at_us
            self._write(text)

    def _wait(self, from_us: int, to_us: int) -> None:
        """Until it is time for `to_us`, by the pace and the keys."""
        if not self._pace.speed:
            return
        gap_s = min((to_us - from_us) / _MICROSECONDS, self._pace.idle_limit_s) / self._pace.speed
        while gap_s > 0 or self._is_paused:
            began = self._waiting.now()
            key = self._waiting.wait(math.inf if self._is_paused else gap_s)
            if not self._is_paused:
                gap_s -= self._waiting.now() - began
            match key:
                case Key.PAUSE:
                    self._is_paused = not self._is_paused
                case Key.NEXT:
                    return
                case Key.FORWARD:
                    self._seek_us = from_us + STEP_US
                    return
                case Key.BACK:
                    raise _GoBack(max(0, from_us - STEP_US))
                case Key.QUIT:
                    self._is_over = True
                    return
                case None:
                    if not self._is_paused:
                        return
