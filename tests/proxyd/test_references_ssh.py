"""What the SSH settings refer to: every fault of a file stands at the line that names it."""

from __future__ import annotations

import grp
import os
from collections.abc import Callable
from pathlib import Path

import asyncssh
import pytest

from policy.located_yaml import DocumentError
from proxyd.references import Material, read_documents
from tests.proxyd.documents import (
    ALICE_KEY,
    POLICY,
    SSH_CONFIG,
    SSH_LISTENER,
    write_secret,
    write_ssh_key,
    write_ssh_setup,
)

NOW = 1_800_000_000.0
DAY_S = 86400.0

Spoil = Callable[[Path], object]


def faults_of(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        Material.read(path, NOW)
    return [str(fault).removeprefix(f"{path}:") for fault in caught.value.faults]


def warnings_of(path: Path, now: float = NOW) -> list[str]:
    return [str(warning).removeprefix(f"{path}:") for warning in Material.read(path, now).warnings]


def test_a_sound_setup(tmp_path: Path) -> None:
    assert warnings_of(write_ssh_setup(tmp_path)) == []


def write(name: str, text: str) -> Spoil:
    return lambda directory: (directory / name).write_text(text)


def remove(name: str) -> Spoil:
    return lambda directory: (directory / name).unlink()


def public(name: str) -> Spoil:
    return write(name, asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode())


def short_rsa() -> str:
    return asyncssh.generate_private_key("ssh-rsa", key_size=1024).export_public_key().decode().strip()


def encrypt(name: str) -> Spoil:
    return lambda directory: write_ssh_key(directory / name, passphrase="secret")


def certify(*, is_host: bool = True) -> Spoil:
    """A certificate of another key, or of the right one but for a user."""

    def spoil(directory: Path) -> None:
        ca = asyncssh.generate_private_key("ssh-ed25519")
        if is_host:
            certificate = ca.generate_host_certificate(ca, "other")
        else:
            host = asyncssh.read_private_key(directory / "ssh/host")
            certificate = ca.generate_user_certificate(host, "user", principals=["ann"])
        certificate.write_certificate(directory / "ssh/host-cert.pub")

    return spoil


FAULTS = [
    (remove("ssh/host"), "11:17: listeners[1].host_keys[0]", "cannot be opened (No such file or directory)"),
    (lambda d: (d / "ssh/host").chmod(0o644), "listeners[1].host_keys[0]", "run: chmod 600"),
    (public("ssh/host"), "listeners[1].host_keys[0]", "name the file without .pub"),
    (write("ssh/host", "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"), "listeners[1].host_keys[0]", "damaged"),
    (encrypt("ssh/host"), "listeners[1].host_keys[0]", "ssh-keygen -p -N ''"),
    (
        lambda d: write_ssh_key(d / "ssh/host", "ssh-dss"),
        "listeners[1].host_keys[0]",
        "ssh-dss are not accepted",
    ),
    (remove("ssh/host-cert.pub"), "listeners[1].host_certificates[0]", "cannot be read"),
    (public("ssh/host-cert.pub"), "listeners[1].host_certificates[0]", "no readable certificate"),
    (certify(), "listeners[1].host_certificates[0]", "is of none of the host keys"),
    (certify(is_host=False), "listeners[1].host_certificates[0]", "not the certificate of a host"),
    (remove("ssh/user_ca.pub"), "13:5: listeners[1].client_ca", "cannot be read"),
    (write("ssh/user_ca.pub", "# none\n\n"), "listeners[1].client_ca", "lists no key"),
    (
        lambda d: (d / "ssh/user_ca.pub").write_bytes((d / "ssh/user_ca").read_bytes()),
        "listeners[1].client_ca",
        "write it as in a .pub file",
    ),
    (
        lambda d: (d / "ssh/user_ca.pub").write_bytes((d / "ssh/host-cert.pub").read_bytes()),
        "listeners[1].client_ca",
        "certificate",
    ),
    (write("ssh/user_ca.pub", short_rsa()), "listeners[1].client_ca", "1024 bits"),
    (
        write("ssh/user_ca.pub", f"{ALICE_KEY}\n"),
        "listeners[1].client_ca",
        "is also a key of `alice@example.com`",
    ),
    (remove("ssh/revoked"), "14:5: listeners[1].revoked_keys", "cannot be read"),
    (write("ssh/revoked", "alice\n"), "listeners[1].revoked_keys", "line 1"),
    (write("ssh/revoked", "SHA256:abc\n"), "listeners[1].revoked_keys", "fingerprint"),
    (write("secrets/alice.totp", "not base32!\n"), "identity.people[0].totp", "base32"),
    (write("secrets/alice.totp", "JBSWY3DP\n"), "identity.people[0].totp", "5 bytes"),
    (remove("secrets/alice.totp"), "identity.people[0].totp", "cannot be opened"),
    (remove("ssh/gateway_ca"), "ssh_authority.key.file", "cannot be opened"),
    (public("ssh/gateway_ca"), "ssh_authority.key.file", "no readable private key"),
    (encrypt("ssh/gateway_ca"), "ssh_authority.key.file", "encrypted with a passphrase"),
    (remove("ssh/known_hosts"), "targets[1].host_keys.known_hosts", "cannot be read"),
    (write("ssh/known_hosts", ""), "targets[1].host_keys.known_hosts", "known_hosts: "),
    (write("ssh/known_hosts", "web1.example ssh-ed25519\n"), "targets[1].host_keys.known_hosts", "line 1"),
    (
        write("ssh/known_hosts", f"web2.example {ALICE_KEY}\n"),
        "host_keys.known_hosts",
        "of web1.example:22: every",
    ),
    (write("ssh/known_hosts", f"[web1.example]:2222 {ALICE_KEY}\n"), "host_keys.known_hosts", "ssh-keyscan"),
    (
        write("ssh/known_hosts", f"@revoked web1.example {ALICE_KEY}\n"),
        "host_keys.known_hosts",
        "knows no host",
    ),
    (remove("ssh/root"), "targets[1].logins[1].key.file", "cannot be opened"),
    (lambda d: (d / "ssh/root").chmod(0o604), "targets[1].logins[1].key.file", "run: chmod 600"),
    (
        lambda d: write_secret(d / "secrets/passphrase", "wrong"),
        "targets[1].logins[1].key.file",
        "correct the passph",
    ),
    (remove("secrets/passphrase"), "targets[1].logins[1].passphrase", "cannot be opened"),
]


@pytest.mark.parametrize(("spoil", "place", "words"), FAULTS)
def test_a_fault_of_a_file_stands_where_it_is_named(
    tmp_path: Path, spoil: Spoil, place: str, words: str
) -> None:
    path = write_ssh_setup(tmp_path)
    spoil(tmp_path)
    faults = faults_of(path)
    assert len(faults) == 1, faults
    assert place in faults[0], faults
    assert words in faults[0], faults


def test_faults_of_several_files_are_told_at_once(tmp_path: Path) -> None:
    path = write_ssh_setup(tmp_path)
    for name in (
        "ssh/host",
        "ssh/user_ca.pub",
        "ssh/revoked",
        "ssh/gateway_ca",
        "ssh/root",
        "ssh/known_hosts",
    ):
        (tmp_path / name).unlink()
    assert len(faults_of(path)) == 6


def test_a_secret_that_its_group_may_read(tmp_path: Path) -> None:
    """As for every secret: the account that runs proxyd reads what root has written for its group."""
    path = write_ssh_setup(tmp_path)
    (tmp_path / "ssh/host").chmod(0o640)
    assert warnings_of(path) == []


def test_two_host_keys_of_one_kind(tmp_path: Path) -> None:
    config = SSH_CONFIG.replace("host_keys: [ssh/host]", "host_keys: [ssh/host, ssh/other]")
    path = write_ssh_setup(tmp_path, config=config)
    write_ssh_key(tmp_path / "ssh/other")
    (fault,) = faults_of(path)
    assert "listeners[1].host_keys[1]" in fault
    assert "second key of the kind ssh-ed25519" in fault


def test_an_authority_that_is_revoked_is_a_warning(tmp_path: Path) -> None:
    path = write_ssh_setup(tmp_path)
    (tmp_path / "ssh/revoked").write_bytes((tmp_path / "ssh/user_ca.pub").read_bytes())
    (warning,) = warnings_of(path)
    assert warning.startswith("13:5: listeners[1].client_ca: one of these authorities is revoked")


@pytest.mark.parametrize(
    ("left_s", "words"), [(-1.0, "has expired"), (5 * DAY_S, "expires in 5.0 days"), (20 * DAY_S, "")]
)
def test_a_host_certificate_that_ends_is_a_warning(tmp_path: Path, left_s: float, words: str) -> None:
    path = write_ssh_setup(tmp_path)
    host, ca = (asyncssh.read_private_key(tmp_path / "ssh" / name) for name in ("host", "host_ca"))
    certificate = ca.generate_host_certificate(host, "bastion", valid_before=int(NOW + left_s))
    certificate.write_certificate(tmp_path / "ssh/host-cert.pub")
    warnings = warnings_of(path)
    assert len(warnings) == bool(words)
    assert all("12:25: listeners[1].host_certificates[0]" in w and words in w for w in warnings)


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        (
            "[[certificate], [public_key, totp]]",
            "[[public_key]]",
            "13:5: listeners[1].client_ca",
            "asks for a certif",
        ),
        (
            "readonly, user: reader, certificate: true",
            "readonly, password: {file: secrets/reader}",
            "ssh_auth",
            "signs",
        ),
        (
            "    host_keys: {known",
            "    environment: ['*']\n    host_keys: {known",
            "environment[0]",
            "`BASH_ENV`",
        ),
        (
            "    host_keys: {known",
            "    environment: [LANG, LD_*]\n    host_keys: {known",
            "environment[1]",
            "LD_PRELOAD",
        ),
        (SSH_LISTENER, "", "targets[1].protocol", "no listener speaks ssh"),
    ],
)
def test_warnings(tmp_path: Path, old: str, new: str, place: str, words: str) -> None:
    assert old in SSH_CONFIG
    (warning,) = warnings_of(write_ssh_setup(tmp_path, config=SSH_CONFIG.replace(old, new, 1)))
    assert place in warning
    assert words in warning


