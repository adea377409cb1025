"""A program in a terminal of its own, driven by a script: what to wait for, what to type then.

Owns the terminal and the program in it. `tour` uses it for the steps in which somebody sits at a shell.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxyd.tape.terminal_text import TerminalText

READ_BYTES = 65536
KEY_PAUSE_S = 0.03
"""Between two keys: nobody types a line at once, and a replay of one who did is hard to follow."""
READING_PAUSE_S = 0.4
"""Before the first of them."""
END_TIMEOUT_S = 5.0
_FULL_SCREEN = re.compile(rb"\x1b\[\?1049h.*?(?:\x1b\[\?1049l|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Typed:
    """Once `after` has been shown (behind what was waited for before): make the terminal this large, type this."""

    after: str
    keys: str = ""
    size: tuple[int, int] | None = None


class Terminal:
    """`command` in a terminal of `size` (columns, rows). Call `close` at the end, or `finish`, which waits for it."""

    def __init__(
        self, command: Sequence[str], cwd: Path, env: Mapping[str, str], size: tuple[int, int] = (80, 20)
    ) -> None:
        self._ours, theirs = pty.openpty()
        self._shown = b""
        self._waited_to = 0
        self._reported_to = 0
        self.resize(*size)
        try:
            # setsid makes the terminal the program's own, so that ssh reads its size and hears of a new one.
            self._process = subprocess.Popen(
                ["/usr/bin/setsid", "--ctty", *command],
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                cwd=cwd,
                env={**env, "TERM": "xterm-256color"},
            )
        except BaseException:
            os.close(self._ours)
            raise
        finally:
            os.close(theirs)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def play(self, script: Sequence[Typed], timeout_s: float) -> bool:
        """Wait and type as the script says; False when something did not come in time."""
        deadline = time.monotonic() + timeout_s
        for typed in script:
            if not self._wait_for(typed.after.encode(), deadline):
                return False
            if typed.size is not None:
                self.resize(*typed.size)
            time.sleep(READING_PAUSE_S if typed.keys else 0)
            for key in typed.keys:
                os.write(self._ours, key.encode())
                time.sleep(KEY_PAUSE_S)
        return True

    def finish(self, timeout_s: float) -> int | None:
        """The exit status of the program once it has ended; None when it has not in time. Closes the terminal."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        try:
            return self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.close()

    def new_text(self) -> str:
        """What has been shown since the last call, as plain lines; what filled the screen is left out."""
        new = self._shown[self._reported_to :]
        self._reported_to = len(self._shown)
        text = TerminalText()
        lines = text.feed(_FULL_SCREEN.sub(b"(a program that fills the screen)\r\n", new))
        return "".join(f"{line.rstrip()}\n" for line in [*lines, *text.finish()])

    def close(self) -> None:
        """Hang up on the program. May be called twice."""
        if self._ours < 0:
            return
        os.close(self._ours)
        self._ours = -1
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def _wait_for(self, text: bytes, deadline: float) -> bool:
        while (at := self._shown.find(text, self._waited_to)) < 0:
            if not self._read(deadline):
                return False
        self._waited_to = at + len(text)
        return True

    def _read(self, deadline: float) -> bool:
        """Take what is shown next; False when there is no more, or not in time."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._ours], [], [], left)[0]:
            return False
        data = b""
        with contextlib.suppress(OSError):  # EIO: the program has closed its end
            data = os.read(self._ours, READ_BYTES)
        self._shown += data
        return bool(data)
