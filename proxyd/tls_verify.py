"""Whom to believe: the checks on a peer's certificate, and the words for what they found.

Owns what a context trusts, the callback that OpenSSL asks for each certificate of a chain, and the
comparison of host names. Never reads a file. Called by `proxyd.tls_contexts` only.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

from proxyd.tls_engine import Verdict
from proxyd.tls_files import TlsSettingsError, authority_problem, describe_name

# X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS of OpenSSL's x509v3.h: "db*.example.com" is not a pattern.
_NO_PARTIAL_WILDCARDS: Final = 0x4

_CODES: Final = SSL.X509VerificationCodes
_VERIFY_REASONS: Final = {
    _CODES.ERR_CERT_REVOKED: "certificate revoked",
    _CODES.ERR_CERT_HAS_EXPIRED: "certificate has expired",
    _CODES.ERR_CERT_NOT_YET_VALID: "certificate is not yet valid",
    _CODES.ERR_UNABLE_TO_GET_CRL: "no certificate revocation list of its issuer",
    _CODES.ERR_CRL_HAS_EXPIRED: "certificate revocation list has expired",
    _CODES.ERR_CRL_NOT_YET_VALID: "certificate revocation list is not yet valid",
    _CODES.ERR_CRL_SIGNATURE_FAILURE: "certificate revocation list has a wrong signature",
    _CODES.ERR_INVALID_PURPOSE: "certificate is not for this purpose",
    _CODES.ERR_INVALID_CA: "signed by a certificate that is no CA",
    _CODES.ERR_HOSTNAME_MISMATCH: "certificate is for another host name",
    _CODES.ERR_IP_ADDRESS_MISMATCH: "certificate is for another IP address",
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT: "certificate issuer is not trusted",
    _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "certificate issuer is not trusted",
    _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE: "certificate issuer is not trusted",
    _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN: "certificate issuer is not trusted",
    _CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: "self-signed certificate",
    _CODES.ERR_CERT_SIGNATURE_FAILURE: "certificate has a wrong signature",
}


def trust(
    context: SSL.Context,
    authorities: Sequence[x509.Certificate],
    revocation_lists: Sequence[x509.CertificateRevocationList],
) -> None:
    """Trust `authorities` to sign. With revocation lists, each CA of a chain needs a fresh one among them."""
    store = context.get_cert_store()
    if store is None:
        raise TlsSettingsError("", "OpenSSL gave no certificate store", "report this")
    for authority in authorities:
        store.add_cert(crypto.X509.from_cryptography(authority))
    if revocation_lists:
        for revocation_list in revocation_lists:
            store.add_crl(revocation_list)
        # ALL: a revoked intermediate must not go on vouching either.
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)


def verify(connection: SSL.Connection, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict on one certificate of the chain, plus ours on who may sign. Runs inside OpenSSL."""
    verdict: Verdict = connection.get_app_data()
    try:
        theirs = certificate.to_cryptography()
        if not ok:
            verdict.reason = _VERIFY_REASONS.get(code) or _openssl_words(code)
        elif depth and (problem := authority_problem(theirs)):
            verdict.reason = f"signed by a certificate that is no CA: {problem}"
        if verdict.reason:
            verdict.certificate = f"{describe_name(theirs.subject)} (serial {theirs.serial_number:x})"
    except ValueError:
        verdict.reason = verdict.reason or "certificate cannot be read"
    return not verdict.reason


def _openssl_words(code: int) -> str:
    words: bytes = _ffi.string(_lib.X509_verify_cert_error_string(code))
    return f"certificate refused: {words.decode('ascii', 'replace')}"


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def ascii_hostname(host: str) -> bytes:
    try:
        return host.rstrip(".").encode("idna")
    except UnicodeError as exc:
        raise TlsSettingsError("", f"{host!r} is no host name", "check the target's address") from exc


def expect_host(
    connection: SSL.Connection, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None
) -> None:
    """Make OpenSSL itself compare the name, as part of the chain's verification. pyOpenSSL has no call for
    it.

    Exactly: the subject alternative names; the common name counts only when there are none (as in libpq).
    """
    raw: Any = connection
    parameters = _lib.SSL_get0_param(raw._ssl)
    if address is not None:
        done = _lib.X509_VERIFY_PARAM_set1_ip(parameters, address.packed, len(address.packed))
    else:
        name = ascii_hostname(host)
        _lib.X509_VERIFY_PARAM_set_hostflags(parameters, _NO_PARTIAL_WILDCARDS)
        done = _lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
    if done != 1:
        raise TlsSettingsError("", f"{host!r} is no host name", "check the target's address")
