"""One way to an SSH target, and the real tools that go it: ssh, sftp, scp, rsync, git, paramiko, asyncssh, ansible.

    route.ssh("echo hello").stdout
    route.sftp("put a b"); route.scp("a", f"{route.name}:b"); route.rsync(...); route.git("clone", ...)

The same test goes `direct` to an sshd and through the `gateway`: that both give the same is what it tests. Every tool
is run with a configuration of its own, so that nothing of the caller's (keys, agents, known hosts) takes part.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import asyncssh
import paramiko  # type: ignore[import-untyped]

from demo.ssh_config import SshHost, write_ssh_config
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer

TIMEOUT_S = 60.0
TARGET = "web1"
Finished = subprocess.CompletedProcess[bytes]


class ToolFailed(AssertionError):
    """A tool ended with another status than it should; the message carries what it said."""


class Talk(subprocess.Popen[bytes]):
    """A tool that goes on while we talk to it. A block that fails kills it, for it might wait for us for ever."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, trace)


@dataclass(frozen=True, slots=True)
class SshRoute:
    """name: what the tools call the target (the `Host` in `config`). others: hosts that are in the same file, such as
    the one to jump through.
    """

    kind: str
    host: SshHost
    server: SshServer
    directory: Path
    others: tuple[SshHost, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        write_ssh_config(self.config, [replace(self.host, options=self.options), *self.others])

    def __str__(self) -> str:
        return self.kind

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def is_direct(self) -> bool:
        return self.kind == "direct"

    @property
    def config(self) -> Path:
        return self.directory / "ssh_config"

    def with_options(self, directory: Path, **options: str) -> SshRoute:
        """The same way with other options of ssh_config(5)."""
        return replace(self, directory=directory, options={**self.options, **options})

    # OpenSSH's own tools

    def words(self, *arguments: str) -> list[str]:
        """The command line of ssh; the target's name is among `arguments`."""
        return ["ssh", "-F", str(self.config), *arguments]

    def ssh(
        self,
        command: str,
        *arguments: str,
        input: bytes = b"",
        status: int | None = 0,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run one command on the target. `arguments`: options of ssh. `env`: variables of the client."""
        return run(self.words(*arguments, self.name, command), input=input, status=status, env=env)

    def output(self, command: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        return self.ssh(command, *arguments, env=env).stdout.decode()

    def popen(self, command: str, *arguments: str, env: Mapping[str, str] | None = None) -> Talk:
        """One command on the target, with pipes to its three streams."""
        return Talk(
            self.words(*arguments, self.name, command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
            bufsize=0,
        )

    def sftp(self, batch: str, *arguments: str, status: int | None = 0) -> Finished:
        """`batch`: one command of sftp(1) a line; it ends at the first that fails, unless that begins with `-`."""
        words = ["sftp", "-q", "-F", str(self.config), "-b", "-", *arguments, self.name]
        return run(words, input=batch.encode(), status=status)

    def scp(self, *arguments: str, is_legacy: bool = False, status: int | None = 0) -> Finished:
        """`arguments` of scp(1), a place on the target as `{route.name}:PATH`. is_legacy: scp's own protocol."""
        protocol = "-O" if is_legacy else "-s"
        return run(["scp", "-F", str(self.config), protocol, *arguments], status=status)

    # What goes over ssh

    def rsync(self, *arguments: str, status: int | None = 0) -> Finished:
        return run(["rsync", "-e", self.shell, *arguments], status=status)

    def git(self, *arguments: str, cwd: Path, status: int | None = 0) -> Finished:
        """A place on the target is `{route.name}:PATH`. The caller's own settings of git do not count."""
        own = {
            "GIT_SSH_COMMAND": self.shell,
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            **{
                f"GIT_{who}_{what}": "tester@example.net"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        return run(["git", *arguments], cwd=cwd, status=status, env=own)

    @property
    def shell(self) -> str:
        """The command that a tool runs in place of `ssh`."""
        return shlex.join(self.words())

    # Libraries

    def paramiko(self, **options: Any) -> paramiko.SSHClient:
        """A connected client; the caller closes it."""
        key: paramiko.PKey = paramiko.Ed25519Key.from_private_key_file(str(self.host.key))
        if self.host.certificate is not None:
            key.load_certificate(str(self.host.certificate))
        client = paramiko.SSHClient()
        client.load_host_keys(str(self.host.known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(
            self.host.address,
            self.host.port,
            self.host.user,
            pkey=key,
            allow_agent=False,
            look_for_keys=False,
            timeout=TIMEOUT_S,
            **options,
        )
        return client

    def asyncssh(self, **options: Any) -> Any:
        """What asyncssh.connect gives: await it, or use it in `async with`, under asyncio."""
        key: Any = self.host.key if self.host.certificate is None else (self.host.key, self.host.certificate)
        return asyncssh.connect(
            self.host.address,
            self.host.port,
            username=self.host.user,
            client_keys=[key],
            known_hosts=str(self.host.known_hosts),
            agent_path=None,
            config=None,
            **options,
        )


def direct_route(server: SshServer, keys: SshKeys, directory: Path, key: str = "person") -> SshRoute:
    """Straight to an sshd, by a key that it knows. `jump` and `inside` are the same host, to be joined by ssh -J."""
    directory.mkdir(parents=True, exist_ok=True)
    host = direct_host(TARGET, server, keys, directory, key)
    return SshRoute(
        "direct", host, server, directory, (replace(host, name="jump"), replace(host, name="inside"))
    )


def direct_host(name: str, server: SshServer, keys: SshKeys, directory: Path, key: str = "person") -> SshHost:
    known_hosts = directory / f"known_hosts_{name}"
    known_hosts.write_text(server.known_hosts_line + "\n")
    return SshHost(name, server.host, server.port, server.login, keys.private(key), known_hosts)


def run(
    words: Sequence[str],
    *,
    input: bytes = b"",
    cwd: Path | None = None,
    status: int | None = 0,
    timeout_s: float = TIMEOUT_S,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a tool to its end. `status`: what it has to end with (None: whatever). Raises ToolFailed."""
    try:
        done = subprocess.run(
            words,
            input=input,
            cwd=cwd,
            env=environment(env),
            capture_output=True,
            check=False,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        said = b"".join(stream or b"" for stream in (error.stdout, error.stderr))[-4000:]
        raise ToolFailed(
            f"{shlex.join(words)} did not end within {timeout_s:g} s:\n{said.decode(errors='replace')}"
        ) from None
    if status is not None and done.returncode != status:
        shown = (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace")
        raise ToolFailed(f"{shlex.join(words)} ended with {done.returncode}, not {status}:\n{shown}")
    return done


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without what would reach the tools or the target."""
    kept = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME")
    return {name: os.environ[name] for name in kept if name in os.environ} | dict(variables or {})
