"""Certificates for the hosts behind a tunnel, looked at by OpenSSL's own verifier and by Python's clients."""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxyd import inspection
from proxyd.config import CertificateAuthority, SecretSource
from proxyd.inspection import InspectionAuthority, InspectionRefused
from proxyd.inspection_names import forbidden_by
from proxyd.settings_files import SettingsError
from tests.pki import CLIENT, DAY, SERVER, Authority, now

ALPN = ("h2", "http/1.1")
DNS = x509.DNSName
NETWORK_4 = x509.IPAddress(ipaddress.ip_network("10.0.0.0/8"))
NETWORK_6 = x509.IPAddress(ipaddress.ip_network("2001:db8::/32"))

SIGNS_CERTIFICATES = x509.KeyUsage(
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

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


class Clock:
    def __init__(self) -> None:
        self.now = now().timestamp()

    def __call__(self) -> float:
        return self.now


def certificate_of(
    key: Key,
    *extensions: tuple[x509.ExtensionType, bool],
    days: float = 300,
    issuer: tuple[x509.Certificate, Key] | None = None,
    name: str = "Inspection CA",
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
    )
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, is_critical)
    signer = key if issuer is None else issuer[1]
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def identified(key: Key) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False


def write(directory: Path, key: Key, *chain: x509.Certificate) -> CertificateAuthority:
    encoding = serialization.Encoding.PEM
    form, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "ca.crt").write_bytes(b"".join(one.public_bytes(encoding) for one in chain))
    (directory / "ca.key").write_bytes(key.private_bytes(encoding, form, nothing))
    (directory / "ca.key").chmod(0o600)
    (directory / "root.crt").write_bytes(chain[-1].public_bytes(encoding))
    return CertificateAuthority(
        certificate=directory / "ca.crt",
        key=SecretSource(file=directory / "ca.key", environment=None, credential=None),
    )


def simple(directory: Path, clock: Clock | None = None, *, days: float = 300) -> InspectionAuthority:
    key = ec.generate_private_key(ec.SECP256R1())
    return InspectionAuthority(
        write(directory, key, certificate_of(key, identified(key), days=days)), ALPN, clock or Clock()
    )


def shake(
    authority: InspectionAuthority, host: str, root: Path, alpn: list[str] | None = None
) -> tuple[x509.Certificate, str | None]:
    """What a Python client that trusts `root` alone gets: the leaf, and the protocol that was agreed upon."""
    context = ssl.create_default_context(cafile=str(root))
    if alpn is not None:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=host)
    server = authority.engine(host)
    for _ in range(10):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        else:
            server.feed_ciphertext(outgoing.read())
            server.handshake()
            leaf = client.getpeercert(binary_form=True)
            assert leaf is not None
            return x509.load_der_x509_certificate(leaf), client.selected_alpn_protocol()
        server.feed_ciphertext(outgoing.read())
        server.handshake()
        incoming.write(server.take_outgoing())
    raise RuntimeError("the handshake does not end")


