"""The documents of the bench's gateways: made of several, and such that the daemon takes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.doors import PostgresDoor, SshDoor, daemon, merged
from bench.target import Target
from demo.gateway import program
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer


def test_lists_follow_each_other_and_mappings_are_joined() -> None:
    first = {"a": [1], "b": {"x": 1, "z": [1]}, "c": 1}
    second = {"a": [2], "b": {"y": 2, "z": [2]}, "d": 2}
    assert merged(first, second) == {"a": [1, 2], "b": {"x": 1, "y": 2, "z": [1, 2]}, "c": 1, "d": 2}
    assert first == {"a": [1], "b": {"x": 1, "z": [1]}, "c": 1}


def test_what_both_say_once_only_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="'port'"):
        merged({"listener": {"port": 1}}, {"listener": {"port": 2}})


def test_the_daemon_takes_the_documents_of_both_doors(tmp_path: Path) -> None:
    target = Target(1)
    try:
        target.server.port = 5432
        (tmp_path / "known_hosts").write_text("")
        server = SshServer(port=22)
        ssh = SshDoor(server, SshKeys(tmp_path / "keys"), tmp_path / "known_hosts")
        postgres = PostgresDoor(target, upstream_tls=True)
        gateway = daemon(tmp_path / "gateway", ssh, postgres)
    finally:
        target.stop()
    command = [program(), "check", "--documents-only", "--strict", "--config", str(gateway.config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    password = tmp_path / "gateway" / "password"
    assert password.stat().st_mode & 0o777 == 0o600
