"""Real OpenSSH servers for the demo, the bench and the tests: on loopback, up in a tenth of a second, gone without a
trace.

Owns: the server process and the sessions below it, its configuration, its host key, and a home of its own for those who
log in, so that nothing is read from or written into the real one. Works as root and as an ordinary user: an ordinary
sshd lets in nobody but the account that it runs as, and so that is the one login there is (`login`).

A server is a child process of ours and ends with us, however we end (see `child_process`).
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.child_process import end, launch
from demo.postgres_installs import Account
from demo.postgres_server import free_port, make_scratch
from demo.ssh_keys import SshKeys

SSHD = Path("/usr/sbin/sshd")
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
SEPARATION_DIRECTORY = Path("/run/sshd")  # sshd refuses to start as root without it (sshd(8), FILES)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
PORT_ATTEMPTS = 8

# sshd takes the first value of each keyword, so `SshServer.settings` come before these. Sessions get PATH from their
# shell's own start.
_SETTINGS = """\
LogLevel VERBOSE
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitUserEnvironment no
PermitUserRC no
PrintMotd no
PrintLastLog no
UseDNS no
PidFile none
AcceptEnv LANG LC_* COLORTERM FOO_*
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
StreamLocalBindUnlink yes
X11Forwarding yes
X11UseLocalhost yes
MaxStartups 500:30:1000
MaxSessions 500
LoginGraceTime 30
"""

# What a person sees who logs in: a prompt that tests can wait for and that says nothing about this machine.
_PROFILE = """\
PS1='target$ '
PS2='> '
unset PROMPT_COMMAND MAIL
"""


class SshdFailed(RuntimeError):
    """sshd is missing or did not start; the message carries the end of its log."""


@dataclass(slots=True)
class SshServer:
    """One sshd. Use it as a context manager, or call `start()` and `stop()`.

    authorized_keys: public keys that may log in. user_authorities: public keys whose user certificates may, when one of
    their principals is `login`. settings: further lines of sshd_config. account: run as somebody else (needs root).
    """

    authorized_keys: Sequence[str] = ()
    user_authorities: Sequence[str] = ()
    settings: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = 0
    account: Account = field(default_factory=Account)
    own_home: Path | None = None
    directory: Path = field(init=False, default=Path())
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def login(self) -> str:
        """The account by which one logs in: the one that the server runs as."""
        uid = self.account.uid
        return pwd.getpwuid(os.geteuid() if uid is None else uid).pw_name

    @property
    def home(self) -> Path:
        """What $HOME is in a session. Sessions still begin in the account's real home, as sshd has it."""
        return self.own_home or self.directory / "home"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise SshdFailed("sshd is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def host_key(self) -> str:
        """The public host key: algorithm and key."""
        return " ".join((self.directory / "host_key.pub").read_text().split()[:2])

    @property
    def known_hosts_line(self) -> str:
        return f"[{self.host}]:{self.port} {self.host_key}"

    def start(self) -> None:
        """Make its files and start; on any failure nothing is left behind. Raises SshdFailed."""
        if not SSHD.exists():
            raise SshdFailed(f"{SSHD} is missing: apt-get install openssh-server")
        if self.account.uid is None and os.geteuid() == 0:
            SEPARATION_DIRECTORY.mkdir(mode=0o755, exist_ok=True)
        self.directory = make_scratch("proxyd-sshd-", self.account)
        try:
            self._write_files()
            self._launch_on_a_free_port()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and every session on it, then remove every file. May be called twice."""
        self._end()
        if self.directory != Path():
            shutil.rmtree(self.directory, ignore_errors=True)

    def restart(self) -> None:
        """End it with its sessions and start again with the same keys on the same port."""
        self._end()
        self._launch(self.port)

    def write_authorized_keys(self, lines: Sequence[str]) -> None:
        """Replace the keys that may log in; they count from the next login."""
        self._write("authorized_keys", lines)

    def write_user_authorities(self, lines: Sequence[str]) -> None:
        self._write("user_authorities", lines)

    def new_host_key(self) -> None:
        """Another host key, as a target has that was installed anew or is somebody else. Ends all sessions."""
        for path in (self.directory / "host_key", self.directory / "host_key.pub"):
            path.unlink()
        self._make_host_key()
        self.restart()

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def sessions(self) -> list[int]:
        """The process ids of the listener's own children: one for each connection."""
        return _children().get(self.pid, [])

    def processes(self) -> list[int]:
        """The process ids of what people have started here and not ended, in the background or not."""
        return _with_variable(f"HOME={self.home}")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # Sessions outlive their listener. Stopped, it starts no more of them while they are counted.
        process.send_signal(signal.SIGSTOP)
        sessions = _descendants(process.pid)
        process.send_signal(signal.SIGCONT)
        end(process)
        _end_all(sessions)
        # What people started in the background has outlived its session as well; it is known by its $HOME.
        _end_all(_with_variable(f"HOME={self.home}"))

    def _write_files(self) -> None:
        if self.own_home is None:
            self.home.mkdir(mode=0o700)
            self.account.take(self.home)
            profile = self.home / ".profile"
            profile.write_text(_PROFILE)
            self.account.take(profile)
        self._make_host_key()
        self.write_authorized_keys(self.authorized_keys)
        self.write_user_authorities(self.user_authorities)
        own = {
            "HostKey": self.directory / "host_key",
            "AuthorizedKeysFile": self.directory / "authorized_keys",
            "TrustedUserCAKeys": self.directory / "user_authorities",
            "Subsystem": f"sftp {SFTP_SERVER}",
            "SetEnv": f'"HOME={self.home}"',
            "UsePAM": "yes"
            if os.geteuid() == 0 and self.account.uid is None and _is_locked(self.login)
            else "no",
        }
        lines = [f"{name} {value}" for name, value in own.items()]
        self._write("sshd_config", [*self.settings, *lines, _SETTINGS])

    def _make_host_key(self) -> None:
        for path in (private := SshKeys(self.directory).private("host_key"), private.with_suffix(".pub")):
            self.account.take(path)

    def _write(self, name: str, lines: Sequence[str]) -> None:
        path = self.directory / name
        path.write_text("".join(f"{line}\n" for line in lines))
        self.account.take(path)

    def _launch_on_a_free_port(self) -> None:
        for attempt in range(PORT_ATTEMPTS):
            try:
                self._launch(self.port or free_port(self.host))
                return
            except SshdFailed:
                taken = "Address already in use" in self.log_text()
                if self.port or not taken or attempt == PORT_ATTEMPTS - 1:
                    raise

    def _launch(self, port: int) -> None:
        self.log.unlink(missing_ok=True)
        listen = f"ListenAddress={self.host}:{port}"
        command = [str(SSHD), "-D", "-e", "-f", str(self.directory / "sshd_config"), "-o", listen]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        with self.log.open("ab") as log:
            self._process = launch(command, log=log, cwd=Path("/"), env=environment, account=self.account)
        self._wait_until(lambda: f"Server listening on {self.host} port {port}." in self.log_text())
        self.port = port

    def _wait_until(self, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        process = self._process
        while process is not None and process.poll() is None and time.monotonic() < deadline:
            if is_done():
                return
            time.sleep(0.01)
        log = self.log_text()
        self._end()
        raise SshdFailed(f"sshd did not start; its log ends with:\n{log[-2000:]}")


def _is_locked(login: str) -> bool:
    """Is the account's password locked ("!")? sshd refuses such an account, whatever its keys, unless PAM decides
    (sshd_config(5), UsePAM).
    """
    try:
        lines = Path("/etc/shadow").read_text().splitlines()
    except OSError:
        return False  # what we cannot read sshd cannot either, when it runs as we do
    return any(line.startswith(f"{login}:!") for line in lines)


def _children() -> dict[int, list[int]]:
    """The living processes by their parent."""
    found: dict[int, list[int]] = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                found.setdefault(int(fields[1]), []).append(int(directory.name))
    return found


def _descendants(pid: int) -> list[int]:
    children = _children()

    def below(parent: int) -> Iterator[int]:
        for child in children.get(parent, []):
            yield child
            yield from below(child)

    return list(below(pid))


def _with_variable(variable: str) -> list[int]:
    """The processes that were started with this variable (NAME=VALUE), as far as we may look."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):
                if variable.encode() in (directory / "environ").read_bytes().split(b"\0"):
                    found.append(int(directory.name))
    return found


def _end_all(pids: Sequence[int]) -> None:
    """SIGTERM, and SIGKILL for those that stay."""
    _signal_all(pids, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while any(map(_is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    _signal_all(pids, signal.SIGKILL)


def _signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    """Does it run? One that waits for its parent to notice its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