def test_keys_in_the_documents_are_looked_at_without_any_file(tmp_path: Path) -> None:
    short = short_rsa()
    path = tmp_path / "proxyd.yaml"
    text = SSH_CONFIG.replace(f"{ALICE_KEY} alice", short)
    path.write_text(text.replace("{known_hosts: ssh/known_hosts}", f'{{keys: ["{short}"]}}'))
    (tmp_path / "policy.yaml").write_text(POLICY)
    with pytest.raises(DocumentError) as caught:
        read_documents(path)
    person, target = (str(fault) for fault in caught.value.faults)
    assert "identity.people[0].keys[0]: this key cannot be used: it is an RSA key of 1024 bits" in person
    assert "targets[1].host_keys.keys[0]" in target
    write_ssh_setup(tmp_path, config=path.read_text())
    assert len(faults_of(path)) == 2


@pytest.mark.parametrize("way", ["{ca: ssh/host_ca.pub}", f'{{keys: ["{ALICE_KEY}"]}}'])
def test_other_ways_to_know_a_target(tmp_path: Path, way: str) -> None:
    path = write_ssh_setup(tmp_path, config=SSH_CONFIG.replace("{known_hosts: ssh/known_hosts}", way))
    asyncssh.read_private_key(tmp_path / "ssh/host_ca").write_public_key(tmp_path / "ssh/host_ca.pub")
    assert warnings_of(path) == []
    if "ca" in way:
        (tmp_path / "ssh/host_ca.pub").write_text("")
        assert "targets[1].host_keys.ca" in faults_of(path)[0]


