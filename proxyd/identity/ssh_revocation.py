"""Keys, authorities and certificates that no longer count: reading the list of them, and asking it.

Owns the format of `revoked_keys`: one entry a line, as in the files that `ssh-keygen -k` takes.

    ssh-ed25519 AAAA... comment     the key, also under a certificate and as an authority; of a certificate its key
    SHA256:JGcz...                  the same, by its fingerprint
    serial: 17   serial: 20-29      certificates with these serial numbers, of any authority
    id: NAME                        certificates with this key id, of any authority

Fails closed: a line that cannot be read is a fault of the file, never skipped. Pure. Called by `proxyd.identity.ssh`.
"""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from proxyd.ssh_blobs import (
    BlobError,
    algorithm_of,
    blob_in_line,
    fingerprint,
    is_accepted_kind,
    is_certificate,
    key_from_blob,
)
from proxyd.ssh_certificate import Certificate, read_certificate

KRL_MAGIC: Final = b"SSHKRL\n\0"
MAX_SERIAL: Final = 2**64 - 1

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Revocations:
    """`fingerprints` of keys (SHA256:...), `serials` as sorted ranges (first, last), `key_ids` of certificates."""

    fingerprints: frozenset[str] = frozenset()
    serials: tuple[Range, ...] = ()
    key_ids: frozenset[str] = field(default=frozenset())

    def covers_key(self, blob: bytes) -> bool:
        """Whether this plain key, of a user or an authority, is revoked."""
        return bool(self.fingerprints) and fingerprint(blob) in self.fingerprints

    def covers(self, certificate: Certificate) -> bool:
        return (
            self.covers_key(certificate.key.blob)
            or self.covers_key(certificate.authority_blob)
            or certificate.key_id in self.key_ids
            or _contains(self.serials, certificate.serial)
        )


def read_revocations(content: bytes) -> Revocations:
    """Raises BlobError, naming the line."""
    if content.startswith(KRL_MAGIC):
        raise BlobError("it is a binary KRL; list keys, fingerprints, `serial:` and `id:` lines instead")
    try:
        lines = content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise BlobError("it is not UTF-8 text") from None
    fingerprints: set[str] = set()
    serials: list[Range] = []
    key_ids: set[str] = set()
    for number, line in enumerate(lines, 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            match _kind(entry):
                case "serial":
                    serials.append(_serials(_after_colon(entry)))
                case "id":
                    key_ids.add(_after_colon(entry))
                case _:
                    fingerprints.add(_fingerprint(entry))
        except BlobError as error:
            raise BlobError(f"line {number} cannot be used: {error}") from None
    return Revocations(frozenset(fingerprints), _merged(serials), frozenset(key_ids))


def _kind(entry: str) -> str:
    word, colon, _ = entry.partition(":")
    return word.strip().lower() if colon else ""


def _after_colon(entry: str) -> str:
    value = entry.partition(":")[2].strip()
    if not value:
        raise BlobError("nothing stands after the colon")
    return value


def _serials(text: str) -> Range:
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        begin = int(first, 0)
        end = int(last, 0) if dash else begin
    except ValueError:
        raise BlobError("write `serial: N` or `serial: N-M`") from None
    if not 0 <= begin <= end <= MAX_SERIAL:
        raise BlobError("the serial numbers are out of range or out of order")
    return begin, end


def _fingerprint(entry: str) -> str:
    if entry.startswith("SHA256:"):
        return _checked_fingerprint(entry.split(maxsplit=1)[0])
    blob = blob_in_line(entry)
    if is_certificate(algorithm_of(blob)):
        return read_certificate(blob).key.fingerprint
    # Keys that nobody can use here any more (DSA) are still in people's lists.
    return key_from_blob(blob).fingerprint if is_accepted_kind(algorithm_of(blob)) else fingerprint(blob)


def _checked_fingerprint(text: str) -> str:
    encoded = text.removeprefix("SHA256:").rstrip("=")
    try:
        digest = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise BlobError("it is not a fingerprint as `ssh-keygen -l` writes it")
    return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def _merged(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Sorted, without overlaps."""
    merged: list[Range] = []
    for begin, end in sorted(ranges):
        if merged and begin <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _contains(ranges: tuple[Range, ...], number: int) -> bool:
    index = bisect.bisect_right(ranges, (number, MAX_SERIAL)) - 1
    return index >= 0 and ranges[index][0] <= number <= ranges[index][1]
