"""The file `revoked_keys`: keys, authorities and certificates that no longer count.

Owns its text form, one entry a line, in the words of the files that `ssh-keygen -k` takes:

    ssh-ed25519 AAAA... comment     the key, also under a certificate and as an authority; of a certificate its key
    SHA256:JGcz...                  the same, by its fingerprint
    serial: 17   serial: 20-29      certificates with these serial numbers, of any authority
    id: NAME                        certificates with this key id, of any authority

A binary list (KRL) may stand there as well. Fails closed: a line that cannot be read is a fault of the file, never
skipped. An empty file revokes nothing. Pure. Called by `proxyd.identity.ssh_trust`.
"""

from __future__ import annotations

import base64
import binascii

from proxyd.identity.ssh_krl import MAGIC, read_krl
from proxyd.identity.ssh_revoked import (
    MAX_SERIAL,
    Revocations,
    RevokedCertificates,
    SerialRange,
    merge_ranges,
    sha256_of,
)
from proxyd.ssh_blobs import (
    BlobError,
    algorithm_of,
    blob_in_line,
    is_accepted_kind,
    is_certificate,
    key_from_blob,
)
from proxyd.ssh_certificate import read_certificate


def read_revocations(content: bytes) -> Revocations:
    """Raises BlobError, naming the line."""
    if content.startswith(MAGIC):
        return read_krl(content)
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BlobError("it is neither text nor a KRL") from None
    digests: set[bytes] = set()
    serials: list[SerialRange] = []
    key_ids: set[str] = set()
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            match _word_before_colon(entry):
                case "serial":
                    serials.append(_serials(_after_colon(entry)))
                case "id":
                    key_ids.add(_after_colon(entry))
                case _:
                    digests.add(_digest(entry))
        except BlobError as error:
            raise BlobError(f"line {number} cannot be used: {error}") from None
    certificates = RevokedCertificates(None, merge_ranges(serials), frozenset(key_ids))
    return Revocations(frozenset(digests), certificates=(certificates,))


def _word_before_colon(entry: str) -> str:
    word, colon, _ = entry.partition(":")
    return word.strip().lower() if colon else ""


def _after_colon(entry: str) -> str:
    value = entry.partition(":")[2].strip()
    if not value:
        raise BlobError("nothing stands after the colon")
    return value


def _serials(text: str) -> SerialRange:
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        begin = int(first, 0)
        end = int(last, 0) if dash else begin
    except ValueError:
        raise BlobError("write `serial: N` or `serial: N-M`") from None
    if not 0 <= begin <= end <= MAX_SERIAL:
        raise BlobError("the serial numbers are out of range or out of order")
    return begin, end


def _digest(entry: str) -> bytes:
    """The SHA-256 of the key that `entry` names."""
    if entry.startswith("SHA256:"):
        return _from_fingerprint(entry.split(maxsplit=1)[0])
    blob = blob_in_line(entry)
    kind = algorithm_of(blob)
    if is_certificate(kind):
        return sha256_of(read_certificate(blob).key.blob)
    # Keys that nobody can use here any more (DSA) are still in people's lists.
    return sha256_of(key_from_blob(blob).blob if is_accepted_kind(kind) else blob)


def _from_fingerprint(text: str) -> bytes:
    encoded = text.removeprefix("SHA256:").rstrip("=")
    try:
        digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise BlobError("it is not a fingerprint as `ssh-keygen -l` writes it")
    return digest
