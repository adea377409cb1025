"""Keys and signatures on the wire: which are taken, and that OpenSSH and we agree on fingerprints and forms."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.ssh_blobs import (
    BlobError,
    algorithms_agree,
    blob_in_line,
    check_signature,
    fingerprint,
    key_from_blob,
)
from tests.ssh_pki import Authority, Key, Keygen, SecurityKey, line, string

ED25519, RSA, TOKEN = Key.new(), Key.new("ssh-rsa"), SecurityKey()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_ssh_keygen(kind: str, tmp_path: Path) -> None:
    keygen = Keygen(tmp_path)
    path = keygen.key("id", kind).with_suffix(".pub")
    key = key_from_blob(blob_in_line(path.read_text()))
    assert key.blob == keygen.blob(path)
    assert key.fingerprint == fingerprint(key.blob) == keygen.run("-l", "-f", path).split()[1]


def test_rsa_keys_have_one_form() -> None:
    e, n = RSA.blob[11:18], RSA.blob[18:]
    assert key_from_blob(string("ssh-rsa") + e + n).blob == RSA.blob
    longer = (len(n) - 3).to_bytes(4, "big") + b"\0" + n[4:]  # a needless leading zero
    with pytest.raises(BlobError, match="one form"):
        key_from_blob(string("ssh-rsa") + e + longer)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "AAAA",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 =",
        'command="id" ' + ED25519.line,
        ED25519.line.replace("ssh-ed25519 ", "ssh-rsa "),
        ED25519.line.replace("AAAA", "AAA!", 1),
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "é " + ED25519.line,
    ],
)
def test_lines_that_are_refused(text: str) -> None:
    with pytest.raises(BlobError) as caught:
        key_from_blob(blob_in_line(text))
    assert str(caught.value).isprintable()


def test_a_certificate_is_no_plain_key() -> None:
    with pytest.raises(BlobError, match="certificate"):
        key_from_blob(blob_in_line(line(Authority.new().certify(ED25519))))


CERT = "-cert-v01@openssh.com"


@pytest.mark.parametrize(
    ("requested", "blob", "signature", "agree"),
    [
        ("ssh-ed25519", "ssh-ed25519", "ssh-ed25519", True),
        ("rsa-sha2-256", "ssh-rsa", "rsa-sha2-256", True),
        ("rsa-sha2-512", "ssh-rsa", "rsa-sha2-512", True),
        ("rsa-sha2-512", "ssh-rsa", "rsa-sha2-256", False),
        ("ssh-rsa", "ssh-rsa", "rsa-sha2-256", False),
        ("ssh-ed25519" + CERT, "ssh-ed25519" + CERT, "ssh-ed25519", True),
        ("ssh-ed25519", "ssh-ed25519" + CERT, "ssh-ed25519", False),
        ("ssh-ed25519" + CERT, "ssh-ed25519", "ssh-ed25519", False),
        ("rsa-sha2-256" + CERT, "ssh-rsa" + CERT, "rsa-sha2-256", True),
        ("ssh-rsa" + CERT, "ssh-rsa" + CERT, "rsa-sha2-256", False),
        ("sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com", True),
        ("sk-ssh-ed25519" + CERT, "sk-ssh-ed25519" + CERT, "sk-ssh-ed25519@openssh.com", True),
        ("sk-ssh-ed25519" + CERT, "sk-ssh-ed25519" + CERT, "ssh-ed25519", False),
        ("", "ssh-ed25519", "ssh-ed25519", False),
    ],
)
def test_algorithms_agree(requested: str, blob: str, signature: str, agree: bool) -> None:
    assert algorithms_agree(requested, blob, signature) is agree


@pytest.mark.parametrize("key", [ED25519, RSA, TOKEN, Key.new("ecdsa-sha2-nistp384")])
def test_signatures(key: Key | SecurityKey) -> None:
    public = key_from_blob(key.blob)
    made = check_signature(public, b"data", key.sign(b"data"))
    assert made.algorithm in public.signatures
    assert made.flags == (1 if isinstance(key, SecurityKey) else None)
    with pytest.raises(BlobError):
        check_signature(public, b"data2", key.sign(b"data"))


def test_the_flags_of_a_token_are_signed() -> None:
    signature = TOKEN.sign(b"data", 0)
    forged = signature[:-5] + b"\x05" + signature[-4:]
    with pytest.raises(BlobError, match="not this key's"):
        check_signature(key_from_blob(TOKEN.blob), b"data", forged)


@given(st.binary(max_size=120))
@settings(deadline=None)
def test_no_bytes_are_a_signature(data: bytes) -> None:
    for key in (ED25519, RSA, TOKEN):
        for blob in (
            data,
            string(key.signature_algorithm) + data,
            string(key.signature_algorithm) + string(data),
        ):
            with pytest.raises(BlobError):
                check_signature(key_from_blob(key.blob), b"data", blob)
