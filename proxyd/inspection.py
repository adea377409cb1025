"""Certificates for the hosts behind a CONNECT tunnel, signed as they are needed by an authority of the gateway's own.

Clients that only know HTTPS_PROXY open a tunnel to the target's name and greet it there with TLS. The gateway ends that
TLS with a certificate for the name, so that it can judge what is in it; clients have to trust the authority.

Owns the authority's key, the one key of all leaf certificates (made at the start, never stored), and the contexts. Must
never sign for a name that nobody has checked: who calls `engine` has made sure that the host is a target's. Used by the
HTTP door.
"""

from __future__ import annotations

import datetime
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from proxyd.config import CertificateAuthority, HttpProxy
from proxyd.credentials import CredentialError, read_secret
from proxyd.inspection_names import address_in, forbidden_by
from proxyd.tls_contexts import Expiry, accepting_engine, minted_context
from proxyd.tls_engine import TlsEngine
from proxyd.tls_files import (
    TlsKey,
    TlsSettingsError,
    authority_problem,
    certificates_in,
    describe_name,
    key_in,
    read_file,
)

LEAF_LIFETIME_S: Final = 86400.0
BACKDATED_S: Final = 3600.0  # for clients whose clocks are slow
RENEWED_BEFORE_S: Final = 3600.0
MAX_CONTEXTS: Final = 1000
LONGEST_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name


class InspectionRefused(Exception):
    """No certificate for this host can be made. The text may be shown to the client."""


@dataclass(frozen=True, slots=True)
class _Authority:
    """What was read from the files. `chain`: the signing certificate first, then those above it."""

    chain: tuple[x509.Certificate, ...]
    key: TlsKey = field(repr=False, compare=False)
    key_bytes: bytes = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def ends_at(self) -> float:
        return min(certificate.not_valid_after_utc.timestamp() for certificate in self.chain)

    @property
    def shown(self) -> tuple[x509.Certificate, ...]:
        """What a client needs besides the leaf: it has the root already, or will not believe it."""
        return tuple(one for one in self.chain if one.subject != one.issuer)


class InspectionAuthority:
    """Makes the server side of TLS for any host. Contexts are kept, the least used go first."""

    def __init__(
        self, settings: CertificateAuthority, alpn: tuple[str, ...], clock: Callable[[], float] = time.time
    ) -> None:
        """Raises SettingsError. Reads the certificate and the key."""
        self._settings = settings
        self._alpn = alpn
        self._clock = clock
        self._authority = _read(settings)
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._contexts: OrderedDict[str, tuple[SSL.Context, float]] = OrderedDict()
        # Reloads come from a worker thread; a context of the old authority must not be kept under the new one.
        self._lock = threading.Lock()

    @classmethod
    def from_config(
        cls, proxy: HttpProxy, protocols: tuple[str, ...], clock: Callable[[], float] = time.time
    ) -> Self:
        """Raises SettingsError."""
        return cls(proxy.certificate_authority, protocols, clock)

    def engine(self, host: str) -> TlsEngine:
        """A connection that waits for the handshake of a client that wants `host` (a name or an address, normal form).

        Raises InspectionRefused.
        """
        return accepting_engine(self._context(host))

    def reload(self) -> bool:
        """Read certificate and key anew. Raises SettingsError and keeps what it has."""
        authority = _read(self._settings)
        if authority == self._authority:
            return False
        with self._lock:
            self._authority = authority
            self._contexts.clear()
        return True

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The signing certificate first, then those above it that are in the file."""
        return self._authority.chain

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        path = str(self._settings.certificate)
        return tuple(
            Expiry(f"inspection CA {describe_name(one.subject)}", path, one.not_valid_after_utc.timestamp())
            for one in self._authority.chain
        )

    def _context(self, host: str) -> SSL.Context:
        now = self._clock()
        with self._lock:
            kept = self._contexts.get(host)
            if kept is not None and now < kept[1]:
                self._contexts.move_to_end(host)
                return kept[0]
            authority = self._authority
            leaf = self._mint(authority, host, now)
            context = minted_context((leaf, *authority.shown), self._leaf_key, self._alpn)
            ends_at = leaf.not_valid_after_utc.timestamp()
            self._contexts[host] = (context, ends_at - RENEWED_BEFORE_S)
            self._contexts.move_to_end(host)
            while len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)
            return context

    def _mint(self, authority: _Authority, host: str, now: float) -> x509.Certificate:
        if why := forbidden_by(authority.chain, host):
            raise InspectionRefused(f"the gateway's authority for tunnels {why}")
        if not now < authority.ends_at:
            raise InspectionRefused("the certificate of the gateway's authority for tunnels has ended")
        starts = max(now - BACKDATED_S, authority.certificate.not_valid_before_utc.timestamp())
        return _leaf(authority, self._leaf_key, host, starts, min(now + LEAF_LIFETIME_S, authority.ends_at))


def _leaf(
    authority: _Authority, leaf_key: ec.EllipticCurvePrivateKey, host: str, starts: float, ends: float
) -> x509.Certificate:
    address = address_in(host)
    # An address as a common name would be held against constraints on names by OpenSSL, which sees a name in it.
    has_name = address is None and len(host) <= LONGEST_COMMON_NAME
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)] if has_name else [])
    name = x509.DNSName(host) if address is None else x509.IPAddress(address)
    public_key = leaf_key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.fromtimestamp(starts, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ends, datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([name]), critical=not has_name)  # section 4.2.1.6
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_issuer_key(authority.certificate), critical=False)
    )
    is_edwards = isinstance(authority.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    return builder.sign(authority.key, None if is_edwards else hashes.SHA256())


_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """As the issuer calls its own key, where it does (section 4.2.1.1)."""
    try:
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _read(settings: CertificateAuthority) -> _Authority:
    """Raises SettingsError."""
    path = settings.certificate
    chain = certificates_in(path, read_file(path))
    for certificate in chain:
        if problem := authority_problem(certificate) or _unfit(certificate):
            raise TlsSettingsError(
                path,
                f"{describe_name(certificate.subject)} may not sign for servers ({problem})",
                "make an authority for the gateway alone, and put its certificate first",
            )
    for below, above in pairwise(chain):
        if below.issuer != above.subject:
            raise TlsSettingsError(
                path,
                f"{describe_name(above.subject)} is not the issuer of {describe_name(below.subject)}",
                "put the signing certificate first, and then each issuer behind what it has issued",
            )
    text = _read_key(settings).encode()
    source = settings.key.file or ""
    key = key_in(Path(source), text) if source else _named(lambda: key_in(Path(), text))
    if _public_bytes(key.public_key()) != _public_bytes(chain[0].public_key()):
        raise TlsSettingsError(
            path, "does not go with the key", "put the certificate of that key first in the file"
        )
    return _Authority(tuple(chain), key, text)


def _read_key(settings: CertificateAuthority) -> str:
    try:
        return read_secret(settings.key).reveal()
    except CredentialError as error:
        message = error.why if settings.key.file is not None else f"{error.what} {error.why}"
        raise TlsSettingsError(settings.key.file or "", message, error.remedy) from None


def _named(read: Callable[[], TlsKey]) -> TlsKey:
    """A key that is in no file has no path to put into an error."""
    try:
        return read()
    except TlsSettingsError as error:
        raise TlsSettingsError("", f"the inspection key {error.message}", error.remedy) from None


def _unfit(certificate: x509.Certificate) -> str:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    wanted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return "" if wanted & set(usages) else "its extendedKeyUsage does not allow servers"


def _public_bytes(key: object) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(encoding, form)  # type: ignore[attr-defined,no-any-return]
