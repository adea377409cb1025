"""A small certificate authority for tests and the demo: pure `cryptography`, PEM files out.

    ca = Authority.root("Test CA")
    server = ca.issue("gateway", dns=["localhost"], ips=["127.0.0.1"], purpose=SERVER)
    alice = ca.issue("alice", uris=["spiffe://example.org/alice"], organization=["data"], purpose=CLIENT)
    files = alice.write(tmp_path)            # files.certificate, files.key
    ca.write_bundle(tmp_path / "ca.crt")
    ca.revoke(alice)
    ca.write_crl(tmp_path / "ca.crl")

Everything is valid from a day ago for a year unless told otherwise. Keys are NIST P-256.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH

DAY = datetime.timedelta(days=1)
YEAR = datetime.timedelta(days=365)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Files:
    """Where a credential lies."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Credential:
    """A certificate, its key and the intermediates between it and its root (nearest first)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def certificate_pem(self) -> bytes:
        """The certificate with its chain behind it, as a server's or client's certificate file."""
        return b"".join(_pem(certificate) for certificate in (self.certificate, *self.chain))

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, directory: Path, name: str | None = None) -> Files:
        """Write NAME.crt and NAME.key (mode 0600) into `directory`. NAME is the common name unless given."""
        stem = name or _common_name(self.certificate)
        directory.mkdir(parents=True, exist_ok=True)
        files = Files(directory / f"{stem}.crt", directory / f"{stem}.key")
        files.certificate.write_bytes(self.certificate_pem())
        files.key.unlink(missing_ok=True)
        with os.fdopen(os.open(files.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(self.key_pem())
        return files


@dataclass
class Authority:
    """A CA: issues, revokes, and says whom it has revoked."""

    credential: Credential
    parent: Authority | None = None
    revoked: dict[int, datetime.datetime] = field(default_factory=dict)

    @classmethod
    def root(cls, name: str = "Test CA", *, not_after: datetime.datetime | None = None) -> Authority:
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key, now() - DAY, not_after or now() + YEAR)
        return cls(Credential(_as_authority(builder, key, key).sign(key, hashes.SHA256()), key))

    @property
    def certificate(self) -> x509.Certificate:
        return self.credential.certificate

    def intermediate(self, name: str = "Test intermediate CA") -> Authority:
        """A CA below this one."""
        key = _new_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.certificate.subject, key, now() - DAY, now() + YEAR)
        certificate = _as_authority(builder, key, self.credential.key).sign(
            self.credential.key, hashes.SHA256()
        )
        return Authority(Credential(certificate, key, self._chain()), parent=self)

    def issue(
        self,
        common_name: str | None,
        *,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        uris: Sequence[str] = (),
        emails: Sequence[str] = (),
        organization: Sequence[str] = (),
        unit: Sequence[str] = (),
        purpose: x509.ObjectIdentifier | None = None,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        subject: x509.Name | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> Credential:
        """A certificate for somebody who is no CA. `subject` replaces the name made of CN, O and OU;
        `purpose` is the extended key usage (none: any); `extensions` are added as they are, not critical.
        """
        key = _new_key()
        builder = _builder(
            subject if subject is not None else _subject(common_name, organization, unit),
            self.certificate.subject,
            key,
            not_before or now() - DAY,
            not_after or now() + YEAR,
        )
        names: list[x509.GeneralName] = [
            *(x509.DNSName(name) for name in dns),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips),
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.RFC822Name(email) for email in emails),
        ]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if purpose is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = _identified(builder, key, self.credential.key)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return Credential(builder.sign(self.credential.key, hashes.SHA256()), key, self._chain())

    def issue_expired(self, common_name: str, *, purpose: x509.ObjectIdentifier = CLIENT) -> Credential:
        return self.issue(common_name, purpose=purpose, not_before=now() - 2 * DAY, not_after=now() - DAY)

    def issue_for_tomorrow(self, common_name: str, *, purpose: x509.ObjectIdentifier = CLIENT) -> Credential:
        return self.issue(common_name, purpose=purpose, not_before=now() + DAY)

    def revoke(self, credential: Credential | Authority) -> None:
        """Put it on the list; the next `crl` has it."""
        self.revoked[credential.certificate.serial_number] = now() - datetime.timedelta(hours=1)

    def crl(
        self, *, last_update: datetime.datetime | None = None, next_update: datetime.datetime | None = None
    ) -> x509.CertificateRevocationList:
        """The list of what was revoked, valid from an hour ago for 30 days unless told otherwise."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(last_update or now() - datetime.timedelta(hours=1))
            .next_update(next_update or now() + 30 * DAY)
            .add_extension(_key_id_of_issuer(self.credential.key), critical=False)
        )
        for serial, when in self.revoked.items():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.credential.key, hashes.SHA256())

    def crl_expired(self) -> x509.CertificateRevocationList:
        return self.crl(last_update=now() - 3 * DAY, next_update=now() - DAY)

    def write_crl(self, path: Path, *others: Authority, expired: bool = False) -> Path:
        """Write this CA's list, and those of `others`, into one PEM file."""
        lists = [ca.crl_expired() if expired else ca.crl() for ca in (self, *others)]
        path.write_bytes(b"".join(crl.public_bytes(serialization.Encoding.PEM) for crl in lists))
        return path

    def write_bundle(self, path: Path, *others: Authority) -> Path:
        """Write this CA's certificate, and those of `others`, into one PEM file."""
        path.write_bytes(b"".join(_pem(ca.certificate) for ca in (self, *others)))
        return path

    def _chain(self) -> tuple[x509.Certificate, ...]:
        """The intermediates that whoever is issued by this CA has to show; a root need not be shown."""
        return () if self.parent is None else (self.certificate, *self.credential.chain)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _common_name(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _subject(common_name: str | None, organization: Sequence[str], unit: Sequence[str]) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organization),
            *(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, value) for value in unit),
            *([] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    not_before: datetime.datetime,
    not_after: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _as_authority(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return _identified(builder.add_extension(usage, critical=True), key, issuer_key)


def _identified(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(own_id, critical=False).add_extension(
        _key_id_of_issuer(issuer_key), critical=False
    )


def _key_id_of_issuer(issuer_key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
