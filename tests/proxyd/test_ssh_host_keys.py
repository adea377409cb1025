"""Whether a target is the one that was meant: listed keys, known_hosts and authorities, and a real sshd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from demo.sshd import SshServer
from proxyd.addresses import parse_address
from proxyd.config import SshTarget
from proxyd.ssh_host_keys import HostKeyCheck, HostKeyPolicy, HostKeyRefused
from proxyd.ssh_public_keys import SshSettingsError
from tests.ssh_pki import HOST, HOUR, Authority, Key, Keygen, fingerprint, string

NOW = int(time.time())
CA, OTHER_CA = Authority.new(), Authority.new()
HOST_KEY, OTHER = Key.new(), Key.new("ssh-rsa")
Handshake = Callable[[SshServer, HostKeyPolicy], str]
WEB1 = "web1.internal"


def target(address: str = f"{WEB1}:22", **host_keys: Any) -> SshTarget:
    return SshTarget.model_validate(
        {
            "name": "web1",
            "protocol": "ssh",
            "address": address,
            "host_keys": host_keys,
            "logins": ({"name": "deploy", "certificate": True},),
        }
    )


def policy(tmp_path: Path, known_hosts: str, address: str = f"{WEB1}:22") -> HostKeyPolicy:
    path = tmp_path / "known_hosts"
    path.write_text(known_hosts)
    return HostKeyPolicy.from_config(target(address, known_hosts=path))


def begin(made: HostKeyPolicy) -> HostKeyCheck:
    return made.begin(lambda: NOW)


def refused(check: HostKeyCheck, blob: bytes) -> str:
    with pytest.raises(HostKeyRefused) as caught:
        check.check(blob)
    assert check.refusal is caught.value
    assert caught.value.what.startswith("the host key of web1 (")
    assert "console" in caught.value.remedy
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- listed keys --------------------------------------------------------------------------------------


def test_listed_keys() -> None:
    policy = HostKeyPolicy.from_config(target(keys=(HOST_KEY.line, OTHER.line)))
    assert not begin(policy).is_settled
    check = begin(policy)
    assert check.check(HOST_KEY.blob).public_data == HOST_KEY.blob
    assert check.is_settled
    assert check.algorithms == ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"]


def test_another_key_than_the_listed() -> None:
    text = refused(begin(HostKeyPolicy.from_config(target(keys=(HOST_KEY.line,)))), OTHER.blob)
    assert fingerprint(OTHER.blob) in text
    assert "it is not the one in host_keys.keys" in text


NO_KEYS = {
    "empty": b"",
    "nonsense": b"\xff" * 50,
    "a name alone": string("ssh-ed25519"),
    "more behind it": HOST_KEY.blob + b"x",
    "DSA": Key.new("ssh-dss", 1024).blob,
}


@pytest.mark.parametrize("blob", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_keys_that_are_none(blob: bytes) -> None:
    refused(begin(HostKeyPolicy.from_config(target(keys=(HOST_KEY.line,)))), blob)


def test_a_listed_key_that_is_none() -> None:
    with pytest.raises(SshSettingsError, match="target `web1`"):
        HostKeyPolicy.from_config(target(keys=(Key.new("ssh-rsa", 1024).line,)))


# --- known_hosts --------------------------------------------------------------------------------------


def test_known_hosts(tmp_path: Path) -> None:
    made = policy(tmp_path, f"{WEB1} {HOST_KEY.line}\nother {OTHER.line}\n")
    assert made.is_known
    check = begin(made)
    check.check(HOST_KEY.blob)
    text = refused(begin(made), OTHER.blob)
    assert str(tmp_path / "known_hosts") in text


def test_a_port(tmp_path: Path) -> None:
    made = policy(tmp_path, f"[{WEB1}]:2222 {HOST_KEY.line}\n{WEB1} {OTHER.line}\n", f"{WEB1}:2222")
    begin(made).check(HOST_KEY.blob)
    assert f"[{WEB1}]:2222" in refused(begin(made), OTHER.blob)


def test_a_unix_socket_is_known_by_the_targets_name(tmp_path: Path) -> None:
    made = policy(tmp_path, f"web1 {HOST_KEY.line}\n", "unix:/run/sshd.sock")
    begin(made).check(HOST_KEY.blob)


def test_a_file_that_says_nothing_of_the_target_lets_nothing_pass(tmp_path: Path) -> None:
    made = policy(tmp_path, f"other {HOST_KEY.line}\n@revoked * {OTHER.line}\n")
    assert not made.is_known
    with pytest.raises(HostKeyRefused) as caught:
        begin(made)
    assert "no host key of web1" in caught.value.what
    assert f"ssh-keyscan -p 22 {WEB1}" in caught.value.remedy


@pytest.mark.parametrize("content", ["", "\n# nothing\n", "garbage\n"])
@pytest.mark.parametrize("way", ["known_hosts", "ca"])
def test_an_empty_file_is_a_fault(way: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(SshSettingsError, match=str(path)):
        HostKeyPolicy.from_config(target(**{way: path}))


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(SshSettingsError, match="No such file"):
        HostKeyPolicy.from_config(target(known_hosts=tmp_path / "none"))


@pytest.mark.parametrize("where", ["*", WEB1])
def test_a_revoked_key(where: str, tmp_path: Path) -> None:
    check = begin(policy(tmp_path, f"{WEB1} {HOST_KEY.line}\n@revoked {where} {HOST_KEY.line}\n"))
    assert "revoked" in refused(check, HOST_KEY.blob)


def test_reload(tmp_path: Path) -> None:
    made = policy(tmp_path, f"{WEB1} {HOST_KEY.line}\n")
    assert not made.reload()
    before = begin(made)
    (tmp_path / "known_hosts").write_text(f"{WEB1} {OTHER.line}\n")
    assert made.reload()
    before.check(HOST_KEY.blob)
    begin(made).check(OTHER.blob)
    refused(begin(made), HOST_KEY.blob)


def test_a_bad_reload_changes_nothing(tmp_path: Path) -> None:
    made = policy(tmp_path, f"{WEB1} {HOST_KEY.line}\n")
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(SshSettingsError):
        made.reload()
    begin(made).check(HOST_KEY.blob)


# --- authorities --------------------------------------------------------------------------------------


def certificate(ca: Authority = CA, principals: tuple[str, ...] = (WEB1,), **parts: Any) -> bytes:
    return ca.certify(HOST_KEY, "web1", principals, **{"kind": HOST, "extensions": (), **parts})


def authority(tmp_path: Path, address: str = f"{WEB1}:22") -> HostKeyPolicy:
    return HostKeyPolicy.from_config(target(address, ca=CA.write(tmp_path / "host_ca.pub")))


@pytest.mark.parametrize(
    "principals", [(WEB1,), ("a", WEB1), ("*.internal",), ("web?.internal",), (WEB1.upper(),)]
)
def test_host_certificates(principals: tuple[str, ...], tmp_path: Path) -> None:
    check = begin(authority(tmp_path))
    assert check.check(certificate(principals=principals)).public_data == HOST_KEY.blob
    assert all(name.endswith("-cert-v01@openssh.com") for name in check.algorithms)
    assert "ssh-rsa-cert-v01@openssh.com" not in check.algorithms


BAD = {
    "another authority": (certificate(OTHER_CA), "not a trusted authority"),
    "another's signature": (certificate(OTHER_CA, signer_blob=CA.blob), "not this key's"),
    "another host": (certificate(principals=("web2.internal",)), "not for web1.internal"),
    "no host": (certificate(principals=()), "not for web1.internal"),
    "a pattern for others": (
        certificate(principals=("*.example.com", "[w]eb1.internal")),
        "not for web1.internal",
    ),
    "expired": (certificate(valid_before=NOW), "expired"),
    "not yet valid": (certificate(valid_after=NOW + HOUR), "valid only from"),
    "a user certificate": (certificate(kind=1), "user certificate"),
    "a critical option": (certificate(options={"force-command": string("x")}), "critical option"),
    "the bare key": (HOST_KEY.blob, "not the one in"),
    "the authority's key": (CA.blob, "not the one in"),
}


@pytest.mark.parametrize(("blob", "why"), BAD.values(), ids=BAD.keys())
def test_host_certificates_that_are_refused(blob: bytes, why: str, tmp_path: Path) -> None:
    assert why in refused(begin(authority(tmp_path)), blob)


def test_sha1_of_an_authority_is_refused(tmp_path: Path) -> None:
    ca = Authority.new("ssh-rsa")
    made = HostKeyPolicy.from_config(target(ca=ca.write(tmp_path / "ca.pub")))
    begin(made).check(certificate(ca, signature_algorithm="rsa-sha2-256"))
    assert "ssh-rsa" in refused(begin(made), certificate(ca, signature_algorithm="ssh-rsa"))


@pytest.mark.parametrize("revoked", [HOST_KEY, CA.key])
def test_a_certificate_of_revoked_keys(revoked: Key, tmp_path: Path) -> None:
    known = f"@cert-authority *.internal {CA.line}\n"
    begin(policy(tmp_path, known)).check(certificate())
    check = begin(policy(tmp_path, known + f"@revoked * {revoked.line}\n"))
    assert "revoked" in refused(check, certificate())


def test_a_certificate_may_end_during_the_connection_but_nothing_else_takes_its_place(tmp_path: Path) -> None:
    now = float(NOW)
    check = authority(tmp_path).begin(lambda: now)
    blob = certificate(valid_before=NOW + 10)
    check.check(blob)
    now += 100
    check.check(blob)  # rekeying
    assert "another one than at the beginning" in refused(check, certificate())


# --- a real sshd --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd() -> Iterator[SshServer]:
    with SshServer() as server:
        yield server


async def _connect(server: SshServer, check: HostKeyCheck) -> None:
    async with asyncssh.connect(
        server.host,
        server.port,
        username="nobody",
        known_hosts=check.known_hosts,
        server_host_key_algs=check.algorithms,
        config=None,
        agent_path=None,
        client_keys=None,
    ):
        raise AssertionError("let in")


@pytest.fixture
def handshake(monkeypatch: pytest.MonkeyPatch) -> Handshake:
    """How a connection ends when both we and asyncssh look at the host key, as they do in our transport."""
    theirs = asyncssh.SSHClientConnection.validate_server_host_key

    def connect(server: SshServer, made: HostKeyPolicy) -> str:
        check = made.begin(time.time)

        def both(self: asyncssh.SSHClientConnection, blob: bytes) -> asyncssh.SSHKey:
            check.check(blob)
            return theirs(self, blob)

        monkeypatch.setattr(asyncssh.SSHClientConnection, "validate_server_host_key", both)
        with pytest.raises((asyncssh.Error, HostKeyRefused)) as caught:
            asyncio.run(_connect(server, check))
        return f"{type(caught.value).__name__}: {caught.value}"

    return connect


def test_a_real_sshd(sshd: SshServer, tmp_path: Path, handshake: Handshake) -> None:
    address = f"{sshd.host}:{sshd.port}"
    known = policy(tmp_path, sshd.known_hosts_line + "\n", address)
    assert handshake(sshd, known).startswith("PermissionDenied")
    listed = HostKeyPolicy.from_config(target(address, keys=(sshd.host_key,)))
    assert handshake(sshd, listed).startswith("PermissionDenied")
    wrong = HostKeyPolicy.from_config(target(address, keys=(HOST_KEY.line,)))
    assert "HostKeyRefused" in handshake(sshd, wrong)
    assert str(parse_address(address)) == address


def test_a_real_sshd_with_a_host_certificate(tmp_path: Path, handshake: Handshake) -> None:
    keygen = Keygen(tmp_path)
    ca = keygen.key("host_ca")
    key = keygen.key("host")
    made = keygen.sign(
        ca, key.with_suffix(".pub"), "host", "-h", "-n", "127.0.0.1,*.internal", "-V", "-1m:+1h"
    )
    with SshServer(settings=[f"HostKey {key}", f"HostCertificate {made}"]) as server:
        address = f"{server.host}:{server.port}"
        good = HostKeyPolicy.from_config(target(address, ca=ca.with_suffix(".pub")))
        assert handshake(server, good).startswith("PermissionDenied")
        other = OTHER_CA.write(tmp_path / "other.pub")
        assert "not a trusted authority" in handshake(
            server, HostKeyPolicy.from_config(target(address, ca=other))
        )