def test_a_target_behind_a_unix_socket_is_known_by_its_name(tmp_path: Path) -> None:
    config = SSH_CONFIG.replace("address: web1.example:22", "address: unix:/run/sshd.sock")
    path = write_ssh_setup(tmp_path, config=config)
    assert "says nothing of web1:" in faults_of(path)[0]
    (tmp_path / "ssh/known_hosts").write_text(f"web1 {ALICE_KEY}\n")
    assert warnings_of(path) == []


def test_secrets_stay_out_of_faults(tmp_path: Path) -> None:
    path = write_ssh_setup(tmp_path)
    key = (tmp_path / "ssh/gateway_ca").read_text()
    (tmp_path / "ssh/gateway_ca").write_text(key[:200])
    write_secret(tmp_path / "secrets/alice.totp", "JBSWY3DP")
    write_secret(tmp_path / "secrets/passphrase", "hocus pocus")
    text = "\n".join(faults_of(path))
    assert "JBSWY3DP" not in text
    assert "hocus" not in text
    assert key.splitlines()[1] not in text


def test_a_policy_for_ssh_targets_is_looked_at(tmp_path: Path) -> None:
    policy = POLICY.replace("logins: [readonly]", "logins: [readonly, root, deploi]")
    path = write_ssh_setup(tmp_path, policy=policy)
    (warning,) = warnings_of(path)
    assert "none of its targets has the login `deploi`" in warning


