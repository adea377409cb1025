"""Certificates, keys and revocation lists as they lie on disk.

Owns reading, bounding and taking apart PEM (and, for lists, DER) files, and the words for what is wrong
with them. Never decides who is let in, and never keeps what it read. Called by `proxyd.tls_contexts` and by
`proxyd check`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from proxyd import settings_files
from proxyd.settings_files import SettingsError

TlsKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_KEY_TYPES: Final = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)
_PEM_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


class TlsSettingsError(SettingsError):
    """TLS cannot be set up as configured."""


def read_file(path: Path) -> bytes:
    """The content of `path`. TlsSettingsError when it cannot be read or is larger than any such file."""
    return settings_files.read_file(path, TlsSettingsError)


def certificates_in(path: Path, content: bytes) -> list[x509.Certificate]:
    """All certificates of a PEM file, in its order. At least one."""
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as exc:
        raise TlsSettingsError(path, "holds no readable PEM certificate", "give a PEM file") from exc


def key_in(path: Path, content: bytes) -> TlsKey:
    """The private key of a PEM file."""
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except TypeError as exc:
        raise TlsSettingsError(
            path, "is encrypted with a passphrase", "store it decrypted, readable by the service only"
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise TlsSettingsError(path, "holds no readable PEM private key", "give a PEM file") from exc
    if not isinstance(key, _KEY_TYPES):
        raise TlsSettingsError(path, "holds a key that TLS cannot use", "use an RSA, ECDSA or Ed25519 key")
    return key


def revocation_lists_in(path: Path, content: bytes) -> list[x509.CertificateRevocationList]:
    """All revocation lists of a PEM file (or the one of a DER file). At least one, each with an end date."""
    blocks = _PEM_CRL.findall(content)
    try:
        if blocks:
            lists = [x509.load_pem_x509_crl(block) for block in blocks]
        else:
            lists = [x509.load_der_x509_crl(content)]
    except ValueError as exc:
        raise TlsSettingsError(
            path, "holds no readable certificate revocation list", "give a PEM or DER file with one"
        ) from exc
    for revocation_list in lists:
        # OpenSSL takes a list without nextUpdate for fresh for ever; RFC 5280 section 5.1.2.5 requires the
        # field.
        if revocation_list.next_update_utc is None:
            raise TlsSettingsError(
                path,
                f"the list of {describe_name(revocation_list.issuer)} has no nextUpdate, so nobody can tell "
                "whether it is fresh",
                "issue it with an end date",
            )
    return lists


def check_authorities(path: Path, certificates: Sequence[x509.Certificate]) -> None:
    """Refuse a CA bundle that would let somebody in who is no CA, or that cannot work.

    A user certificate in the bundle would make its owner a signer of identities, so each must say that it
    is a CA. An intermediate needs its root beside it: chains are followed up to a self-signed root, as
    elsewhere.
    """
    issuers = {certificate.subject for certificate in certificates}
    for certificate in certificates:
        if problem := authority_problem(certificate):
            raise TlsSettingsError(
                path,
                f"{describe_name(certificate.subject)} is no CA certificate ({problem})",
                "list only certificates that may sign others",
            )
        if certificate.issuer not in issuers:
            raise TlsSettingsError(
                path,
                f"the issuer of {describe_name(certificate.subject)} is missing",
                f"add the certificate of {describe_name(certificate.issuer)}",
            )


def authority_problem(certificate: x509.Certificate) -> str:
    """Why `certificate` may not sign others; "" when it may.

    Stricter than OpenSSL, which lets a certificate without basicConstraints sign when it is of version 1 and
    self-signed, or when its keyUsage allows it.
    """
    try:
        extensions = certificate.extensions
    except (ValueError, x509.DuplicateExtension) as exc:
        return f"its extensions cannot be read: {exc}"
    try:
        if not extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "basicConstraints says CA:FALSE"
    except x509.ExtensionNotFound:
        return "it has no basicConstraints"
    try:
        if not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            return "its keyUsage does not allow signing certificates"
    except x509.ExtensionNotFound:
        pass
    return ""


def describe_name(name: x509.Name) -> str:
    """A distinguished name for messages: RFC 4514, printable, at most 200 characters."""
    text = name.rfc4514_string()[:200]
    return "".join(c if c.isprintable() else "?" for c in text) or "(no name)"
