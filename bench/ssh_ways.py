"""The three ways to one sshd: direct, by `ssh -J` through a plain sshd, through proxyd. OpenSSH's client goes them all.

Owns both servers, the gateway, their keys, and the one ssh_config in which each way is a host of its name. Everything
is gone after `stop`. Used by the measurements over SSH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.doors import AUTHORITY, Door, PostgresDoor, SshDoor, daemon
from bench.measure import MeasurementFailed
from demo.gateway import Gateway
from demo.ssh_config import SshHost, write_ssh_config
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer

DIRECT, JUMP, PROXYD = "direct", "jump", "proxyd"
NAMES = (DIRECT, JUMP, PROXYD)
APART = "apart"  # a gateway in a process of its own, which nobody else uses
HOP = "hop"
COMMAND_TIMEOUT_S = 120.0
MEMORY_FILES = Path("/dev/shm")  # noqa: S108  (a directory of our own is made in it)

# Clients since 9.5 send keystrokes in steps of 20 ms, which would be all that is measured.
_CLIENT_OPTIONS = {"ObscureKeystrokeTiming": "no"}
_BEFORE_HOSTS = "IgnoreUnknown ObscureKeystrokeTiming\n\n"
_CIPHER = re.compile(r"kex: server->client cipher: (\S+)")


class SshWays:
    """names: which ways there are. directory: on tmpfs where there is one, for files that are sent to and fro.

    postgres: a second door of the gateway's process. cipher: what all clients have to use ("": their own choice).
    """

    def __init__(
        self, names: Sequence[str] = NAMES, *, cipher: str = "", postgres: PostgresDoor | None = None
    ) -> None:
        self.names = tuple(names)
        self.directory = Path(
            tempfile.mkdtemp(prefix="proxyd-bench-ssh-", dir=MEMORY_FILES if MEMORY_FILES.is_dir() else None)
        )
        self.postgres = postgres
        self._cipher = cipher
        self._cleanup = ExitStack()
        self._gateways: dict[str, Gateway] = {}

    @property
    def gateway(self) -> Gateway:
        return self._gateways[PROXYD]

    def start(self) -> None:
        keys = SshKeys(self.directory / "keys")
        server = self._server(keys)
        hosts = [self._plain(DIRECT, server, keys)]
        if JUMP in self.names:
            hosts.append(self._plain(HOP, self._server(keys), keys))
            hosts.append(self._plain(JUMP, server, keys, through=HOP))
        if PROXYD in self.names:
            hosts.append(self._through_gateway(PROXYD, server, keys, self.postgres))
            if self.postgres is not None:
                hosts.append(self._through_gateway(APART, server, keys))
        config = write_ssh_config(self.directory / "ssh_config", hosts)
        config.write_text(_BEFORE_HOSTS + config.read_text())

    def stop(self) -> None:
        self._cleanup.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart_gateway(self) -> None:
        """As fresh as after `start`, but for one login: nothing that earlier measurements made it allocate."""
        self.gateway.stop()
        self.gateway.start()
        self.run(self.ssh(PROXYD, "true"))

    # What clients are called with

    def ssh(self, name: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
        return ["ssh", "-F", str(self.directory / "ssh_config"), *options, name, *arguments]

    def scp(self, source: str | Path, destination: str | Path) -> list[str]:
        """A place on the target as `NAME:PATH`."""
        return ["scp", "-q", "-F", str(self.directory / "ssh_config"), str(source), str(destination)]

    def run(self, command: Sequence[str]) -> str:
        """Run a client to its end; what it said, errors included. Raises MeasurementFailed."""
        try:
            done = subprocess.run(
                command,
                env=client_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                timeout=COMMAND_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(
                f"{' '.join(command)} did not end within {COMMAND_TIMEOUT_S:g} s"
            ) from None
        if done.returncode:
            raise MeasurementFailed(
                f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-2000:]}"
            )
        return done.stdout

    def ciphers(self) -> dict[str, str]:
        """What each way's client agrees on, by its own word; of a jump what is inside and outside."""
        return {name: cipher_of(self.run(self.ssh(name, "true", options=["-v"]))) for name in self.names}

    # The servers

    def _server(self, keys: SshKeys) -> SshServer:
        server = SshServer(authorized_keys=[keys.public("person")], user_authorities=[keys.public(AUTHORITY)])
        self._run(server.start, server.stop)
        return server

    def _plain(self, name: str, server: SshServer, keys: SshKeys, through: str | None = None) -> SshHost:
        known_hosts = self._known_hosts(name, server.known_hosts_line)
        return SshHost(
            name,
            server.host,
            server.port,
            server.login,
            keys.private("person"),
            known_hosts,
            jump=through,
            options=self._options(),
        )

    def _through_gateway(
        self, name: str, server: SshServer, keys: SshKeys, postgres: PostgresDoor | None = None
    ) -> SshHost:
        door = SshDoor(server, keys, self._known_hosts(f"{name}-target", server.known_hosts_line))
        doors: list[Door] = [door] if postgres is None else [door, postgres]
        gateway = self._gateways[name] = daemon(self.directory / name, *doors)
        self._run(gateway.start, gateway.stop)
        return door.host(name, self._known_hosts(name, door.known_hosts_line), self._options())

    def _options(self) -> dict[str, str]:
        return _CLIENT_OPTIONS | ({"Ciphers": self._cipher} if self._cipher else {})

    def _known_hosts(self, name: str, line: str) -> Path:
        path = self.directory / f"known_hosts-{name}"
        path.write_text(line + "\n")
        return path

    def _run(self, start: Callable[[], object], stop: Callable[[], object]) -> None:
        self._cleanup.callback(stop)
        start()


def cipher_of(verbose: str) -> str:
    """The ciphers in the words of `ssh -v`, without their makers' domains."""
    found = [name.partition("@")[0] for name in _CIPHER.findall(verbose)]
    return " in ".join(found) or "unknown"


def client_environment() -> dict[str, str]:
    """The caller's without what would reach clients or the target."""
    kept = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME")
    return {"TERM": "xterm"} | {name: os.environ[name] for name in kept if name in os.environ}
