"""OpenSSH certificates: read, checked, and what those of users permit.

Owns every rule about a certificate itself: its kind, who signed it, when it is valid, from where, with which options.
Must never: decide who its holder is, or look at the request that it came with (`proxyd.identity.ssh`). Pure; the
time and the client's address are passed in.

The format is that of OpenSSH's PROTOCOL.certkeys. It is read here and not by asyncssh, because asyncssh accepts what we
refuse (signatures with SHA-1, an option given twice) and cannot read what we honour (verify-required). The authority is
looked up before any signature is checked, so a stranger's certificate costs no arithmetic.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final

from proxyd.ssh_blobs import (
    CERTIFICATE_SUFFIX,
    BlobError,
    Fields,
    PublicKey,
    algorithm_of,
    check_signature,
    fingerprint,
    is_certificate,
    key_from_blob,
    skip_key_fields,
)

USER: Final = 1
HOST: Final = 2
FOREVER: Final = 0xFFFF_FFFF_FFFF_FFFF

MAX_PRINCIPALS: Final = 256  # SSHKEY_CERT_MAX_PRINCIPALS of OpenSSH
MAX_OPTIONS: Final = 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. Nothing of it counts before it was checked.

    `valid_after`, `valid_before`: Unix seconds. `options`, `extensions`: the raw values by name. `signed`: the bytes
    that the authority has signed.
    """

    key: PublicKey
    serial: int
    kind: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    options: Mapping[str, bytes]
    extensions: Mapping[str, bytes]
    authority_blob: bytes
    signed: bytes
    signature: bytes

    @property
    def expires_at(self) -> float | None:
        return None if self.valid_before == FOREVER else float(self.valid_before)


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a certificate lets its holder do, and what it demands of the signature by its key.

    `forced_command`: what is run whatever was asked for; None for nothing.
    """

    forced_command: str | None
    may_use_pty: bool
    may_forward: bool
    may_use_agent: bool
    may_use_x11: bool
    needs_presence: bool
    needs_verification: bool


def read_certificate(blob: bytes) -> Certificate:
    """The certificate in `blob`, nothing of it checked but its form. Raises BlobError."""
    algorithm = algorithm_of(blob)
    if not is_certificate(algorithm):
        raise BlobError("it is not a certificate")
    fields = Fields(blob)
    fields.name()
    fields.string()  # nonce
    key = _subject_key(algorithm, fields, blob)
    serial, kind, key_id = fields.uint64(), fields.uint32(), fields.text()
    principals = _principals(fields.string())
    valid_after, valid_before = fields.uint64(), fields.uint64()
    options, extensions = _options(fields.string()), _options(fields.string())
    fields.string()  # reserved
    authority_blob = fields.string()
    signed = fields.between(0, fields.position)
    signature = fields.string()
    fields.end()
    return Certificate(
        key,
        serial,
        kind,
        key_id,
        principals,
        valid_after,
        valid_before,
        options,
        extensions,
        authority_blob,
        signed,
        signature,
    )


def check_user_certificate(
    certificate: Certificate, authorities: Container[bytes], now: float, peer: Address | None
) -> Permissions:
    """What `certificate` permits now to a client at `peer` (None: not an address). Raises BlobError with the reason.

    `authorities`: the blobs of the keys that may sign. They are plain keys, so a certificate can never be a signer.
    """
    _check_issue(certificate, USER, authorities, now)
    if not certificate.principals:
        raise BlobError("it lists no principals, so it admits nobody")
    _check_address(certificate.options, peer)
    return _permissions(certificate)


def check_host_certificate(
    certificate: Certificate, authorities: Container[bytes], host: str, now: float
) -> None:
    """Raises BlobError unless `certificate` says now that its key is that of `host`.

    As in ssh a principal may be a pattern (`*.example.org`); unlike in ssh a certificate without any is for no host.
    """
    _check_issue(certificate, HOST, authorities, now)
    for name in certificate.options:
        raise BlobError(f"it has the critical option {name}, and a host's can have none")
    if not any(fnmatch.fnmatchcase(host.lower(), _as_glob(name)) for name in certificate.principals):
        names = ", ".join(certificate.principals[:8])[:256]
        raise BlobError(f"it is a certificate for {names!a}, not for {host}")


def _as_glob(principal: str) -> str:
    """ssh knows `*` and `?` alone; in fnmatch a bracket opens a set of characters."""
    return principal.lower().replace("[", "[[]")


def _check_issue(certificate: Certificate, kind: int, authorities: Container[bytes], now: float) -> None:
    if certificate.authority_blob not in authorities:
        signer = fingerprint(certificate.authority_blob)
        raise BlobError(f"it is signed by {signer}, which is not a trusted authority")
    if certificate.kind != kind:
        raise BlobError(_WRONG_KIND.get(certificate.kind, "it is a certificate of an unknown type"))
    check_signature(key_from_blob(certificate.authority_blob), certificate.signed, certificate.signature)
    if now < certificate.valid_after:
        raise BlobError(f"it is valid only from {certificate.valid_after} (Unix time) on")
    if now >= certificate.valid_before:
        raise BlobError(f"it has expired at {certificate.valid_before} (Unix time)")


_WRONG_KIND: Final = {
    USER: "it is a user certificate, not a host's",
    HOST: "it is a host certificate, not a user's",
}


def client_address(text: str) -> Address | None:
    """The IP address of a client, IPv4 also where it came as an IPv4-mapped IPv6 address; None when it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