KEYS = {
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("host", ["api.example.com", "127.0.0.1", "2001:db8::1", "a" * 60 + ".example.com"])
def test_a_client_believes_it(tmp_path: Path, kind: str, host: str) -> None:
    key: Key = KEYS[kind]()  # type: ignore[no-untyped-call]
    authority = InspectionAuthority(write(tmp_path, key, certificate_of(key, identified(key))), ALPN)
    leaf, protocol = shake(authority, host, tmp_path / "root.crt", ["http/1.1", "h2"])
    assert protocol == "h2"
    (tmp_path / "leaf.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    option = "-verify_ip" if ":" in host or host[0].isdigit() else "-verify_hostname"
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", option, host]
    told = subprocess.run(
        [*command, "-CAfile", str(tmp_path / "root.crt"), str(tmp_path / "leaf.crt")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [(["http/1.1"], "http/1.1"), (["h2"], "h2"), (None, None), (["x", "http/1.1"], "http/1.1")],
)
def test_the_protocol(tmp_path: Path, offered: list[str] | None, agreed: str | None) -> None:
    assert shake(simple(tmp_path), "a.example", tmp_path / "root.crt", offered)[1] == agreed


def test_what_is_in_a_certificate(tmp_path: Path) -> None:
    clock = Clock()
    authority = simple(tmp_path, clock)
    leaf, _ = shake(authority, "api.example.com", tmp_path / "root.crt")
    other, _ = shake(authority, "b.example.com", tmp_path / "root.crt")
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("api.example.com")]
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    assert leaf.not_valid_after_utc.timestamp() <= clock.now + inspection.LEAF_LIFETIME_S
    assert leaf.not_valid_before_utc.timestamp() <= clock.now
    assert leaf.serial_number != other.serial_number
    assert leaf.public_key() == other.public_key()


def test_it_ends_with_its_authority(tmp_path: Path) -> None:
    clock = Clock()
    authority = simple(tmp_path, clock, days=0.5)
    leaf, _ = shake(authority, "a.example", tmp_path / "root.crt")
    assert leaf.not_valid_after_utc == authority.chain[0].not_valid_after_utc
    clock.now += DAY.total_seconds()
    with pytest.raises(InspectionRefused, match="has ended"):
        authority.engine("a.example")
    assert [expiry.at_s for expiry in authority.expiries] == [leaf.not_valid_after_utc.timestamp()]


def test_an_intermediate_shows_what_is_above_it(tmp_path: Path) -> None:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate_of(root_key, identified(root_key), name="Root")
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    below = certificate_of(key, identified(key), (issuer, False), issuer=(root, root_key))
    authority = InspectionAuthority(write(tmp_path, key, below, root), ALPN)
    leaf, _ = shake(authority, "a.example", tmp_path / "root.crt")
    assert leaf.issuer == below.subject


def test_certificates_are_kept_and_made_anew_in_time(tmp_path: Path) -> None:
    clock = Clock()
    clock.now -= inspection.LEAF_LIFETIME_S - 1800
    authority = simple(tmp_path, clock)
    first = shake(authority, "a.example", tmp_path / "root.crt")[0]
    clock.now += inspection.LEAF_LIFETIME_S - inspection.RENEWED_BEFORE_S - 60
    assert shake(authority, "a.example", tmp_path / "root.crt")[0] == first
    clock.now += 120
    again = shake(authority, "a.example", tmp_path / "root.crt")[0]
    assert again.not_valid_after_utc > first.not_valid_after_utc


def test_only_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MAX_CONTEXTS", 2)
    authority = simple(tmp_path)
    root = tmp_path / "root.crt"
    first, second = (shake(authority, host, root)[0] for host in ("a.example", "b.example"))
    assert shake(authority, "a.example", root)[0] == first
    shake(authority, "c.example", root)  # b was used least
    assert shake(authority, "a.example", root)[0] == first
    assert shake(authority, "b.example", root)[0] != second


def test_a_reload(tmp_path: Path) -> None:
    authority = simple(tmp_path)
    shake(authority, "a.example", tmp_path / "root.crt")
    assert not authority.reload()
    simple(tmp_path)
    assert authority.reload()
    shake(authority, "a.example", tmp_path / "root.crt")
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(SettingsError):
        authority.reload()
    shake(authority, "a.example", tmp_path / "root.crt")


CONSTRAINTS = [
    ([DNS("example.com")], None, "example.com", True),
    ([DNS("example.com")], None, "a.b.example.com", True),
    ([DNS("example.com")], None, "badexample.com", False),
    ([DNS("example.com")], None, "example.org", False),
    ([DNS("Example.COM")], None, "a.example.com", True),
    ([DNS(".example.com")], None, "a.example.com", True),
    ([DNS(".example.com")], None, "example.com", False),
    ([DNS("a.example"), DNS("b.example")], None, "x.b.example", True),
    ([DNS("example.com")], None, "10.0.0.1", True),  # constraints of one kind say nothing of the other
    ([NETWORK_4], None, "10.1.2.3", True),
    ([NETWORK_4], None, "11.1.2.3", False),
    ([NETWORK_4], None, "a.example", True),
    ([NETWORK_6], None, "2001:db8::1", True),
    ([NETWORK_6, NETWORK_4], None, "2001:db9::1", False),
    ([NETWORK_4], None, "2001:db8::1", False),
    (None, [DNS("secret.example")], "a.example", True),
    (None, [DNS("secret.example")], "a.secret.example", False),
    ([DNS("example")], [DNS("secret.example")], "secret.example", False),
    (None, [NETWORK_4], "10.0.0.1", False),
    (None, [NETWORK_4], "2001:db8::1", True),
]


@pytest.mark.parametrize(("permitted", "excluded", "host", "is_allowed"), CONSTRAINTS)
def test_name_constraints(
    tmp_path: Path,
    permitted: list[x509.GeneralName] | None,
    excluded: list[x509.GeneralName] | None,
    host: str,
    is_allowed: bool,
) -> None:
    """As OpenSSL reads them, which the client uses."""
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.NameConstraints(permitted, excluded)
    made = certificate_of(key, identified(key), (constraints, True))
    assert (forbidden_by((made,), host) == "") is is_allowed
    authority = InspectionAuthority(write(tmp_path, key, made), ALPN)
    if is_allowed:
        shake(authority, host, tmp_path / "root.crt")
        return
    with pytest.raises(InspectionRefused, match="CN=Inspection CA may "):
        authority.engine(host)


@pytest.mark.parametrize(("permitted", "excluded", "host", "is_allowed"), CONSTRAINTS)
def test_openssl_agrees_about_name_constraints(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    permitted: list[x509.GeneralName] | None,
    excluded: list[x509.GeneralName] | None,
    host: str,
    is_allowed: bool,
) -> None:
    """What is refused here a client would refuse too: sign it all the same, and see."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = certificate_of(key, identified(key), (x509.NameConstraints(permitted, excluded), True))
    authority = InspectionAuthority(write(tmp_path, key, made), ALPN)
    monkeypatch.setattr(inspection, "forbidden_by", lambda chain, host: "")
    if is_allowed:
        shake(authority, host, tmp_path / "root.crt")
        return
    with pytest.raises(ssl.SSLCertVerificationError, match="subtree violation"):
        shake(authority, host, tmp_path / "root.crt")


def test_an_authority_for_clients_alone(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    settings = write(tmp_path, key, certificate_of(key, (x509.ExtendedKeyUsage([CLIENT]), False)))
    with pytest.raises(SettingsError, match="extendedKeyUsage does not allow servers"):
        InspectionAuthority(settings, ALPN)


def test_a_leaf_is_no_authority(tmp_path: Path) -> None:
    leaf = Authority.root().issue("leaf", purpose=SERVER)
    with pytest.raises(SettingsError, match="basicConstraints says CA:FALSE"):
        InspectionAuthority(write(tmp_path, leaf.key, leaf.certificate), ALPN)


def test_a_chain_in_the_wrong_order(tmp_path: Path) -> None:
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = certificate_of(root_key, name="Root")
    below = certificate_of(key, issuer=(root, root_key))
    with pytest.raises(SettingsError, match="put the signing certificate first"):
        InspectionAuthority(write(tmp_path, root_key, root, below), ALPN)


def test_another_key(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    settings = write(tmp_path, ec.generate_private_key(ec.SECP256R1()), certificate_of(key))
    with pytest.raises(SettingsError, match="does not go with the key"):
        InspectionAuthority(settings, ALPN)


def test_a_key_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    settings = write(tmp_path, key, certificate_of(key, identified(key)))
    source = SecretSource(file=None, environment="INSPECTION_KEY", credential=None)
    settings = settings.model_copy(update={"key": source})
    with pytest.raises(SettingsError, match="environment variable INSPECTION_KEY is not set"):
        InspectionAuthority(settings, ALPN)
    monkeypatch.setenv("INSPECTION_KEY", "nothing")
    with pytest.raises(SettingsError, match=r"^the inspection key holds no readable PEM private key"):
        InspectionAuthority(settings, ALPN)
    monkeypatch.setenv("INSPECTION_KEY", (tmp_path / "ca.key").read_text())
    authority = InspectionAuthority(settings, ALPN)
    shake(authority, "a.example", tmp_path / "root.crt")
    assert "PRIVATE" not in repr(authority._authority)


def test_the_authority_that_the_reference_makes(tmp_path: Path) -> None:
    """docs/config.md gives a command: what it makes works, for the names that it permits."""
    reference = (Path(__file__).resolve().parents[2] / "docs/config.md").read_text()
    (command,) = re.findall(r"^    (openssl req (?:.*\\\n)*.*)$", reference, re.MULTILINE)
    for name in ("pki", "secrets"):
        (tmp_path / name).mkdir()
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    source = SecretSource(file=tmp_path / "secrets/inspect-ca.key", environment=None, credential=None)
    certificate = tmp_path / "pki/inspect-ca.crt"
    authority = InspectionAuthority(CertificateAuthority(certificate=certificate, key=source), ALPN)
    shake(authority, "orders.example.com", certificate)
    with pytest.raises(InspectionRefused):
        authority.engine("elsewhere.example.com")
