"""A program in a terminal of its own, driven by keystrokes: for what psql does only when a person types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

TIMEOUT_S = 60.0
CTRL_C = "\x03"
ROWS, COLUMNS = 50, 200


class Terminal:
    """Runs `command` on a pseudo-terminal. A context manager: at its end the program is hung up on."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._master, worker = pty.openpty()
        fcntl.ioctl(worker, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            ["/usr/bin/setsid", "--ctty", *command],
            stdin=worker,
            stdout=worker,
            stderr=worker,
            env={**environment, "TERM": "dumb", "INPUTRC": "/dev/null"},
        )
        os.close(worker)
        self._unread = ""
        self.seen = ""

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def expect(self, text: str) -> str:
        """Everything shown up to `text` and with it; TimeoutError with what was shown instead."""
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._master], [], [], left)[0]:
                raise TimeoutError(f"{text!r} was not shown; shown was:\n{self.seen}")
            try:
                chunk = os.read(self._master, 65536).decode(errors="replace")
            except OSError as error:
                raise TimeoutError(f"the program ended before {text!r}; shown was:\n{self.seen}") from error
            self._unread += chunk
            self.seen += chunk
        end = self._unread.index(text) + len(text)
        shown, self._unread = self._unread[:end], self._unread[end:]
        return shown

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._master)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._process.kill()
        self._process.wait()
