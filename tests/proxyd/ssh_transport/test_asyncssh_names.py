"""The names below asyncssh's public ones that `proxyd.ssh_transport` stands on must be there, and mean the same."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from asyncssh.connection import SSHClientConnection, SSHConnection, SSHServerConnection

import proxyd

METHODS = (
    "_force_close", "_log_packet", "_send_kexinit", "_recv_packet", "send_packet", "send_userauth_failure",
    "connection_made", "connection_lost", "data_received", "disconnect", "is_client",
    "_recv_data", "_send_deferred_packets", "_send_disconnect", "_process_disconnect", "internal_error",
)  # fmt: skip
FIELDS = (
    "_channels", "_protocol_factory", "_deferred_packets", "_kexinit_sent", "_kex", "_username",
    "_server_version",
    "_client_version", "_enc_algs", "_session_id", "_inpbuf", "_transport",
    "_rekey_bytes", "_rekey_seconds", "_rekey_bytes_sent", "_rekey_time",
)  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_there(name: str) -> None:
    assert inspect.isfunction(getattr(SSHConnection, name))


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_set_from_the_start(name: str) -> None:
    assert f"self.{name}" in inspect.getsource(SSHConnection.__init__)


def test_messages_are_dispatched_by_a_table_and_by_the_channels() -> None:
    assert {80, 81, 82, 90, 91, 92} <= set(SSHConnection._packet_handlers)
    assert "self._channels[recv_chan]" in inspect.getsource(SSHConnection._recv_packet)


def test_the_two_sides_decide_where_we_stand_in_their_place() -> None:
    for name in ("validate_public_key", "send_server_host_keys", "reload_config", "get_kbdint_challenge"):
        assert inspect.isfunction(getattr(SSHServerConnection, name))
    assert inspect.isfunction(SSHClientConnection.validate_server_host_key)


# What lies below asyncssh's public names: its connections and all that they are made of.
INNER = ("asyncssh.connection", "asyncssh.packet", "asyncssh.misc", "asyncssh.kex", "asyncssh.constants")


def test_one_package_alone_touches_them() -> None:
    house = Path(proxyd.__file__).parent
    touching = set()
    for path in house.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.ImportFrom(module=str(module)):
                    names = [module]
                case ast.Import(names=aliases):
                    names = [alias.name for alias in aliases]
                case _:
                    continue
            if any(name.startswith(INNER) for name in names):
                touching.add(path.relative_to(house).parts[0])
    assert touching == {"ssh_transport"}
