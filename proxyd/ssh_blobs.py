"""Public keys and signatures of SSH as they stand on the wire, and what may be used of them.

Owns: reading RFC 4251 fields, the kinds of key and signature that are accepted, and checking a signature. Must
never: decide whose key it is. asyncssh does the arithmetic; what it would accept and we do not (SHA-1, DSA, short RSA
keys) is refused here before it gets there. Called for keys of strangers (`proxyd.identity`) and for those in files
(`proxyd.ssh_public_keys`, `proxyd.ssh_keys`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

import asyncssh
from asyncssh.public_key import decode_ssh_public_key

MAX_BLOB_BYTES: Final = 64 * 1024
MAX_SIGNATURE_BYTES: Final = 16 * 1024
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 16384  # OpenSSH's own limit; a check takes longer the longer the key is

CERTIFICATE_SUFFIX: Final = "-cert-v01@openssh.com"

# How many fields each kind of key has after its name (RFC 4253 section 6.6, RFC 5656, RFC 8709, OpenSSH
# PROTOCOL.u2f). There is no DSA.
_KEY_FIELDS: Final = {
    "ssh-ed25519": 1,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
# Not `ssh-rsa`, which as a signature is RSA with SHA-1 (RFC 8332 section 3).
_RSA_SIGNATURES: Final = ("rsa-sha2-512", "rsa-sha2-256")

# OpenSSH PROTOCOL.u2f: the flags of a security key's signature.
USER_PRESENT: Final = 0x01
USER_VERIFIED: Final = 0x04


class BlobError(ValueError):
    """A key, certificate or signature cannot be used. The text says why; it is bounded and printable."""


class Fields:
    """The fields of one blob, read from its beginning on. Every method raises BlobError when it is too short."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def position(self) -> int:
        return self._at

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise BlobError("it is cut short")
        value = self._data[self._at : end]
        self._at = end
        return value

    def byte(self) -> int:
        return self.take(1)[0]

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        return self.take(self.uint32())

    def name(self) -> str:
        """A name of the protocol: ASCII without blanks or control characters."""
        value = self.string()
        if not 0 < len(value) <= 64 or any(not 0x20 < byte < 0x7F for byte in value):
            raise BlobError("a name in it is not one of the protocol")
        return value.decode("ascii")

    def text(self) -> str:
        try:
            return self.string().decode("utf-8")
        except UnicodeDecodeError:
            raise BlobError("a text in it is not UTF-8") from None

    def between(self, start: int, end: int) -> bytes:
        return self._data[start:end]

    def end(self) -> None:
        if not self.is_at_end:
            raise BlobError("something follows its end")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that may be used. Two of them are one key exactly when their `blob` is the same."""

    blob: bytes
    algorithm: str
    key: asyncssh.SSHKey

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.blob)

    @property
    def is_security_key(self) -> bool:
        return self.algorithm.startswith("sk-")

    @property
    def signatures(self) -> tuple[str, ...]:
        return _RSA_SIGNATURES if self.algorithm == "ssh-rsa" else (self.algorithm,)


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature that fits its data. `flags`: of a security key (USER_PRESENT, USER_VERIFIED); None of other keys."""

    algorithm: str
    flags: int | None = None


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` writes it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def algorithm_of(blob: bytes) -> str:
    """The name that a key or certificate begins with."""
    if len(blob) > MAX_BLOB_BYTES:
        raise BlobError(f"it is longer than {MAX_BLOB_BYTES} bytes")
    return Fields(blob).name()


def blob_in_line(line: str) -> bytes:
    """The key or certificate of a line of a .pub file: its kind, its bytes in base64, and perhaps a comment.

    Raises BlobError.
    """
    words = line.split(None, 2)
    if "PRIVATE KEY" in line:
        raise BlobError("it is a private key")
    if len(words) < 2:
        raise BlobError("it is not a public key")
    try:
        blob = binascii.a2b_base64(words[1], strict_mode=True)
        kind = algorithm_of(blob)
    except ValueError:
        raise BlobError("it is not a public key") from None
    if kind != words[0]:
        raise BlobError("its first word is not its kind (options have no place here)")
    return blob


def is_accepted_kind(algorithm: str) -> bool:
    """Of a plain key."""
    return algorithm in _KEY_FIELDS


def is_certificate(algorithm: str) -> bool:
    return algorithm.endswith(CERTIFICATE_SUFFIX)


def key_from_blob(blob: bytes) -> PublicKey:
    """The plain key of `blob`. A certificate is not one. Raises BlobError."""
    algorithm = algorithm_of(blob)
    if is_certificate(algorithm):
        raise BlobError("it is a certificate, not a plain key")
    skip_key_fields(algorithm, fields := Fields(blob), with_name=True)
    fields.end()
    return PublicKey(blob, algorithm, _decoded(blob))


def skip_key_fields(algorithm: str, fields: Fields, *, with_name: bool = False) -> None:
    """Read past the fields of a key of kind `algorithm`, and refuse kinds and lengths that are not accepted."""
    count = _KEY_FIELDS.get(algorithm)
    if count is None:
        raise BlobError(f"keys of kind {algorithm} are not accepted")
    if with_name:
        fields.name()
    values = [fields.string() for _ in range(count)]
    if algorithm == "ssh-rsa":
        bits = int.from_bytes(values[1], "big").bit_length()
        if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
            raise BlobError(f"it is an RSA key of {bits} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted")


def _decoded(blob: bytes) -> asyncssh.SSHKey:
    try:
        key = decode_ssh_public_key(blob)
        canonical = key.public_data
    except (ValueError, TypeError, OverflowError, AssertionError) as error:
        raise BlobError("it is not a key of the kind that it names") from error
    if canonical != blob:
        # Leading zeros and the like: the same key in other bytes would pass by a list of revoked ones.
        raise BlobError("it is not written in the one form that a key has")
    return key


def algorithms_agree(requested: str, blob_algorithm: str, signature_algorithm: str) -> bool:
    """Whether a request that names `requested` may carry such a key or certificate and such a signature.

    RFC 8332 section 3.2: an RSA key keeps its name and the request names the signature; with certificates as OpenSSH
    PROTOCOL.certkeys has it.
    """
    with_certificate = is_certificate(blob_algorithm)
    if with_certificate != is_certificate(requested):
        return False
    kind = requested.removesuffix(CERTIFICATE_SUFFIX) if with_certificate else requested
    if with_certificate and signature_algorithm.startswith("sk-"):
        kind += "@openssh.com"
    return kind == signature_algorithm


def check_signature(key: PublicKey, data: bytes, blob: bytes) -> Signature:
    """The signature in `blob`, when it is `key`'s over `data` and of an accepted kind. Raises BlobError."""
    if len(blob) > MAX_SIGNATURE_BYTES:
        raise BlobError("the signature is too long")
    fields = Fields(blob)
    algorithm = fields.name()
    if algorithm not in key.signatures:
        raise BlobError(f"a signature of kind {algorithm} by a key of kind {key.algorithm} is not accepted")
    fields.string()
    flags = None
    if key.is_security_key:
        flags = fields.byte()
        fields.uint32()  # the key's counter
    fields.end()
    try:
        is_valid = key.key.verify(data, blob)
    except (ValueError, TypeError, OverflowError, AssertionError) as error:
        raise BlobError("the signature cannot be read") from error
    if not is_valid:
        raise BlobError("the signature is not this key's over this request")
    return Signature(algorithm, flags)
