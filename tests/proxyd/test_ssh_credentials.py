"""What the gateway logs in with, as we, asyncssh, ssh-keygen and a real sshd read it: certificates, keys, passwords."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from demo.sshd import SshServer
from proxyd.config import SecretSource, SshTargetLogin
from proxyd.credentials import CredentialError
from proxyd.ssh_certificate import check_user_certificate, read_certificate
from proxyd.ssh_credentials import CLOCK_SKEW_S, SshAuthority, SshCredential, key_id, login_credential
from proxyd.ssh_public_keys import SshSettingsError
from tests.ssh_pki import Authority, Key, Keygen, line

NOW = time.time()
CA = Authority.new()
LIFETIME_S = 300.0


@pytest.fixture
def authority(tmp_path: Path) -> SshAuthority:
    return SshAuthority(SecretSource(file=CA.key.write(tmp_path / "gateway_ca")), LIFETIME_S)


def login(**credential: Any) -> SshTargetLogin:
    return SshTargetLogin.model_validate({"name": "deploy", "user": "app", **credential})


# --- minting ------------------------------------------------------------------------------------------


def test_what_a_minted_certificate_says(authority: SshAuthority) -> None:
    pair = authority.mint("app", "alice@example.com", "s-42", NOW)
    assert pair.has_cert
    certificate = read_certificate(pair.public_data)
    assert certificate.principals == ("app",)
    assert certificate.key_id == "proxyd:alice@example.com:s-42"
    assert certificate.valid_after == int(NOW - CLOCK_SKEW_S)
    assert certificate.valid_before == int(NOW + LIFETIME_S)
    assert certificate.options == {}
    assert set(certificate.extensions) == {
        "permit-pty",
        "permit-port-forwarding",
        "permit-agent-forwarding",
        "permit-X11-forwarding",
    }
    permissions = check_user_certificate(certificate, {CA.blob}, NOW, None)
    assert permissions.forced_command is None


def test_each_login_has_a_key_and_a_serial_number_of_its_own(authority: SshAuthority) -> None:
    minted = [read_certificate(authority.mint("app", "alice", "s", NOW).public_data) for _ in range(3)]
    assert len({each.key.blob for each in minted}) == 3
    assert len({each.serial for each in minted}) == 3
    assert all(0 <= each.serial < 2**63 for each in minted)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_kinds_of_authorities(kind: str, tmp_path: Path) -> None:
    key = Key.new(kind)
    authority = SshAuthority(SecretSource(file=key.write(tmp_path / "ca")), LIFETIME_S)
    pair = authority.mint("app", "alice", "s-1", NOW)
    check_user_certificate(read_certificate(pair.public_data), {key.blob}, NOW, None)
    assert authority.public_line().split()[:2] == key.line.split()[:2]


def test_the_authority_is_read_anew_for_each_login(authority: SshAuthority, tmp_path: Path) -> None:
    other = Key.new()
    authority.mint("app", "alice", "s-1", NOW)
    other.write(tmp_path / "gateway_ca")
    assert (
        read_certificate(authority.mint("app", "alice", "s-2", NOW).public_data).authority_blob == other.blob
    )


@pytest.mark.parametrize(
    ("subject", "session", "expected"),
    [
        ("alice@example.com", "s1", "proxyd:alice@example.com:s1"),
        ("spiffe://example.org/ns/alice", "s1", "proxyd:spiffe://example.org/ns/alice:s1"),
        ("Ålice Ωmega", "s1", "proxyd:_lice__mega:s1"),
        ("a\nb\0c\x1b[2J", "s\n1", "proxyd:a_b_c_[2J:s_1"),
        ('x" serial 0) from 1.2.3.4', "s1", "proxyd:x__serial_0__from_1.2.3.4:s1"),
        ("x" * 10_000, "s1", "proxyd:" + "x" * 246 + ":s1"),
    ],
)
def test_key_ids(subject: str, session: str, expected: str) -> None:
    made = key_id(subject, session)
    assert made == expected
    assert len(made) <= 256


def test_ssh_keygen_reads_it(authority: SshAuthority, tmp_path: Path) -> None:
    path = tmp_path / "x-cert.pub"
    path.write_text(line(authority.mint("app", "alice", "s-1", NOW).public_data))
    shown = Keygen(tmp_path).run("-L", "-f", path)
    assert "user certificate" in shown
    assert 'Key ID: "proxyd:alice:s-1"' in shown
    assert "Critical Options: (none)" in shown
    assert "permit-user-rc" not in shown


# --- which credential ---------------------------------------------------------------------------------


def test_a_certificate(authority: SshAuthority) -> None:
    credential = login_credential(login(certificate=True), authority, "alice", "s-1", NOW)
    assert credential.username == "app"
    (pair,) = credential.client_keys
    assert read_certificate(pair.public_data).principals == ("app",)
    assert credential.password is None


def test_a_certificate_without_an_authority() -> None:
    with pytest.raises(SshSettingsError, match="set ssh_authority"):
        login_credential(login(certificate=True), None, "alice", "s-1", NOW)


def test_a_key(tmp_path: Path) -> None:
    key = Key.new()
    credential = login_credential(login(key={"file": key.write(tmp_path / "id")}), None, "alice", "s-1", NOW)
    (pair,) = credential.client_keys
    assert pair.public_data == key.blob
    assert credential.username == "app"


def test_a_key_with_a_passphrase(tmp_path: Path) -> None:
    (tmp_path / "id").write_bytes(
        Key.new().key.export_private_key("openssh", "open sesame", rounds=1, ignore_few_rounds=True)
    )
    (tmp_path / "id").chmod(0o600)
    (tmp_path / "word").write_text("open sesame\n")
    (tmp_path / "word").chmod(0o600)
    with_word = login(key={"file": tmp_path / "id"}, passphrase={"file": tmp_path / "word"})
    assert login_credential(with_word, None, "alice", "s-1", NOW).client_keys
    with pytest.raises(SshSettingsError, match="passphrase"):
        login_credential(login(key={"file": tmp_path / "id"}), None, "alice", "s-1", NOW)


def test_a_password(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("swordfish\n")
    (tmp_path / "password").chmod(0o600)
    credential = login_credential(login(password={"file": tmp_path / "password"}), None, "alice", "s-1", NOW)
    assert credential.password is not None
    assert credential.password.reveal() == "swordfish"
    assert not credential.client_keys
    assert "swordfish" not in repr(credential)


def test_sources_other_than_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("DEPLOY_KEY", Key.new().key.export_private_key("openssh").decode())
    CA.key.write(tmp_path / "ca")
    assert login_credential(login(key={"environment": "DEPLOY_KEY"}), None, "alice", "s", NOW).client_keys
    authority = SshAuthority(SecretSource(credential="ca"), LIFETIME_S)
    assert authority.mint("app", "alice", "s", NOW).has_cert


@pytest.mark.parametrize(
    ("mode", "is_fine"), [(0o600, True), (0o400, True), (0o640, True), (0o644, False), (0o660, False)]
)
def test_files_of_keys_have_the_modes_of_secrets(mode: int, is_fine: bool, tmp_path: Path) -> None:
    wanted = login(key={"file": Key.new().write(tmp_path / "id", mode)})
    authority = SshAuthority(SecretSource(file=CA.key.write(tmp_path / "ca", mode)), LIFETIME_S)
    if is_fine:
        login_credential(wanted, None, "alice", "s-1", NOW)
        authority.mint("app", "alice", "s", NOW)
        return
    with pytest.raises(SshSettingsError, match="chmod 600"):
        login_credential(wanted, None, "alice", "s-1", NOW)
    with pytest.raises(SshSettingsError, match="chmod 600"):
        authority.mint("app", "alice", "s", NOW)


@pytest.mark.parametrize("content", ["", "nonsense", CA.line, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"])
def test_files_that_hold_no_private_key(content: str, tmp_path: Path) -> None:
    path = tmp_path / "id"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(SshSettingsError, match=str(path)):
        login_credential(login(key={"file": path}), None, "alice", "s-1", NOW)
    with pytest.raises(SshSettingsError, match=str(path)):
        SshAuthority(SecretSource(file=path), LIFETIME_S).mint("app", "alice", "s-1", NOW)


def test_a_password_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="cannot be opened"):
        login_credential(login(password={"file": tmp_path / "none"}), None, "alice", "s-1", NOW)


def test_nothing_secret_is_shown(authority: SshAuthority, tmp_path: Path) -> None:
    body = CA.key.key.export_private_key("openssh").decode().split("\n")[3]
    credential = login_credential(login(certificate=True), authority, "alice", "s-1", NOW)
    assert body not in repr(authority) + repr(credential)
    assert "key=" in repr(authority)


# --- a real sshd --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd() -> Iterator[SshServer]:
    with SshServer(user_authorities=[CA.line]) as server:
        yield server


def run(server: SshServer, credential: SshCredential, command: str = "id -un") -> str:
    async def connect() -> str:
        async with asyncssh.connect(
            server.host,
            server.port,
            username=credential.username,
            client_keys=list(credential.client_keys),
            known_hosts=([asyncssh.import_public_key(server.host_key)], [], []),
            config=None,
            agent_path=None,
        ) as connection:
            done = await connection.run(command, check=True)
            return str(done.stdout).strip()

    return asyncio.run(connect())


def minted(authority: SshAuthority, account: str, now: float | None = None) -> SshCredential:
    at = time.time() if now is None else now
    return SshCredential(account, (authority.mint(account, "alice@example.com", "s-77", at),))


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_sshd_lets_it_in(kind: str, sshd: SshServer, tmp_path: Path) -> None:
    key = Key.new(kind)
    sshd.write_user_authorities([key.line])
    authority = SshAuthority(SecretSource(file=key.write(tmp_path / "ca")), LIFETIME_S)
    assert run(sshd, minted(authority, sshd.login)) == sshd.login
    assert "ID proxyd:alice@example.com:s-77" in sshd.log_text()


@pytest.mark.parametrize(
    ("account", "offset_s"),
    [
        ("nobody-else", 0.0),  # another principal
        ("", -2 * LIFETIME_S),  # its minutes are over
        ("", 2 * LIFETIME_S),  # they have not begun
    ],
)
def test_sshd_refuses_it(account: str, offset_s: float, sshd: SshServer, authority: SshAuthority) -> None:
    sshd.write_user_authorities([CA.line])
    credential = minted(authority, account or sshd.login, time.time() + offset_s)
    as_login = SshCredential(sshd.login, credential.client_keys)
    with pytest.raises(asyncssh.PermissionDenied):
        run(sshd, as_login)
    assert run(sshd, minted(authority, sshd.login)) == sshd.login


def test_sshd_refuses_another_authoritys(sshd: SshServer, authority: SshAuthority) -> None:
    sshd.write_user_authorities([Authority.new().line])
    with pytest.raises(asyncssh.PermissionDenied):
        run(sshd, minted(authority, sshd.login))


def test_a_clock_that_is_behind_is_forgiven(sshd: SshServer, authority: SshAuthority) -> None:
    """The target's clock may be up to a minute behind ours."""
    sshd.write_user_authorities([CA.line])
    assert run(sshd, minted(authority, sshd.login, time.time() + CLOCK_SKEW_S - 20)) == sshd.login


def test_sshd_lets_a_static_key_in(sshd: SshServer, tmp_path: Path) -> None:
    key = Key.new()
    sshd.write_authorized_keys([key.line])
    wanted = login(user=sshd.login, key={"file": key.write(tmp_path / "id")})
    assert run(sshd, login_credential(wanted, None, "alice", "s-1", NOW)) == sshd.login
