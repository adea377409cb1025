"""What is revoked: keys, authorities and certificates, in a form that can be asked. Pure.

Built by `proxyd.identity.ssh_revocation` and `proxyd.identity.ssh_krl`, asked by `proxyd.identity.ssh`.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxyd.ssh_certificate import Certificate

MAX_SERIAL: Final = 2**64 - 1

SerialRange = tuple[int, int]  # first, last


@dataclass(frozen=True, slots=True)
class RevokedCertificates:
    """Certificates of the authority with the blob `authority` (None: of any). `serials`: sorted, without overlaps."""

    authority: bytes | None = None
    serials: tuple[SerialRange, ...] = ()
    key_ids: frozenset[str] = frozenset()

    def covers(self, certificate: Certificate) -> bool:
        if self.authority not in (None, certificate.authority_blob):
            return False
        return certificate.key_id in self.key_ids or _contains(self.serials, certificate.serial)


@dataclass(frozen=True, slots=True)
class Revocations:
    """`sha256s`, `sha1s`: digests of plain keys, of users and authorities alike."""

    sha256s: frozenset[bytes] = frozenset()
    sha1s: frozenset[bytes] = frozenset()
    certificates: tuple[RevokedCertificates, ...] = ()

    def covers_key(self, blob: bytes) -> bool:
        """Whether this plain key, of a user or an authority, is revoked."""
        return sha256_of(blob) in self.sha256s or (bool(self.sha1s) and _sha1_of(blob) in self.sha1s)

    def covers(self, certificate: Certificate) -> bool:
        """Whether it is, or its key is, or its authority."""
        return (
            self.covers_key(certificate.key.blob)
            or self.covers_key(certificate.authority_blob)
            or any(each.covers(certificate) for each in self.certificates)
        )


def sha256_of(blob: bytes) -> bytes:
    return hashlib.sha256(blob).digest()


def _sha1_of(blob: bytes) -> bytes:
    # Older KRLs name keys so. Whoever makes two keys of one digest revokes both, and gains nothing.
    return hashlib.sha1(blob, usedforsecurity=False).digest()


def merge_ranges(ranges: Iterable[SerialRange]) -> tuple[SerialRange, ...]:
    """Sorted, without overlaps."""
    merged: list[SerialRange] = []
    for begin, end in sorted(ranges):
        if merged and begin <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _contains(ranges: tuple[SerialRange, ...], number: int) -> bool:
    index = bisect.bisect_right(ranges, (number, MAX_SERIAL)) - 1
    return index >= 0 and ranges[index][0] <= number <= ranges[index][1]
