"""A person at a terminal: tmux runs a program in a window of a certain size, we type into it and look at the screen.

with Screen(route.words("-t", route.name)) as screen:
    screen.wait_for("target$"); screen.write("vi file\n"); screen.press("Escape"); screen.resize(132, 50)
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.end_to_end.running import WAIT_S, wait_until
from tests.end_to_end.ssh_route import environment

# Its own, not a person's; the program's end leaves its last screen and its exit status to be looked at.
_SETTINGS = """\
set -g default-terminal tmux-256color
set -g status off
set -g remain-on-exit on
set -g escape-time 0
set -g history-limit 50000
"""


class Screen:
    """A tmux server of our own with one window. A context manager: at its end the program is hung up on."""

    def __init__(
        self, command: Sequence[str], columns: int = 100, rows: int = 30, env: Mapping[str, str] | None = None
    ) -> None:
        # The path of a unix socket is short (sun_path), a test's own directory may not be.
        self._directory = Path(tempfile.mkdtemp(prefix="tmux-"))
        settings = self._directory / "tmux.conf"
        settings.write_text(_SETTINGS)
        words = ["tmux", "-S", str(self._directory / "socket"), "-f", str(settings)]
        self._status = self._directory / "status"
        # tmux does not always learn that its child has ended, and so with which status.
        watched = f"{shlex.join(command)}; echo $? >{self._status}.new; mv {self._status}.new {self._status}"
        words += ["new-session", "-d", "-x", str(columns), "-y", str(rows), watched]
        locale = {"LC_ALL": "C.UTF-8", "TERM": "dumb", "SHELL": "/bin/sh"}
        subprocess.run(
            words, env=environment({**locale, **(env or {})}), check=True, capture_output=True, timeout=WAIT_S
        )

    def write(self, text: str) -> None:
        """As typed, `\\n` as the Enter key."""
        for number, line in enumerate(text.split("\n")):
            if number:
                self.press("Enter")
            if line:
                self._tmux("send-keys", "-l", "--", line)

    def press(self, *keys: str) -> None:
        """Keys by tmux's names: C-c, Escape, Up, F1, ..."""
        self._tmux("send-keys", *keys)

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def text(self) -> str:
        """What the screen shows, without blanks at the ends of lines."""
        return self._tmux("capture-pane", "-p").rstrip()

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.text().splitlines()]

    def coloured(self) -> str:
        """What the screen shows, with the escape sequences of its colours."""
        return self._tmux("capture-pane", "-p", "-e")

    def history(self) -> str:
        """Everything that was shown, long lines whole."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-")

    def cursor(self) -> tuple[int, int]:
        column, row = self._format("#{cursor_x},#{cursor_y}").split(",")
        return int(column), int(row)

    def wait_for(self, *texts: str) -> str:
        """Wait until the screen shows all of these; gives the screen."""
        shown = ""

        def shows() -> bool:
            nonlocal shown
            shown = self.text()
            return all(text in shown for text in texts)

        try:
            wait_until(shows, "")
        except TimeoutError:
            raise AssertionError(f"{texts!r} not on the screen, which is:\n{shown}") from None
        return shown

    def wait_for_line(self, line: str) -> None:
        """Wait until one whole line of the screen is this: typed text on a prompt's line is not."""
        try:
            wait_until(lambda: line in self.lines(), "")
        except TimeoutError:
            raise AssertionError(f"no line {line!r} on the screen, which is:\n{self.text()}") from None

    def exit_status(self) -> int:
        """Wait for the program's end."""
        wait_until(self._status.exists, "the end of the program on the screen")
        return int(self._status.read_text())

    def close(self) -> None:
        self._tmux("kill-server")
        # The server and what watches the program still take their files away.
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _format(self, text: str) -> str:
        return self._tmux("display-message", "-p", text).strip()

    def _tmux(self, *arguments: str) -> str:
        words = ["tmux", "-S", str(self._directory / "socket"), *arguments]
        done = subprocess.run(
            words, env=environment({"LC_ALL": "C.UTF-8"}), check=True, capture_output=True, timeout=WAIT_S
        )
        return done.stdout.decode(errors="replace")
