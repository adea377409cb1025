"""The three ways to one sshd: direct, by `ssh -J` through a plain sshd, through proxyd. OpenSSH's client goes them all.

Each uses the algorithms that its client and server agree on. The gateway's are not those of OpenSSH among itself, and
so there are ways that are alike to the gateway's in that, to compare with as well.

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
from dataclasses import dataclass, replace
from pathlib import Path

from bench.doors import AUTHORITY, Door, PostgresDoor, SshDoor, daemon
from bench.measure import MeasurementFailed
from demo.gateway import Gateway
from demo.ssh_config import SshHost, write_ssh_config
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer

DIRECT, JUMP, PROXYD = "direct", "jump", "proxyd"
NAMES = (DIRECT, JUMP, PROXYD)
DIRECT_ALIKE, JUMP_ALIKE = (
    "direct-alike",
    "jump-alike",
)  # by the algorithms that the gateway's clients agree on
APART = "apart"  # a gateway in a process of its own, which nobody else uses
HOP, HOP_ALIKE = "hop", "hop-alike"
COMMAND_TIMEOUT_S = 120.0
MEMORY_FILES = Path("/dev/shm")  # noqa: S108  (a directory of our own is made in it)

# Clients since 9.5 send keystrokes in steps of 20 ms, which would be all that is measured.
_CLIENT_OPTIONS = {"ObscureKeystrokeTiming": "no"}
_BEFORE_HOSTS = "IgnoreUnknown ObscureKeystrokeTiming\n\n"
_AGREED = re.compile(r"kex: algorithm: (\S+)|kex: server->client cipher: (\S+)")


@dataclass(frozen=True, slots=True)
class Algorithms:
    """As OpenSSH names them. Of a jump those of both connections, the inner one last."""

    key_exchange: str
    cipher: str

    @property
    def short(self) -> Algorithms:
        """Without their makers' domains."""
        return Algorithms(*(_short(name) for name in (self.key_exchange, self.cipher)))


def _short(name: str) -> str:
    return re.sub(r"^(\S+) in \1$", r"\1 twice", re.sub(r"@\S+", "", name))


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
            self._write_config(hosts)
            hosts += self._alike(hosts)
        self._write_config(hosts)

    def stop(self) -> None:
        self._cleanup.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def restart_gateway(self) -> None:
        """As fresh as after `start`, but for one login: nothing that earlier measurements made it allocate."""
        self.gateway.stop()
        self.gateway.start()
        self.run(self.ssh(PROXYD, "true"))

    def names_beside(self, alike: str) -> list[str]:
        """With the way that is alike to the gateway's, before it."""
        names = [name for name in self.names if name != PROXYD]
        return [*names, alike, PROXYD] if PROXYD in self.names else names

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

    def algorithms(self, name: str) -> Algorithms:
        """What the client agrees on, by its own word."""
        return agreed(self.run(self.ssh(name, "true", options=["-v"])))

    # The ways

    def _write_config(self, hosts: Sequence[SshHost]) -> None:
        config = write_ssh_config(self.directory / "ssh_config", hosts)
        config.write_text(_BEFORE_HOSTS + config.read_text())

    def _alike(self, hosts: Sequence[SshHost]) -> list[SshHost]:
        its = self.algorithms(PROXYD)
        options = self._options() | {"KexAlgorithms": its.key_exchange, "Ciphers": its.cipher}
        names = {DIRECT: DIRECT_ALIKE, HOP: HOP_ALIKE, JUMP: JUMP_ALIKE}
        return [
            replace(host, name=names[host.name], options=options, jump=HOP_ALIKE if host.jump else None)
            for host in hosts
            if host.name in names
        ]

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


def agreed(verbose: str) -> Algorithms:
    """The algorithms in the words of `ssh -v`."""
    found = _AGREED.findall(verbose)
    key_exchanges = [key_exchange for key_exchange, _ in found if key_exchange]
    ciphers = [cipher for _, cipher in found if cipher]
    return Algorithms(" in ".join(key_exchanges) or "unknown", " in ".join(ciphers) or "unknown")


def client_environment() -> dict[str, str]:
    """The caller's without what would reach clients or the target."""
    kept = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME")
    return {"TERM": "xterm"} | {name: os.environ[name] for name in kept if name in os.environ}
