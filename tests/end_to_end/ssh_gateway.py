"""proxyd before a real sshd, as the users of SSH meet it: a daemon, its certificates, and the way through it.

    with SshGateway(server, directory, keys, policy=EVERYTHING_BY_SSH) as gateway:
        gateway.route("alice").ssh("echo hello")

alice's certificate lets her in as `deploy`, which is the account of the server. The gateway logs in there by
certificates of its own authority: the server has to trust `gateway_ca` of the same keys.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from demo.ssh_config import SshHost
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.running import HOST, Document, RunningGateway
from tests.end_to_end.ssh_route import TARGET, SshRoute, direct_host

LOGIN = "deploy"
AUTHORITY = "gateway_ca"  # signs the gateway's certificates for targets
PEOPLE_AUTHORITY = "people_ca"
HOST_KEY = "gateway_host"
PEOPLE = {"alice": "operators", "mallory": "guests"}

EVERYTHING_BY_SSH = """\
version: 1

roles:
  operator: {groups: [operators]}

access:
  - name: operators-everywhere
    roles: [operator]
    targets: {protocol: ssh}
    logins: [deploy]

rules:
  - name: operators-do-everything
    effect: allow
    roles: [operator]
    ssh:
      shell: true
      exec: ["*"]
      subsystems: ["*"]
      files: ["*"]
      forward: ["*:*", "unix:/**"]
      listen: ["*:*", "unix:/**"]
      agent: true
      x11: true
"""


class SshGateway(RunningGateway):
    """A running proxyd with one SSH listener, before `server`. `adjust` may change the configuration."""

    def __init__(
        self,
        server: SshServer,
        directory: Path,
        keys: SshKeys,
        *,
        policy: str = EVERYTHING_BY_SSH,
        adjust: Callable[[Document], None] | None = None,
    ) -> None:
        super().__init__(directory)
        self.server = server
        self.keys = keys
        self.tape_directory.mkdir(parents=True, exist_ok=True)
        config = self._config()
        if adjust is not None:
            adjust(config)
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.policy_path.write_text(policy)

    @property
    def known_hosts_line(self) -> str:
        algorithm, key = self.keys.public(HOST_KEY).split()[:2]
        return f"[{HOST}]:{self.port} {algorithm} {key}"

    def user(self, target: str | None = TARGET, login: str = LOGIN) -> str:
        """What a client gives as the user name; without a target it has none."""
        return login if target is None else f"{login}+{target}"

    def route(self, person: str = "alice", target: str | None = TARGET, name: str = TARGET) -> SshRoute:
        """The way of `person` through the gateway. The target itself is in its file too: `inside` is a host that only a
        jump through the gateway reaches, by the person's own key.
        """
        directory = self.directory / "clients" / f"{person}-{target}"
        directory.mkdir(parents=True, exist_ok=True)
        host = self.host(person, directory, target, name)
        jump = self.host(person, directory, None, "jump")
        inside = direct_host("inside", self.server, self.keys, directory)
        return SshRoute("gateway", host, self.server, directory, (jump, inside))

    def host(self, person: str, directory: Path, target: str | None = TARGET, name: str = TARGET) -> SshHost:
        known_hosts = directory / "known_hosts_gateway"
        known_hosts.write_text(self.known_hosts_line + "\n")
        if not self.keys.certificate(person).exists():
            self.keys.certify(person, PEOPLE_AUTHORITY, [LOGIN])
        return SshHost(
            name,
            HOST,
            self.port,
            self.user(target),
            self.keys.private(person),
            known_hosts,
            self.keys.certificate(person),
        )

    def _config(self) -> Document:
        server, keys = self.server, self.keys
        known_hosts = self.directory / "known_hosts"
        known_hosts.write_text(server.known_hosts_line + "\n")
        return {
            "version": 1,
            "listeners": [
                {
                    "name": "ssh",
                    "protocol": "ssh",
                    "address": f"{HOST}:0",
                    "host_keys": [str(keys.private(HOST_KEY))],
                    "client_ca": str(keys.public_file(PEOPLE_AUTHORITY)),
                    "limits": {
                        "connections": 500,
                        "connections_per_subject": 500,
                        "handshake_timeout": "20s",
                    },
                }
            ],
            "identity": {"people": [{"name": name, "groups": [group]} for name, group in PEOPLE.items()]},
            "ssh_authority": {"key": {"file": str(keys.private(AUTHORITY))}, "lifetime": "5m"},
            "targets": [
                {
                    "name": TARGET,
                    "protocol": "ssh",
                    "address": f"{server.host}:{server.port}",
                    "labels": {"env": "prod"},
                    "host_keys": {"known_hosts": str(known_hosts)},
                    "environment": ["LANG", "LC_*", "FOO_ALLOWED"],
                    "logins": [{"name": LOGIN, "user": server.login, "certificate": True}],
                }
            ],
            "policy": "policy.yaml",
            "tapes": {"directory": "tapes"},
            "metrics": {"address": f"{HOST}:{self.metrics_port}"},
            "log": {"level": "info"},
            "drain_timeout": "1s",
        }
