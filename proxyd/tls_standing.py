"""Whether certificates that were believed when they were shown are still believed, under files that have been read
since.

Owns the question that a reload asks about connections that are open. A handshake asks OpenSSL, with fresh lists; here
a list that has ended still names what it revoked, and its own end takes nobody away: no session ends because a day has
passed without a new list. Pure: reads no file. Built and asked by `proxyd.tls_contexts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cryptography import x509
from OpenSSL import crypto

_REMOVED = x509.ReasonFlags.remove_from_crl


class Standing:
    """`authorities`: who may sign. `lists`: what they have revoked; empty where no lists are asked for."""

    def __init__(
        self,
        authorities: Iterable[x509.Certificate],
        lists: Iterable[x509.CertificateRevocationList],
    ) -> None:
        self._store = crypto.X509Store()
        for authority in authorities:
            self._store.add_cert(crypto.X509.from_cryptography(authority))
        self._revoked: dict[x509.Name, frozenset[int]] = {}
        for each in lists:
            before = self._revoked.get(each.issuer, frozenset())
            self._revoked[each.issuer] = before | frozenset(_serials(each))

    def problem_with(self, chain: Sequence[x509.Certificate]) -> str:
        """Why this chain, the peer's own certificate first, is not believed; "" when it is."""
        if not chain:
            return "no certificate was verified"
        for certificate in chain:
            serials = self._revoked.get(certificate.issuer)
            if serials is not None and certificate.serial_number in serials:
                return (
                    "certificate revoked"
                    if certificate is chain[0]
                    else "its issuer's certificate is revoked"
                )
            if serials is None and self._revoked and certificate.issuer != certificate.subject:
                return "no certificate revocation list of its issuer"
        own, *between = (crypto.X509.from_cryptography(certificate) for certificate in chain)
        try:
            crypto.X509StoreContext(self._store, own, between).verify_certificate()
        except crypto.X509StoreContextError as error:
            return f"not trusted any more ({error})"
        return ""


def _serials(revocations: x509.CertificateRevocationList) -> Iterable[int]:
    for entry in revocations:
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            reason = None
        if reason is not _REMOVED:
            yield entry.serial_number
