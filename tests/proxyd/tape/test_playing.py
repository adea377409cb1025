from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pytest

from proxyd.tape.entries import Entry
from proxyd.tape.live import CLEARED, LiveView
from proxyd.tape.playing import Key, Pace, Player
from proxyd.tape.reader import read_tape
from tests.proxyd.tape.ssh_tapes import terminal_tape
from tests.proxyd.tape.tapes import Clock, header, record


class Audience:
    """A clock that moves only while somebody waits, and keys at given moments. Notes what is seen when."""

    def __init__(self, keys: Iterable[tuple[float, Key]] = ()) -> None:
        self.now_s = 0.0
        self.keys = list(keys)
        self.waits: list[float] = []
        self.seen: list[tuple[float, str]] = []

    def now(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> Key | None:
        if self.keys and self.keys[0][0] <= self.now_s + seconds:
            at_s, key = self.keys.pop(0)
            self.now_s = max(self.now_s, at_s)
            return key
        assert seconds != math.inf, "it would wait for ever"
        self.waits.append(seconds)
        self.now_s += seconds
        return None

    def write(self, text: str) -> None:
        self.seen.append((self.now_s, text))

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.seen)

    def moments(self) -> list[tuple[float, str]]:
        return [(at_s, text.strip().removeprefix("-- event ")) for at_s, text in self.seen]


def events(directory: Path, *times_s: float) -> list[Entry]:
    clock = Clock()
    recorder = record(directory, clock)
    for name, at_s in zip("abcdefgh", times_s, strict=False):
        clock.now_s = 100.0 + at_s
        recorder.event(name, {})
    recorder.close()
    with read_tape(recorder.path) as tape:
        return list(tape.entries())


def played(entries: list[Entry], pace: Pace, *keys: tuple[float, Key]) -> Audience:
    audience = Audience(keys)
    view = lambda: LiveView(header(), is_terminal=False)  # noqa: E731
    Player(lambda: entries, view, audience.write, pace, audience).play()
    return audience


@pytest.mark.parametrize(
    ("speed", "limit_s", "waits"),
    [
        (1.0, math.inf, [0.5, 4.0, 0.25]),
        (2.0, math.inf, [0.25, 2.0, 0.125]),
        (0.5, math.inf, [1.0, 8.0, 0.5]),
        (1.0, 1.0, [0.5, 1.0, 0.25]),
        (2.0, 1.0, [0.25, 0.5, 0.125]),
        (0.0, math.inf, []),
    ],
)
def test_speed_and_idle_limit(tmp_path: Path, speed: float, limit_s: float, waits: list[float]) -> None:
    audience = played(events(tmp_path, 0.5, 4.5, 4.75), Pace(speed, limit_s))
    assert audience.waits == waits
    assert [name for _, name in audience.moments()] == ["a", "b", "c", ""]
    assert audience.seen[2][0] == sum(waits)


@pytest.mark.parametrize(
    ("seek_s", "moments"),
    [
        (0.0, [(1.0, "a"), (3.0, "b"), (6.0, "c")]),
        (1.0, [(0.0, "a"), (2.0, "b"), (5.0, "c")]),
        (2.0, [(0.0, "a"), (1.0, "b"), (4.0, "c")]),
        (5.0, [(0.0, "a"), (0.0, "b"), (1.0, "c")]),
        (100.0, [(0.0, "a"), (0.0, "b"), (0.0, "c")]),
    ],
)
def test_seek(tmp_path: Path, seek_s: float, moments: list[tuple[float, str]]) -> None:
    audience = played(events(tmp_path, 1, 3, 6), Pace(seek_s=seek_s))
    assert audience.moments()[:3] == moments


def test_pause(tmp_path: Path) -> None:
    audience = played(events(tmp_path, 4, 6), Pace(), (1.0, Key.PAUSE), (11.0, Key.PAUSE))
    assert audience.moments()[:2] == [(14.0, "a"), (16.0, "b")]


def test_one_after_the_other_while_paused(tmp_path: Path) -> None:
    keys = [(1.0, Key.PAUSE), (5.0, Key.NEXT), (6.0, Key.NEXT), (7.0, Key.PAUSE)]
    audience = played(events(tmp_path, 10, 20, 30), Pace(), *keys)
    assert audience.moments()[:3] == [(5.0, "a"), (6.0, "b"), (17.0, "c")]


def test_the_next_without_a_pause(tmp_path: Path) -> None:
    audience = played(events(tmp_path, 10, 20), Pace(), (1.0, Key.NEXT))
    assert audience.moments()[:2] == [(1.0, "a"), (11.0, "b")]


def test_forward(tmp_path: Path) -> None:
    audience = played(events(tmp_path, 4, 9, 14, 19), Pace(), (5.0, Key.FORWARD))
    # At 4 s it goes on to 14 s.
    assert audience.moments()[:4] == [(4.0, "a"), (5.0, "b"), (5.0, "c"), (10.0, "d")]


def test_back(tmp_path: Path) -> None:
    audience = played(events(tmp_path, 4, 9, 14, 19), Pace(), (15.0, Key.BACK))
    # At 14 s it goes back to 4 s: everything up to there again, at once.
    assert [moment for moment in audience.moments() if moment[1] in "abcd" and moment[1]] == [
        (4.0, "a"),
        (9.0, "b"),
        (14.0, "c"),
        (15.0, "a"),
        (20.0, "b"),
        (25.0, "c"),
        (30.0, "d"),
    ]
    assert CLEARED in audience.text


def test_quit(tmp_path: Path) -> None:
    audience = played(events(tmp_path, 4, 9), Pace(), (5.0, Key.QUIT))
    assert [name for _, name in audience.moments() if name] == ["a"]
    paused = played(events(tmp_path / "2", 4, 9), Pace(), (1.0, Key.PAUSE), (2.0, Key.QUIT))
    assert [name for _, name in paused.moments() if name] == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, BrokenPipeError])
def test_however_it_ends_the_terminal_is_brought_back(tmp_path: Path, fault: type[BaseException]) -> None:
    clock = Clock()
    tape = terminal_tape(tmp_path, clock)
    tape.output(0, 1, b"\x1b[?1049h\x1b[?25l")
    clock.now_s += 5
    tape.output(0, 1, b"x")
    tape.close()
    with read_tape(tape.path) as read:
        entries = list(read.entries())
        header_ = read.header
    assert header_ is not None

    class Leaving(Audience):
        def wait(self, seconds: float) -> Key | None:
            raise fault

    audience = Leaving()
    player = Player(lambda: entries, lambda: LiveView(header_), audience.write, Pace(), audience)
    with pytest.raises(fault):
        player.play()
    assert audience.seen[-1][1].startswith("\x1b[?1049l")
    assert "\x1b[?25h" in audience.seen[-1][1]
