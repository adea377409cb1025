"""Settings of SSH logins and the files behind them: what is refused before anybody comes, and in which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proxyd.config import SecretSource
from proxyd.identity.ssh_settings import Factor, Person, SshLoginSettings
from proxyd.identity.ssh_trust import Trust
from proxyd.ssh_public_keys import SshSettingsError
from tests.proxyd.identity.ssh_logins import CERTIFICATE, PUBLIC_KEY, Door, person
from tests.ssh_pki import Authority, Key, line

CA = Authority.new()
ALICE = Key.new()


@pytest.mark.parametrize(
    ("factors", "why"),
    [
        ((), "no combination"),
        (((),), "lets everybody in"),
        (((Factor.PUBLIC_KEY,), ()), "lets everybody in"),
        (((Factor.TOTP,),), "first factor"),
        (((Factor.TOTP, Factor.PUBLIC_KEY),), "first factor"),
        (((Factor.PUBLIC_KEY, Factor.TOTP, Factor.TOTP),), "twice"),
        (((Factor.CERTIFICATE, Factor.CERTIFICATE),), "twice"),
    ],
)
def test_combinations_that_are_refused(
    factors: tuple[tuple[Factor, ...], ...], why: str, tmp_path: Path
) -> None:
    with pytest.raises(SshSettingsError, match=why):
        SshLoginSettings(factors=factors, client_ca=CA.write(tmp_path / "ca.pub"))


def test_certificates_need_an_authority() -> None:
    with pytest.raises(SshSettingsError, match="nobody may sign"):
        SshLoginSettings(factors=(CERTIFICATE,))
    SshLoginSettings(factors=(PUBLIC_KEY,))


def refused(settings: SshLoginSettings) -> SshSettingsError:
    with pytest.raises(SshSettingsError) as caught:
        Trust.read(settings)
    return caught.value


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "lists no key"),
        ("# none yet\n", "lists no key"),
        (line(CA.certify(CA.key)), "line 1 .*certificate"),
        (CA.line + "\n\n" + line(Authority.new().certify(Key.new())), "line 3 .*certificate"),
        ("cert-authority " + CA.line, "line 1"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "private key"),
        (Key.new("ssh-rsa", 1024).line, "1024 bits"),
        (Key.new("ssh-dss", 1024).line, "not accepted"),
        ("\ufffd\0", "line 1"),
    ],
)
def test_files_of_authorities_that_are_refused(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pub"
    path.write_text(content)
    error = refused(SshLoginSettings(client_ca=path))
    assert error.path == str(path)
    with pytest.raises(SshSettingsError, match=why):
        raise error
    assert error.remedy


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refused(SshLoginSettings(client_ca=tmp_path / "none")).message


def test_an_authority_cannot_be_somebodys_key(tmp_path: Path) -> None:
    door = Door(tmp_path, CA, [CERTIFICATE, PUBLIC_KEY], [person("alice", CA.key)])
    assert "also a key of `alice`" in refused(door.login_settings()).message


def test_two_people_cannot_have_one_key(tmp_path: Path) -> None:
    door = Door(tmp_path, CA, [PUBLIC_KEY], [person("alice", ALICE), person("bob", ALICE)])
    assert "`alice` and `bob` have the same key" in refused(door.login_settings()).message


@pytest.mark.parametrize("key", ["", "nonsense", line(CA.certify(ALICE)), "ssh-ed25519 AAAA"])
def test_peoples_keys_that_are_none(key: str, tmp_path: Path) -> None:
    settings = Door(tmp_path, CA, [PUBLIC_KEY]).login_settings()
    assert "a key of `alice`" in refused(replace(settings, people=(Person("alice", keys=(key,)),))).message


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        ("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", 0o644, "open to other accounts"),
        ("", 0o600, "empty"),
        ("hunter2!", 0o600, "base32"),
        ("GEZDGNBV", 0o600, "5 bytes"),
    ],
)
def test_secrets_of_codes(content: str, mode: int, why: str, tmp_path: Path) -> None:
    path = tmp_path / "alice.totp"
    path.write_text(content)
    path.chmod(mode)
    settings = Door(tmp_path, CA, [PUBLIC_KEY]).login_settings()
    error = refused(replace(settings, people=(Person("alice", totp=SecretSource(file=path)),)))
    assert "totp of `alice`" in error.message
    assert why in error.message
    assert not content or content not in str(error)


def test_trust_does_not_show_secrets(tmp_path: Path) -> None:
    door = Door(tmp_path, CA, [PUBLIC_KEY], [person("alice", ALICE)], with_codes=["alice"])
    trust = Trust.read(door.login_settings())
    assert trust.totp
    assert "1234567890" not in repr(trust)
