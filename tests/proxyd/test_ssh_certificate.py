"""Certificates byte by byte: whole, truncated, changed. Their rules: identity/test_ssh_certificate_logins.py."""

from __future__ import annotations

import time

import asyncssh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.ssh_blobs import BlobError
from proxyd.ssh_certificate import check_user_certificate, client_address, read_certificate
from tests.ssh_pki import FOREVER, Authority, Key, SecurityKey, option

CA = Authority.new()
NOW = time.time()
ALICE = Key.new()
GOOD = CA.certify(
    ALICE,
    "alice",
    ["deploy", "root"],
    serial=2**64 - 1,
    options={"source-address": option("192.0.2.0/24"), "force-command": option("id")},
)


@pytest.mark.parametrize(
    "holder",
    [Key.new(kind) for kind in ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521")]
    + [SecurityKey()],
    ids=lambda holder: holder.algorithm,
)
def test_we_and_asyncssh_read_the_same(holder: Key | SecurityKey) -> None:
    blob = CA.certify(holder, "Ålice", ["deploy", "root"], serial=77, valid_after=5, valid_before=FOREVER)
    ours = read_certificate(blob)
    theirs = asyncssh.public_key.decode_ssh_certificate(blob)
    assert isinstance(theirs, asyncssh.public_key.SSHOpenSSHCertificate)
    assert ours.key.blob == theirs.key.public_data == holder.blob
    assert list(ours.principals) == list(theirs.principals)
    assert ours.authority_blob == theirs.signing_key.public_data == CA.blob
    assert (ours.serial, ours.key_id, ours.kind) == (theirs._serial, theirs._key_id, theirs._cert_type)
    assert (ours.valid_after, ours.valid_before) == (5, FOREVER)
    assert ours.expires_at is None
    assert set(ours.extensions) == {str(name) for name in theirs.options}


def test_a_serial_number_of_64_bits() -> None:
    assert read_certificate(GOOD).serial == 2**64 - 1


def test_truncated_at_every_byte() -> None:
    for end in range(len(GOOD)):
        with pytest.raises(BlobError):
            read_certificate(GOOD[:end])


@given(at=st.integers(0, len(GOOD) - 1), bit=st.integers(0, 7))
@settings(max_examples=500, deadline=None)
def test_no_changed_bit_passes(at: int, bit: int) -> None:
    changed = GOOD[:at] + bytes([GOOD[at] ^ 1 << bit]) + GOOD[at + 1 :]
    with pytest.raises(BlobError) as caught:
        check_user_certificate(read_certificate(changed), {CA.blob}, NOW, client_address("192.0.2.7"))
    assert str(caught.value).isprintable()


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_after_a_name(data: bytes) -> None:
    with pytest.raises(BlobError):
        read_certificate(GOOD[:36] + data)


def test_the_whole_one_passes() -> None:
    permissions = check_user_certificate(read_certificate(GOOD), {CA.blob}, NOW, client_address("192.0.2.7"))
    assert permissions.forced_command == "id"


def test_a_strangers_certificate_costs_no_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = read_certificate(Authority.new().certify(ALICE))
    monkeypatch.setattr("proxyd.ssh_certificate.check_signature", None)
    with pytest.raises(BlobError, match="not a trusted authority"):
        check_user_certificate(certificate, {CA.blob}, NOW, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("", None),
        ("localhost", None),
        ("192.0.2.7:22", None),
        ("0300.0.2.7", None),
    ],
)
def test_client_addresses(text: str, expected: str | None) -> None:
    address = client_address(text)
    assert (None if address is None else str(address)) == expected
