"""The gateway's own host keys: one generation, and its exchange for another."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from proxyd.config import LoadedConfig, SshListener
from proxyd.ssh_public_keys import SshSettingsError
from proxyd.ssh_server_keys import ListenerKeys, ServerKeys
from tests.proxyd.documents import SSH_CONFIG, write_ssh_key, write_ssh_setup


def listener_in(directory: Path, config: str = SSH_CONFIG) -> SshListener:
    listener = LoadedConfig.read(write_ssh_setup(directory, config=config)).config.listeners[1]
    assert isinstance(listener, SshListener)
    return listener


def test_a_certified_key_is_shown_both_ways(tmp_path: Path) -> None:
    keys = ServerKeys.read(listener_in(tmp_path))
    assert [pair.algorithm for pair in keys.pairs] == [b"ssh-ed25519-cert-v01@openssh.com", b"ssh-ed25519"]
    assert len(keys.identifiers) == 2
    assert not keys.expiries


def test_no_key_is_shown_by_the_object(tmp_path: Path) -> None:
    assert "SSHLocalKeyPair" not in repr(ServerKeys.read(listener_in(tmp_path)))


def test_keys_of_several_kinds(tmp_path: Path) -> None:
    config = SSH_CONFIG.replace("[ssh/host]", "[ssh/host, ssh/rsa, ssh/ecdsa]")
    listener = listener_in(tmp_path, config)
    write_ssh_key(tmp_path / "ssh/rsa", "ssh-rsa")
    write_ssh_key(tmp_path / "ssh/ecdsa", "ecdsa-sha2-nistp256")
    assert len(ServerKeys.read(listener).pairs) == 4


def test_a_second_certificate_of_one_key(tmp_path: Path) -> None:
    config = SSH_CONFIG.replace("[ssh/host-cert.pub]", "[ssh/host-cert.pub, ssh/second-cert.pub]")
    listener = listener_in(tmp_path, config)
    (tmp_path / "ssh/second-cert.pub").write_bytes((tmp_path / "ssh/host-cert.pub").read_bytes())
    with pytest.raises(SshSettingsError, match=r"second-cert.pub: is a second certificate of its key"):
        ServerKeys.read(listener)


def test_a_reload_takes_what_is_new_and_sound(tmp_path: Path) -> None:
    keys = ListenerKeys(listener_in(tmp_path))
    before = keys.current
    assert not keys.reload()
    assert keys.current is before

    write_ssh_key(tmp_path / "ssh/host")  # and its certificate is still the old key's
    with pytest.raises(SshSettingsError, match="is of none of the host keys"):
        keys.reload()
    assert keys.current is before

    host, authority = (asyncssh.read_private_key(tmp_path / "ssh" / name) for name in ("host", "host_ca"))
    authority.generate_host_certificate(host, "bastion").write_certificate(tmp_path / "ssh/host-cert.pub")
    assert keys.reload()
    assert keys.current.pairs[0].key_public_data == host.public_data


def test_a_renewed_certificate_is_something_new(tmp_path: Path) -> None:
    keys = ListenerKeys(listener_in(tmp_path))
    host, authority = (asyncssh.read_private_key(tmp_path / "ssh" / name) for name in ("host", "host_ca"))
    certificate = authority.generate_host_certificate(host, "bastion", valid_before=2_000_000_000)
    certificate.write_certificate(tmp_path / "ssh/host-cert.pub")
    assert keys.reload()
    (expiry,) = keys.current.expiries
    assert (expiry.what, expiry.at_s) == ("the host certificate", 2_000_000_000.0)
