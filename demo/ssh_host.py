"""An SSH host for machines without sshd: asyncssh in a child process, in place of `sshd.SshServer`.

Owns the process. It lets in whoever has a certificate of the authorities given, for the login given, and runs commands
and shells as sshd would: by /bin/sh, with a terminal where one was asked for; and sftp. Forwards nothing. It is a stage
prop: sessions run as the account that runs the demo.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

import asyncssh

from demo.child_process import end, launch
from demo.postgres_server import free_port

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_TIMEOUT_S = 20.0
READ_BYTES = 65536
_LISTENING = "listening on port"
_SETSID = "/usr/bin/setsid"


class HostFailed(RuntimeError):
    """The host did not start; the message carries the end of its log."""


@dataclass(slots=True)
class OwnHost:
    """One host. `directory`: where its files are. `start`: a script of /bin/sh that begins each session, with the
    command, if there is one, in SSH_ORIGINAL_COMMAND (as sshd's ForceCommand has it).
    """

    directory: Path
    host_key_file: Path
    user_authority: Path
    home: Path
    start_script: Path
    login: str = "deploy"
    port: int = 0
    _process: Popen[bytes] | None = field(init=False, default=None)

    @property
    def log(self) -> Path:
        return self.directory / "ssh_host.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start and wait until it listens. Raises HostFailed."""
        self.log.unlink(missing_ok=True)
        self.port = self.port or free_port(HOST)
        words = [sys.executable, "-m", "demo.ssh_host", str(self.port), self.login]
        words += map(str, (self.host_key_file, self.user_authority, self.home, self.start_script))
        with self.log.open("ab") as log:
            self._process = launch(words, log=log, cwd=ROOT, env=dict(os.environ))
        deadline = time.monotonic() + START_TIMEOUT_S
        while _LISTENING not in self.log_text():
            if not self.is_running or time.monotonic() > deadline:
                said = self.log_text()[-2000:]
                self.stop()
                raise HostFailed(f"the demo's own SSH host did not start; its log ends with:\n{said}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and the sessions on it. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            end(process)


# In the child process


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.ssh_host", description=OwnHost.__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("login")
    for name in ("host_key", "user_authority", "home", "start_script"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    os.chdir(options.home)  # where relative paths of sftp begin
    asyncio.run(_listen(options))  # at its end the sessions are cancelled, and hang up on what they run
    return 0


async def _listen(options: argparse.Namespace) -> None:
    key = options.user_authority.read_text().strip()
    authorized = asyncssh.import_authorized_keys(f'cert-authority,principals="{options.login}" {key}\n')

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await _serve(process, options.home, options.start_script)

    server = await asyncssh.listen(
        HOST,
        options.port,
        server_host_keys=[str(options.host_key)],
        authorized_client_keys=authorized,
        process_factory=serve,
        sftp_factory=True,
        encoding=None,
        line_editor=False,
        reuse_address=True,
    )
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    print(f"{_LISTENING} {options.port}", flush=True)
    await stopping.wait()
    server.close()


async def _serve(process: asyncssh.SSHServerProcess[bytes], home: Path, start_script: Path) -> None:
    """One command or shell, to its end."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), **process.env}
    if process.command is not None:
        environment["SSH_ORIGINAL_COMMAND"] = process.command
    words = ["/bin/sh", str(start_script)]
    if process.term_type is None:
        status = await _run_with_pipes(process, words, environment)
    else:
        status = await _run_in_terminal(process, words, environment | {"TERM": process.term_type})
    # A signal's number is the negative of what asyncio gives; shells add it to 128.
    process.exit(status if status >= 0 else 128 - status)


async def _run_with_pipes(
    process: asyncssh.SSHServerProcess[bytes], words: list[str], environment: dict[str, str]
) -> int:
    child = await asyncio.create_subprocess_exec(
        *words, stdin=-1, stdout=-1, stderr=-1, env=environment, start_new_session=True
    )
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise RuntimeError("pipes were asked for")
    typing = asyncio.create_task(_type(process, child, child.stdin, None))
    outputs = [_show(child.stdout, process.stdout), _show(child.stderr, process.stderr)]
    try:
        await asyncio.gather(*outputs)
        return await child.wait()
    finally:
        typing.cancel()
        _hang_up(child)


async def _run_in_terminal(
    process: asyncssh.SSHServerProcess[bytes], words: list[str], environment: dict[str, str]
) -> int:
    ours, theirs = pty.openpty()
    columns, rows, *_ = process.term_size
    _resize(ours, columns, rows)
    # setsid makes the terminal the session's own, so that keys reach programs as signals.
    child = await asyncio.create_subprocess_exec(
        *(_SETSID, "--ctty", "--wait", *words), stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    reading = asyncio.StreamReaderProtocol(reader)
    await loop.connect_read_pipe(lambda: reading, os.fdopen(ours, "rb", 0))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(ours), "wb", 0)
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    typing = asyncio.create_task(_type(process, child, writer, ours))
    try:
        await _show(reader, process.stdout)
        return await child.wait()
    finally:
        typing.cancel()
        _hang_up(child)
        transport.abort()


async def _type(
    process: asyncssh.SSHServerProcess[bytes],
    child: asyncio.subprocess.Process,
    to: asyncio.StreamWriter,
    terminal: int | None,
) -> None:
    """What the client sends, until it sends no more. Its terminal's size goes to ours."""
    while True:
        try:
            data = await process.stdin.read(READ_BYTES)
        except asyncssh.TerminalSizeChanged as size:
            if terminal is not None:
                _resize(terminal, size.width, size.height)
            continue
        except (asyncssh.SignalReceived, asyncssh.BreakReceived):
            continue
        except asyncssh.Error:  # the connection is gone
            _hang_up(child)
            return
        if not data:
            break
        to.write(data)
        await to.drain()
    if terminal is None:
        to.close()
    else:
        to.write(b"\x04")  # what Ctrl-D is


async def _show(from_: asyncio.StreamReader, to: asyncssh.SSHWriter[bytes]) -> None:
    # The end of a terminal's last program is EIO to whoever reads it.
    with contextlib.suppress(OSError):
        while data := await from_.read(READ_BYTES):
            to.write(data)
            await to.drain()


def _hang_up(child: asyncio.subprocess.Process) -> None:
    """As a terminal does that goes away: the child and its process group."""
    with contextlib.suppress(ProcessLookupError):
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGHUP)


def _resize(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


if __name__ == "__main__":
    sys.exit(main())
