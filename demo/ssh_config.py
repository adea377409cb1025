"""The client's side of OpenSSH: a configuration file that names hosts, and nothing of the person's own.

Owns the wording of `ssh_config` for the demo, the bench and the tests: `ssh -F FILE NAME` reaches a host by exactly the
key given, knows exactly the host keys given, and never asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# None of the caller's own keys, agents, hosts or multiplexed connections; no question and no delay.
_ISOLATED = {
    "IdentityAgent": "none",
    "IdentitiesOnly": "yes",
    "GlobalKnownHostsFile": "none",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "PreferredAuthentications": "publickey",
    "BatchMode": "yes",
    "ConnectTimeout": "20",
    "LogLevel": "ERROR",
}


@dataclass(frozen=True, slots=True)
class SshHost:
    """A host as a client sees it. jump: the name of another host that the way goes through (ssh -J)."""

    name: str
    address: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    certificate: Path | None = None
    jump: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)


def write_ssh_config(path: Path, hosts: Sequence[SshHost]) -> Path:
    """Write the file; an option of a host comes before the general one, for OpenSSH takes the first it finds."""
    path.write_text("\n".join(_section(host) for host in hosts))
    return path


def _section(host: SshHost) -> str:
    lines = {
        "HostName": host.address,
        "Port": str(host.port),
        "User": host.user,
        "IdentityFile": f'"{host.key}"',
        "UserKnownHostsFile": f'"{host.known_hosts}"',
    }
    if host.certificate is not None:
        lines["CertificateFile"] = f'"{host.certificate}"'
    if host.jump is not None:
        lines["ProxyJump"] = host.jump
    lines = {**_ISOLATED, **lines, **host.options}
    return f"Host {host.name}\n" + "".join(f"    {name} {value}\n" for name, value in lines.items())
