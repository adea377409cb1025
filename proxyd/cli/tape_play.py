"""`proxyd tape play`: a session as it was seen, at its own pace.

Of an SSH session the terminal is replayed in this one; what it showed is made safe first (`tape.terminal_filter`).
This module has the terminal: it takes keys while playing and leaves everything as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from proxyd.cli.tape_options import add_rows, add_tape, duration, open_tape, report, write_lines

if TYPE_CHECKING:
    from proxyd.tape.entries import Entry
    from proxyd.tape.playing import Key, Waiting
    from proxyd.tape.reader import Tape

_DESCRIPTION = """\
Replay a session as it was seen. The first terminal of an SSH session is replayed in this terminal, without whatever
could harm it; a session without one, and all output that goes to a pipe or a file, is printed as lines."""

_KEYS = "keys while playing: space pauses, . shows the next, left and right go 10 s back and forward, q ends"
_MAX_KEY_BYTES: Final = 16
_LOOKED_THROUGH: Final = 10_000
_SLICE_S: Final = 0.25
INTERRUPTED: Final = 130


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("play", help="replay a tape", description=_DESCRIPTION, epilog=_KEYS)
    add_tape(parser)
    add_rows(parser)
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="N",
        help="N times as fast, 0 without waiting (default: 1 on a terminal, otherwise 0)",
    )
    parser.add_argument(
        "--idle-limit", type=duration, metavar="TIME", help="wait at most so long at once, such as 1s"
    )
    parser.add_argument(
        "--seek", type=duration, default=0.0, metavar="TIME", help="begin so far into the session, such as 2m"
    )
    parser.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="of an SSH session this channel, by its number in `tape show`",
    )
    parser.set_defaults(action=_play)


def _play(options: argparse.Namespace) -> int:
    from proxyd.tape.live import LiveView  # noqa: PLC0415
    from proxyd.tape.playing import Pace, Player  # noqa: PLC0415
    from proxyd.tape.wording import header_lines  # noqa: PLC0415

    is_terminal = sys.stdout.isatty()
    speed = options.speed if options.speed is not None else float(is_terminal)
    limit = options.idle_limit if options.idle_limit is not None else math.inf
    with contextlib.ExitStack() as stack:
        reels = _Reels(options, stack)
        header = reels.tape.header
        if header is None:
            return report(reels.tape)
        warning = _size_warning(options) if is_terminal else []
        write_lines(sys.stdout, [*header_lines(header), *warning, ""])
        player = Player(
            reels.entries,
            lambda: LiveView(header, channel=options.channel, is_terminal=is_terminal, max_rows=options.rows),
            _write,
            Pace(speed, limit, options.seek),
            stack.enter_context(_keyboard()) if is_terminal and speed else Sleep(),
        )
        try:
            player.play()
        except KeyboardInterrupt:
            return INTERRUPTED
        return report(reels.tape)


class _Reels:
    """The tape, opened anew each time it is played from its beginning. `tape` is the one opened last."""

    def __init__(self, options: argparse.Namespace, stack: contextlib.ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._is_fresh = True
        self.tape: Tape = stack.enter_context(open_tape(options))

    def entries(self) -> Iterator[Entry]:
        if not self._is_fresh:
            self.tape.close()
            self.tape = self._stack.enter_context(open_tape(self._options))
        self._is_fresh = False
        return self.tape.entries()


class Sleep:
    """Waits without a keyboard."""

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> Key | None:
        _flush()
        time.sleep(seconds)
        return None


class Keyboard:
    """Waits for a key on a terminal in cbreak mode. Keys that mean nothing are passed over."""

    def __init__(self, fd: int) -> None:
        from proxyd.tape.playing import Key  # noqa: PLC0415

        self._fd = fd
        self._pressed = b""
        self._keys = {
            b" ": Key.PAUSE,
            b".": Key.NEXT,
            b"\x1b[D": Key.BACK,
            b"\x1bOD": Key.BACK,
            b"\x1b[C": Key.FORWARD,
            b"\x1bOC": Key.FORWARD,
            b"q": Key.QUIT,
        }

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> Key | None:
        _flush()
        until = self.now() + seconds
        while True:
            while self._pressed:
                key = self._next_key()
                if key is not None:
                    return key
            left = max(0.0, until - self.now())
            # In slices: an interrupt that comes just before the call would else wait for its end.
            ready, _, _ = select.select([self._fd], [], [], min(left, _SLICE_S))
            if not ready:
                if left <= _SLICE_S:
                    return None
                continue
            self._pressed = os.read(self._fd, _MAX_KEY_BYTES)
            if not self._pressed:
                raise KeyboardInterrupt  # the terminal has gone

    def _next_key(self) -> Key | None:
        for sequence, key in self._keys.items():
            if self._pressed.startswith(sequence):
                self._pressed = self._pressed[len(sequence) :]
                return key
        self._pressed = self._pressed[1:]
        return None


@contextlib.contextmanager
def _keyboard() -> Iterator[Waiting]:
    """The keyboard without its echo and without waiting for lines; Ctrl-C stays what it is."""
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    if not sys.stdin.isatty():
        yield Sleep()
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd, termios.TCSANOW)
    try:
        yield Keyboard(fd)
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _size_warning(options: argparse.Namespace) -> list[str]:
    """In a smaller terminal than the recorded one a full-screen program is a mess; better to be told why."""
    from proxyd.tape.entries import Terminal  # noqa: PLC0415

    columns, rows = shutil.get_terminal_size()
    with open_tape(options) as tape:
        for entry in itertools.islice(tape.entries(), _LOOKED_THROUGH):
            if isinstance(entry, Terminal) and options.channel in (None, entry.channel):
                if entry.columns <= columns and entry.rows <= rows:
                    break
                recorded = f"{entry.columns}x{entry.rows}"
                return [f"-- recorded at {recorded}, larger than this terminal ({columns}x{rows})"]
    return []


def _write(text: str) -> None:
    sys.stdout.write(text)


def _flush() -> None:
    sys.stdout.flush()


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 <= speed < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a speed such as 2, 0.5 or 0")
    return speed
