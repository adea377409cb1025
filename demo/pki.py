"""The demo's certificate authority: made anew at every start, good for a month, trusted by nobody else.

Owns the keys and certificates below one directory. Keys are readable by their owner only.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=30)


class DemoPki:
    """A CA in `directory`: ca.crt, ca.crl, and NAME.crt with NAME.key for each certificate issued."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("proxyd demo CA")
        self._now = datetime.now(UTC)
        self._write_ca()
        self.revoke()

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def crl(self) -> Path:
        return self.directory / "ca.crl"

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def issue_server(self, name: str = "server") -> None:
        """A server certificate for localhost and the loopback addresses."""
        names = x509.SubjectAlternativeName(
            [
                x509.DNSName("localhost"),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                x509.IPAddress(ipaddress.ip_address("::1")),
            ]
        )
        self._issue(name, _name("localhost"), names, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_client(self, name: str, group: str) -> None:
        """A person's certificate: the common name says who, the organisational unit which group."""
        mail = x509.SubjectAlternativeName([x509.RFC822Name(f"{name}@shop.example")])
        self._issue(name, _name(name, group), mail, ExtendedKeyUsageOID.CLIENT_AUTH)

    def issue_authority(self, name: str, host: str) -> None:
        """An authority of its own, which may sign for `host` and nothing else: the gateway's, for tunnels."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"proxyd demo {name} CA")
        permitted = x509.NameConstraints(permitted_subtrees=[x509.DNSName(host)], excluded_subtrees=None)
        certificate = (
            self._builder(subject, key.public_key(), subject)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_signing(), critical=True)
            .add_extension(permitted, critical=True)
            .sign(key, hashes.SHA256())
        )
        self._write(name, certificate, key)

    def revoke(self, *names: str) -> None:
        """Write the revocation list anew, with exactly the certificates of `names` on it."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self._name)
            .last_update(self._now - timedelta(hours=1))
            .next_update(self._now + LIFETIME)
        )
        for name in names:
            certificate = x509.load_pem_x509_certificate(self.certificate(name).read_bytes())
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(self._now).build())
        crl = builder.sign(self._key, hashes.SHA256())
        self.crl.write_bytes(crl.public_bytes(serialization.Encoding.PEM))

    def _write_ca(self) -> None:
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_signing(), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _issue(
        self,
        name: str,
        subject: x509.Name,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self._write(name, certificate, key)

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate(name).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        path = self.key(name)
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name | None = None
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - timedelta(hours=1))  # clocks differ
            .not_valid_after(self._now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


def _signing() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str, group: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if group is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, group))
    return x509.Name(attributes)
