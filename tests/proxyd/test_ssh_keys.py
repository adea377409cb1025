"""Private keys and host certificates from files: what is taken, and what is wrong with the rest."""

from __future__ import annotations

import random
from pathlib import Path

import asyncssh
import pytest

from proxyd.config import SecretSource
from proxyd.ssh_certificate import HOST
from proxyd.ssh_keys import read_host_certificate, read_private_key
from proxyd.ssh_public_keys import SshSettingsError
from tests.proxyd.documents import write_secret, write_ssh_key

KINDS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem"])
def test_every_accepted_kind_and_format(tmp_path: Path, kind: str, form: str) -> None:
    key = write_ssh_key(tmp_path / "key", kind)
    (tmp_path / "key").write_bytes(key.export_private_key(form))
    assert read_private_key(tmp_path / "key").public_data == key.public_data


def test_a_key_from_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = write_ssh_key(tmp_path / "key")
    monkeypatch.setenv("PROXYD_TEST_KEY", (tmp_path / "key").read_text())
    source = SecretSource(environment="PROXYD_TEST_KEY")
    assert read_private_key(source).public_data == key.public_data
    monkeypatch.setenv("PROXYD_TEST_KEY", "nothing of the kind")
    with pytest.raises(SshSettingsError) as caught:
        read_private_key(source)
    assert caught.value.path == ""


@pytest.mark.parametrize("form", ["openssh", "pkcs8-pem"])
def test_a_key_with_a_passphrase(tmp_path: Path, form: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "key").write_bytes(key.export_private_key(form, passphrase="open sesame", rounds=50))
    (tmp_path / "key").chmod(0o600)
    write_secret(tmp_path / "word", "open sesame")
    source, word = SecretSource(file=tmp_path / "key"), SecretSource(file=tmp_path / "word")
    assert read_private_key(source, word).public_data == key.public_data
    with pytest.raises(SshSettingsError, match="is encrypted with a passphrase; store it decrypted"):
        read_private_key(source)
    write_secret(tmp_path / "word", "close sesame")
    with pytest.raises(SshSettingsError, match="is not opened by its passphrase; correct") as caught:
        read_private_key(source, word)
    assert "sesame" not in str(caught.value)


def test_a_damaged_key_is_a_fault_and_nothing_else(tmp_path: Path) -> None:
    """asyncssh tells of some damage in ways of its own: by other types, and by words of other libraries."""
    chance = random.Random(7)  # noqa: S311
    for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"):
        text = write_ssh_key(tmp_path / "key", kind).export_private_key("openssh").decode()
        for _ in range(150):
            place = chance.randrange(36, len(text) - 36)
            (tmp_path / "key").write_text(text[:place] + chance.choice("AZaz09+/=\n") + text[place + 1 :])
            try:
                read_private_key(tmp_path / "key")
            except SshSettingsError as error:
                assert error.path == str(tmp_path / "key")
                assert error.remedy


def test_a_host_certificate(tmp_path: Path) -> None:
    key, authority = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    authority.generate_host_certificate(key, "bastion", valid_before=1_900_000_000).write_certificate(
        tmp_path / "cert.pub"
    )
    certificate, parts = read_host_certificate(tmp_path / "cert.pub")
    assert (parts.kind, parts.expires_at, parts.key.blob) == (HOST, 1_900_000_000.0, key.public_data)
    assert certificate.key.public_data == key.public_data


def test_a_host_certificate_that_nobody_signed(tmp_path: Path) -> None:
    key, authority = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    certificate = authority.generate_host_certificate(key, "bastion")
    text = certificate.export_certificate().decode()
    kind, words, *_ = text.split()
    (tmp_path / "cert.pub").write_text(f"{kind} {words[:-8]}AAAAAAA=\n")
    with pytest.raises(SshSettingsError, match=r"signed|readable"):
        read_host_certificate(tmp_path / "cert.pub")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"ssh-ed25519 AAAA", b"hello"])
def test_what_is_no_certificate(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cert.pub").write_bytes(content)
    with pytest.raises(SshSettingsError, match="no readable certificate; name the"):
        read_host_certificate(tmp_path / "cert.pub")
