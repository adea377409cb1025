"""Real shells, run on generated texts in an empty directory where every command is a stub that notes its words.

Nothing harmful can be named: PATH holds the stubs, links to shells and to a few programs that run others, and nothing
else; the generated texts name no paths outside the directory. Under root the shells run as nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from policy.facts import SimpleCommand, Word

NOBODY = 65534
STUBS = ("aa", "bb", "cc", "rm", "ls", "-v")
# Programs that run others, as they are: what they run here are stubs again.
REAL = ("sh", "dash", "bash", "env", "nice", "nohup", "setsid", "timeout", "stdbuf", "xargs", "find")
FILES = ("one", "two.txt", "-x")
TIMEOUT_S = 60.0
_END = "<end>"


@dataclass(frozen=True)
class Run:
    """What one shell did: the words of every stub that it started, and the files that it made."""

    started: tuple[tuple[str, ...], ...]
    files: frozenset[str]


@dataclass
class Sandbox:
    root: Path
    path: Path = field(init=False)
    home: Path = field(init=False)
    log: Path = field(init=False)
    starter: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.path, self.home, self.log = self.root / "bin", self.root / "home", self.root / "log"
        self.path.mkdir()
        self.home.mkdir()
        self.log.touch()
        for name in STUBS:
            stub = self.path / name
            stub.write_text(f"#!/bin/dash\nprintf '%s\\0' \"${{0##*/}}\" \"$@\" '{_END}' >>{self.log}\n")
            stub.chmod(0o755)
        for name in REAL:
            program = shutil.which(name)
            assert program is not None, name
            (self.path / name).symlink_to(program)
        if os.geteuid() == 0:
            os.chown(self.home, NOBODY, NOBODY)
            os.chown(self.log, NOBODY, NOBODY)

    def run(self, shell: tuple[str, ...], text: str) -> Run:
        """Give `text` to a shell with -c and wait until it and all that it started have ended."""
        self._tidy()
        program = shutil.which(shell[0])
        assert program is not None, shell
        words = shlex.join([program, *shell[1:], "-c", text])
        # Whatever is started holds descriptor 9; cat ends when nobody does any more.
        self._tell(f"(ulimit -t 2; exec 9>&1 </dev/null >/dev/null 2>&1; exec {words}) | /bin/cat; echo .\n")
        made = frozenset(str(entry.relative_to(self.home)) for entry in self.home.rglob("*")) - set(FILES)
        return Run(self._started(), made)

    def _tell(self, line: str) -> None:
        """Have one shell start the others: it is small, and so quickly forked."""
        if self.starter is None:
            self.starter = subprocess.Popen(
                ["/bin/dash"],
                cwd=self.home,
                env={"PATH": str(self.path), "HOME": str(self.home), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                user=NOBODY if os.geteuid() == 0 else None,
                group=NOBODY if os.geteuid() == 0 else None,
                extra_groups=() if os.geteuid() == 0 else None,
                start_new_session=True,
            )
        assert self.starter.stdin is not None and self.starter.stdout is not None
        self.starter.stdin.write(line.encode())
        self.starter.stdin.flush()
        ready, _, _ = select.select([self.starter.stdout], [], [], TIMEOUT_S)
        if not ready or self.starter.stdout.readline() != b".\n":
            self.close()

    def close(self) -> None:
        """End the starter and what may be left of the rest."""
        if self.starter is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.starter.pid, signal.SIGKILL)
            self.starter.communicate()
            self.starter = None

    def _tidy(self) -> None:
        for entry in self.home.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        for name in FILES:
            (self.home / name).touch()
        os.truncate(self.log, 0)

    def _started(self) -> tuple[tuple[str, ...], ...]:
        records = self.log.read_bytes().decode("utf-8", "surrogateescape").split(f"{_END}\0")
        return tuple(tuple(record.split("\0")[:-1]) for record in records if record)


def every_command(commands: tuple[SimpleCommand, ...]) -> list[SimpleCommand]:
    """The commands and all that they run themselves."""
    found: list[SimpleCommand] = []
    pending = list(commands)
    while pending:
        command = pending.pop()
        found.append(command)
        pending += command.inner
    return found


def could_be(words: tuple[Word, ...], started: tuple[str, ...]) -> bool:
    """Whether a command as named may have been started like this: a word that is not known stands for any words."""
    if not words:
        return not started
    head, rest = words[0], words[1:]
    if head.is_known:
        return bool(started) and started[0] == head.text and could_be(rest, started[1:])
    return any(could_be(rest, started[skipped:]) for skipped in range(len(started) + 1))