# --- form -------------------------------------------------------------------------------------------------


def _subject_key(algorithm: str, fields: Fields, blob: bytes) -> PublicKey:
    """The key that is certified, as the plain key that it also is."""
    plain = algorithm.removesuffix(CERTIFICATE_SUFFIX)
    if plain.startswith("sk-"):
        plain += "@openssh.com"
    start = fields.position
    skip_key_fields(plain, fields)
    name = plain.encode("ascii")
    return key_from_blob(len(name).to_bytes(4, "big") + name + blob[start : fields.position])


def _principals(data: bytes) -> tuple[str, ...]:
    fields = Fields(data)
    found: list[str] = []
    while not fields.is_at_end:
        if len(found) == MAX_PRINCIPALS:
            raise BlobError(f"it lists more than {MAX_PRINCIPALS} principals")
        found.append(fields.text())
    return tuple(found)


def _options(data: bytes) -> dict[str, bytes]:
    fields = Fields(data)
    found: dict[str, bytes] = {}
    while not fields.is_at_end:
        name, value = fields.name(), fields.string()
        if name in found:
            raise BlobError(f"it has {name} twice")
        if len(found) == MAX_OPTIONS:
            raise BlobError(f"it has more than {MAX_OPTIONS} options")
        found[name] = value
    return found


# --- rules ------------------------------------------------------------------------------------------------


def _check_address(options: Mapping[str, bytes], peer: Address | None) -> None:
    value = options.get("source-address")
    if value is None:
        return
    networks = [_network(part) for part in _one_text("source-address", value).split(",")]
    if peer is None or not any(peer in network for network in networks):
        raise BlobError("it may not be used from this address (source-address)")


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise BlobError("its source-address is not a list of addresses and networks") from None


def _permissions(certificate: Certificate) -> Permissions:
    options, extensions = certificate.options, certificate.extensions
    for name in options:
        if name not in ("force-command", "source-address", "verify-required"):
            raise BlobError(f"it has the critical option {name}, which is unknown")
    needs_verification = _is_set("verify-required", options)
    if needs_verification and not certificate.key.is_security_key:
        raise BlobError("it has verify-required, but a key of its kind cannot verify its user")
    command = options.get("force-command")
    return Permissions(
        forced_command=None if command is None else _one_text("force-command", command),
        may_use_pty=_is_set("permit-pty", extensions),
        may_forward=_is_set("permit-port-forwarding", extensions),
        may_use_agent=_is_set("permit-agent-forwarding", extensions),
        may_use_x11=_is_set("permit-X11-forwarding", extensions),
        needs_presence=certificate.key.is_security_key and not _is_set("no-touch-required", extensions),
        needs_verification=needs_verification,
    )


def _is_set(name: str, options: Mapping[str, bytes]) -> bool:
    value = options.get(name)
    if value:
        raise BlobError(f"its {name} has a value, and can have none")
    return value is not None


def _one_text(name: str, value: bytes) -> str:
    fields = Fields(value)
    text = fields.text()
    if not fields.is_at_end or not text or "\0" in text:
        raise BlobError(f"its {name} cannot be read")
    return text
