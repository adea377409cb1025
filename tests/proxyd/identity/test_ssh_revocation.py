"""Lists of what is revoked, as text and as ssh-keygen's binary lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyd.identity.ssh_revocation import read_revocations
from proxyd.identity.ssh_revoked import Revocations, merge_ranges
from proxyd.ssh_blobs import BlobError
from proxyd.ssh_certificate import read_certificate
from tests.ssh_pki import Authority, Key, Keygen, line, string

CA, OTHER_CA = Authority.new(), Authority.new()
ALICE, BOB = Key.new(), Key.new("ssh-rsa")
MAX_SERIAL = 2**64 - 1


def covers(
    revoked: Revocations, *, serial: int = 1, key_id: str = "alice", ca: Authority = CA, key: Key = BOB
) -> bool:
    return revoked.covers(read_certificate(ca.certify(key, key_id, serial=serial)))


# --- text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n\n", b"# nothing\n"])
def test_an_empty_list_revokes_nothing(content: bytes) -> None:
    revoked = read_revocations(content)
    assert not revoked.covers_key(ALICE.blob)
    assert not covers(revoked, serial=0, key_id="")


@pytest.mark.parametrize(
    ("entry", "serials"),
    [
        ("serial: 7", {7}),
        ("serial:7", {7}),
        ("SERIAL: 0x10", {16}),
        ("serial: 5-7", {5, 6, 7}),
        ("serial: 5 - 6\nserial: 6-8\n", {5, 6, 7, 8}),
        ("serial: 0", {0}),
        (f"serial: {MAX_SERIAL - 1}-{MAX_SERIAL}", {MAX_SERIAL - 1, MAX_SERIAL}),
    ],
)
def test_serial_numbers(entry: str, serials: set[int]) -> None:
    revoked = read_revocations(entry.encode())
    for serial in {0, 1, 4, 5, 6, 7, 8, 9, 16, 17, MAX_SERIAL - 1, MAX_SERIAL}:
        assert covers(revoked, serial=serial) is (serial in serials), serial
        assert covers(revoked, serial=serial, ca=OTHER_CA) is (serial in serials)


def test_key_ids_are_compared_whole() -> None:
    revoked = read_revocations(b"id: alice smith  \n")
    assert covers(revoked, key_id="alice smith")
    assert not covers(revoked, key_id="alice")
    assert not covers(revoked, key_id="Alice Smith")


@pytest.mark.parametrize(
    ("content", "number", "why"),
    [
        (b"nonsense", 1, "public key"),
        (b"# fine\n\nssh-ed25519", 3, "public key"),
        (b"ssh-ed25519 !!!!", 1, "public key"),
        (ALICE.line.replace("ssh-ed25519", "ssh-rsa").encode(), 1, "first word"),
        (b"no-pty " + ALICE.line.encode(), 1, "public key"),
        (ALICE.line.encode()[:-20], 1, "public key"),
        (b"SHA256:abc", 1, "fingerprint"),
        (b"SHA256:" + b"!" * 43, 1, "fingerprint"),
        (b"MD5:aa:bb", 1, "public key"),
        (b"serial:", 1, "colon"),
        (b"serial: x", 1, "serial"),
        (b"serial: 9-5", 1, "order"),
        (b"serial: -1", 1, "serial"),
        (b"serial: 99999999999999999999", 1, "range"),
        (b"id:", 1, "colon"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----", 1, "private key"),
    ],
)
def test_a_line_that_cannot_be_read_is_a_fault(content: bytes, number: int, why: str) -> None:
    with pytest.raises(BlobError, match=f"line {number} .*{why}"):
        read_revocations(content)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\0\1\2\xff"])
def test_neither_text_nor_a_list(content: bytes) -> None:
    with pytest.raises(BlobError, match="neither text nor a KRL"):
        read_revocations(content)


def test_ranges_merge() -> None:
    assert merge_ranges([(5, 9), (1, 2), (3, 3), (7, 20), (30, 40)]) == ((1, 3), (5, 20), (30, 40))


# --- ssh-keygen's own ---------------------------------------------------------------------------------


@pytest.fixture
def keygen(tmp_path: Path) -> Keygen:
    CA.write(tmp_path / "ca.pub")
    (tmp_path / "alice.pub").write_text(ALICE.line + "\n")
    (tmp_path / "bob.pub").write_text(BOB.line + "\n")
    return Keygen(tmp_path)


def krl(keygen: Keygen, specification: str, *arguments: str) -> Revocations:
    (keygen.directory / "spec").write_text(specification)
    keygen.run("-q", "-k", "-f", "krl", *arguments, "spec")
    return read_revocations((keygen.directory / "krl").read_bytes())


@pytest.mark.parametrize("way", ["", "key: ", "sha1: ", "sha256: ", "hash: "])
def test_keys_in_a_krl(way: str, keygen: Keygen) -> None:
    what = ALICE.key.get_fingerprint() if way == "hash: " else ALICE.line
    revoked = krl(keygen, f"{way}{what}\n")
    assert revoked.covers_key(ALICE.blob)
    assert not revoked.covers_key(BOB.blob)
    assert covers(revoked, key=ALICE)
    assert not covers(revoked, key=BOB)


def test_an_authority_in_a_krl(keygen: Keygen) -> None:
    revoked = krl(keygen, CA.line + "\n")
    assert covers(revoked)
    assert not covers(revoked, ca=OTHER_CA)


@pytest.mark.parametrize(
    ("specification", "serials"),
    [
        ("serial: 7\n", {7}),
        ("serial: 5-900\n", {5, 6, 64, 900}),  # a range
        ("serial: 5\nserial: 900000\nserial: 1800000000\n", {5, 900000, 1800000000}),  # a list
        ("".join(f"serial: {n}\n" for n in range(1, 64, 2)), set(range(1, 64, 2))),  # a bitmap
    ],
)
def test_serial_numbers_in_a_krl(specification: str, serials: set[int], keygen: Keygen) -> None:
    revoked = krl(keygen, specification, "-s", "ca.pub")
    for serial in serials | {1, 2, 4, 64, 901, 1800000001}:
        assert covers(revoked, serial=serial) is (serial in serials), serial
        assert not covers(revoked, serial=serial, ca=OTHER_CA)


def test_key_ids_in_a_krl(keygen: Keygen) -> None:
    revoked = krl(keygen, "id: alice\nid: carol smith\n", "-s", "ca.pub")
    assert covers(revoked, key_id="alice")
    assert covers(revoked, key_id="carol smith")
    assert not covers(revoked, key_id="bob")
    assert not covers(revoked, key_id="alice", ca=OTHER_CA)


def test_certificates_in_a_krl(keygen: Keygen) -> None:
    revoked = krl(keygen, line(CA.certify(ALICE, "alice", serial=77)) + "\n")
    assert covers(revoked, serial=77)
    assert not covers(revoked, serial=78)


def test_we_and_ssh_keygen_agree(keygen: Keygen) -> None:
    import subprocess

    blob = CA.certify(ALICE, "alice", serial=12)
    (keygen.directory / "x-cert.pub").write_text(line(blob))
    for specification in ("serial: 12\n", "serial: 13\n", "id: alice\n", "id: bob\n"):
        ours = krl(keygen, specification, "-s", "ca.pub").covers(read_certificate(blob))
        said = subprocess.run(
            ["ssh-keygen", "-Q", "-f", "krl", "x-cert.pub"],
            cwd=keygen.directory,
            capture_output=True,
            check=False,
        )
        assert ours is (said.returncode != 0), specification


HEADER = b"SSHKRL\n\0" + (1).to_bytes(4, "big") + bytes(24) + string("") + string("")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"SSHKRL\n\0", "cut short"),
        (HEADER.replace(b"\0\0\0\1", b"\0\0\0\2", 1), "format 2"),
        (HEADER + b"\x09" + string(""), "unknown type 9"),
        (HEADER + b"\x04" + string("key") + string("signature"), "signed"),
        (HEADER + b"\xff" + string(string("x@y") + b"\1" + string("")), "critical extension"),
        (HEADER + b"\x01" + string(string("") + string("") + b"\x77" + string("")), "unknown way"),
        (
            HEADER + b"\x01" + string(string("") + string("") + b"\x39" + string(string("x@y") + b"\1")),
            "critical",
        ),
        (
            HEADER + b"\x01" + string(string("") + string("") + b"\x21" + string(b"\xff" * 8 + bytes(8))),
            "ends before",
        ),
        (HEADER + b"\x01" + string(string("") + string("") + b"\x20" + string(b"123")), "cut short"),
        (
            HEADER
            + b"\x01"
            + string(string("") + string("") + b"\x22" + string(bytes(8) + string(b"\1" * 3000))),
            "bitmap",
        ),
        (HEADER + b"\x05" + string(string(b"short")), "wrong length"),
        (HEADER + b"\x02" + b"\xff\xff\xff\xff", "cut short"),
    ],
)
def test_lists_that_are_refused(content: bytes, why: str) -> None:
    with pytest.raises(BlobError, match=why):
        read_revocations(content)


def test_an_extension_that_is_not_critical_is_passed_over() -> None:
    content = (
        HEADER + b"\xff" + string(string("x@y") + b"\0" + string("z")) + b"\x02" + string(string(ALICE.blob))
    )
    assert read_revocations(content).covers_key(ALICE.blob)
