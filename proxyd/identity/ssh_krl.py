"""OpenSSH's binary lists of revoked keys (KRL, as `ssh-keygen -k` makes them), read.

Owns the format (OpenSSH PROTOCOL.krl). Fails closed: a section or subsection that is not known here could revoke
something, so the whole list is refused; extensions only where they say that they are critical. Signed lists are refused
as well: nobody could tell here who had to sign. Pure. Called by `proxyd.identity.ssh_revocation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Final

from proxyd.identity.ssh_revoked import Revocations, RevokedCertificates, SerialRange, merge_ranges, sha256_of
from proxyd.ssh_blobs import BlobError, Fields

MAGIC: Final = b"SSHKRL\n\0"
_FORMAT_VERSION: Final = 1

_MAX_BITMAP_BYTES: Final = 2049  # 16384 bits and a sign, OpenSSH's own limit


class _Section(IntEnum):
    CERTIFICATES = 1
    KEYS = 2
    SHA1 = 3
    SIGNATURE = 4
    SHA256 = 5
    EXTENSION = 255


class _Way(IntEnum):
    """How certificates are named."""

    SERIAL_LIST = 0x20
    SERIAL_RANGE = 0x21
    SERIAL_BITMAP = 0x22
    KEY_ID = 0x23
    EXTENSION = 0x39


def read_krl(content: bytes) -> Revocations:
    """Raises BlobError."""
    fields = Fields(content)
    if fields.take(len(MAGIC)) != MAGIC:
        raise BlobError("it is not a KRL")
    if (version := fields.uint32()) != _FORMAT_VERSION:
        raise BlobError(f"it is a KRL of format {version}, and only {_FORMAT_VERSION} is known")
    fields.take(3 * 8)  # version of the list, date, flags: none are defined
    fields.string()  # reserved
    fields.string()  # comment
    sha256s: set[bytes] = set()
    sha1s: set[bytes] = set()
    certificates: list[RevokedCertificates] = []
    while not fields.is_at_end:
        section = fields.byte()
        data = b"" if section == _Section.SIGNATURE else fields.string()
        match section:
            case _Section.CERTIFICATES:
                certificates.append(_certificates(Fields(data)))
            case _Section.KEYS:
                sha256s.update(sha256_of(blob) for blob in _strings(data))
            case _Section.SHA1:
                sha1s.update(_digests(data, 20))
            case _Section.SHA256:
                sha256s.update(_digests(data, 32))
            case _Section.EXTENSION:
                _skip_extension(data)
            case _Section.SIGNATURE:
                raise BlobError(
                    "it is a signed KRL, whose signature nobody could check here; make one without"
                )
            case _:
                raise BlobError(f"it is a KRL with a section of the unknown type {section}")
    return Revocations(frozenset(sha256s), frozenset(sha1s), tuple(certificates))


def _certificates(fields: Fields) -> RevokedCertificates:
    authority = fields.string()  # empty: of any authority
    fields.string()  # reserved
    serials: list[SerialRange] = []
    key_ids: set[str] = set()
    while not fields.is_at_end:
        section, data = fields.byte(), fields.string()
        match section:
            case _Way.SERIAL_LIST:
                serials.extend((serial, serial) for serial in _serial_list(Fields(data)))
            case _Way.SERIAL_RANGE:
                serials.append(_serial_range(Fields(data)))
            case _Way.SERIAL_BITMAP:
                serials.extend((serial, serial) for serial in _bitmap(Fields(data)))
            case _Way.KEY_ID:
                key_ids.update(_texts(Fields(data)))
            case _Way.EXTENSION:
                _skip_extension(data)
            case _:
                raise BlobError(f"it is a KRL that names certificates in the unknown way {section}")
    return RevokedCertificates(authority or None, merge_ranges(serials), frozenset(key_ids))


def _strings(data: bytes) -> Iterator[bytes]:
    fields = Fields(data)
    while not fields.is_at_end:
        yield fields.string()


def _texts(fields: Fields) -> Iterator[str]:
    while not fields.is_at_end:
        yield fields.text()


def _digests(data: bytes, length: int) -> Iterator[bytes]:
    for digest in _strings(data):
        if len(digest) != length:
            raise BlobError("a fingerprint in it has a wrong length")
        yield digest


def _serial_list(fields: Fields) -> Iterator[int]:
    while not fields.is_at_end:
        yield fields.uint64()


def _serial_range(fields: Fields) -> SerialRange:
    first, last = fields.uint64(), fields.uint64()
    fields.end()
    if first > last:
        raise BlobError("a range of serial numbers in it ends before it begins")
    return first, last


def _bitmap(fields: Fields) -> Iterator[int]:
    """Bit N set: the serial number `offset` + N is revoked."""
    offset, bitmap = fields.uint64(), fields.string()
    fields.end()
    if len(bitmap) > _MAX_BITMAP_BYTES:
        raise BlobError("a bitmap of serial numbers in it is too long")
    bits = int.from_bytes(bitmap, "big")
    for index in range(bits.bit_length()):
        if bits >> index & 1:
            yield offset + index


def _skip_extension(data: bytes) -> None:
    fields = Fields(data)
    name, is_critical = fields.name(), fields.byte() != 0
    if is_critical:
        raise BlobError(f"it is a KRL with the critical extension {name}, which is unknown")
