"""What the listeners of each protocol keep while they run, and what a reload changes in it."""

from __future__ import annotations

import base64
import io
import struct
from pathlib import Path

import pytest

from proxyd.config import Identity, PostgresListener, SshListener
from proxyd.gateway import Gateway
from proxyd.metrics import SessionOutcome
from proxyd.postgres_door import POSTGRES_DOOR
from proxyd.references import Material
from proxyd.relay import last_words
from proxyd.settings_files import SettingsError
from proxyd.ssh_door import SSH_DOOR
from proxyd.ssh_listener import SshListenerRuntime
from proxyd.telemetry import Telemetry
from tests.end_to_end.raw import error_fields
from tests.proxyd.documents import ALICE_KEY, write_setup, write_ssh_key, write_ssh_setup

KEY_BLOB = base64.b64decode(ALICE_KEY.split()[1])


def gateway_of(path: Path) -> Gateway:
    material = Material.read(path, 0.0)
    return Gateway.from_config(material.config, material.policy, telemetry=Telemetry(stream=io.StringIO()))


def ssh_runtime(directory: Path) -> SshListenerRuntime:
    gateway = gateway_of(write_ssh_setup(directory))
    (listener,) = [one for one in gateway.config.listeners if isinstance(one, SshListener)]
    return SshListenerRuntime.open(listener, gateway)


def is_known(runtime: SshListenerRuntime) -> bool:
    return runtime.authenticator.begin("").offer("readonly+web1", b"ssh-ed25519", KEY_BLOB)


def test_people_of_another_identity_are_let_in_and_those_who_left_are_not(tmp_path: Path) -> None:
    runtime = ssh_runtime(tmp_path)
    assert is_known(runtime)
    runtime.take_identity(Identity())
    assert not is_known(runtime)
    runtime.take_identity(runtime.identity)
    assert is_known(runtime)


def test_codes_that_were_used_stay_used_under_another_identity(tmp_path: Path) -> None:
    runtime = ssh_runtime(tmp_path)
    before = runtime.authenticator
    runtime.take_identity(Identity())
    assert runtime.authenticator is not before
    assert runtime.authenticator._totp is before._totp is runtime.gateway.totp


def test_an_identity_whose_files_are_gone_changes_nothing(tmp_path: Path) -> None:
    runtime = ssh_runtime(tmp_path)
    (tmp_path / "secrets/alice.totp").unlink()
    with pytest.raises(SettingsError):
        runtime.take_identity(runtime.identity)
    assert is_known(runtime)


def test_the_sides_of_an_ssh_listener_are_read_anew(tmp_path: Path) -> None:
    runtime = ssh_runtime(tmp_path)
    assert [side.reload() for side in runtime.sides()] == [False, False]
    write_ssh_setup(tmp_path)  # new host keys, another authority
    assert [side.reload() for side in runtime.sides()] == [True, True]
    write_ssh_key(tmp_path / "ssh/host", passphrase="x")
    with pytest.raises(SettingsError):
        runtime.keys.reload()


def test_a_full_postgres_listener_says_so_in_the_servers_own_form(tmp_path: Path) -> None:
    gateway = gateway_of(write_setup(tmp_path))
    (listener,) = gateway.config.listeners
    assert isinstance(listener, PostgresListener)
    notice = POSTGRES_DOOR.full_notice(POSTGRES_DOOR.open(listener, gateway))
    assert notice[:1] == b"E"
    fields = error_fields(notice[5:])
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "53300", "proxyd: too many connections")
    assert fields["D"] == "This listener takes 10 connections at a time."


def test_a_full_ssh_listener_says_so_in_ssh(tmp_path: Path) -> None:
    version, _, packet = SSH_DOOR.full_notice(ssh_runtime(tmp_path)).partition(b"\r\n")
    assert version.startswith(b"SSH-2.0-")
    assert len(packet) % 8 == 0
    length, padding = struct.unpack(">IB", packet[:5])
    assert (length, padding >= 4) == (len(packet) - 4, True)
    payload = packet[5:-padding]
    assert payload[:5] == struct.pack(">BI", 1, 12)  # SSH_DISCONNECT_TOO_MANY_CONNECTIONS
    assert b"too many connections, try again" in payload


@pytest.mark.parametrize(
    ("outcome", "state", "message"),
    [
        (SessionOutcome.DRAINED, "57P01", "terminating connection due to administrator command"),
        (SessionOutcome.ENDED, "57P01", "terminating connection due to administrator command"),
        (SessionOutcome.MAX_AGE, "57P05", "proxyd: this session has reached its maximum age"),
        (SessionOutcome.IDLE, "57P05", "proxyd: this session was idle for too long"),
        (SessionOutcome.FAILED, "57P01", "proxyd: this session was ended: why"),
    ],
)
def test_last_words_of_postgres(outcome: SessionOutcome, state: str, message: str) -> None:
    fields = error_fields(last_words(outcome, "why")[5:])
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", state, message)
    assert fields.get("D") == ("Why." if outcome is SessionOutcome.ENDED else None)