# The socket of `proxyd sessions`


def with_admin(line: str) -> str:
    return f"{SSH_CONFIG}admin: {line}\n"


def test_an_admin_socket(tmp_path: Path) -> None:
    path = write_ssh_setup(tmp_path, config=with_admin("{socket: run/admin.sock}"))
    assert "admin.socket" in warnings_of(path)[0]
    (tmp_path / "run").mkdir()
    assert warnings_of(path) == []
    (tmp_path / "run").chmod(0o777)
    assert "could put their own socket there" in warnings_of(path)[0]
    (tmp_path / "run").chmod(0o1777)
    assert warnings_of(path) == []
    (tmp_path / "run/admin.sock").write_text("")
    assert "no socket" in faults_of(path)[0]


def test_an_admin_socket_that_a_listener_has(tmp_path: Path) -> None:
    config = with_admin("{socket: run/a.sock}").replace(
        "127.0.0.1:0\n    host_keys", f"unix:{tmp_path}/run/a.sock\n    host_keys"
    )
    path = write_ssh_setup(tmp_path, config=config)
    (tmp_path / "run").mkdir()
    assert "admin.socket: taken by the listener `ssh`" in faults_of(path)[0]


def test_a_group_that_is_not_there(tmp_path: Path) -> None:
    path = write_ssh_setup(tmp_path, config=with_admin("{socket: admin.sock, group: no-such-group}"))
    (fault,) = faults_of(path)
    assert "admin.group: there is no group `no-such-group`" in fault


def test_a_group_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may give a file to a group of which it is no member."""
    group = grp.getgrall()[0]
    path = write_ssh_setup(tmp_path, config=with_admin(f"{{socket: admin.sock, group: '{group.gr_name}'}}"))
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid or 4711)
    monkeypatch.setattr(os, "getegid", lambda: group.gr_gid + 1)
    monkeypatch.setattr(os, "getgroups", list)
    (fault,) = faults_of(path)
    assert f"admin.group: this account is not in the group `{group.gr_name}`" in fault
    monkeypatch.setattr(os, "getgroups", lambda: [group.gr_gid])
    assert warnings_of(path) == []
