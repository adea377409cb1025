"""Whom a listener lets in, which server a target's client believes, and settings that cannot work."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from proxyd.settings_files import MAX_FILE_BYTES
from proxyd.tls_contexts import ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings
from proxyd.tls_engine import HandshakeError, TlsEngine, TlsError
from proxyd.tls_files import TlsSettingsError
from tests import pki
from tests.proxyd.tls_pairs import World, client_engine, shake_hands


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.in_directory(tmp_path)


def meet(world: World, server: ServerTls, credential: pki.Credential | None) -> TlsEngine:
    """The server's end after the handshake with somebody who shows `credential`. Raises what the server
    raises.
    """
    files = None if credential is None else credential.write(world.directory / "somebody")
    client = client_engine(world.client_as(files))
    end = server.engine()
    shake_hands(client, end)
    # TLS 1.3 lets the client think that it is in before the server has looked at its certificate.
    end.feed_ciphertext(client.encrypt(b"hello"))
    assert end.read_plaintext() == b"hello"
    return end


def refused(world: World, server: ServerTls, credential: pki.Credential | None) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        meet(world, server, credential)
    return caught.value


# --- client certificates ----------------------------------------------------------------------------


def test_a_certificate_of_the_ca_is_let_in(world: World) -> None:
    end = meet(world, ServerTls(world.server), world.root.issue("bob", purpose=pki.CLIENT))
    assert end.peer_certificate is not None
    assert end.peer_certificate.subject.rfc4514_string() == "CN=bob"


def test_a_certificate_of_an_intermediate_is_let_in(world: World) -> None:
    end = meet(world, ServerTls(world.server), world.people.issue("bob", purpose=pki.CLIENT))
    assert len(end.peer_chain) == 3


def test_the_intermediate_may_be_in_the_bundle_instead(world: World) -> None:
    bundle = world.root.write_bundle(world.directory / "both.crt", world.people)
    bob = replace(world.people.issue("bob", purpose=pki.CLIENT), chain=())
    assert refused(world, ServerTls(world.server), bob).reason == "certificate issuer is not trusted"
    meet(world, ServerTls(replace(world.server, client_ca=bundle)), bob)


def test_a_certificate_for_any_purpose_is_let_in(world: World) -> None:
    meet(world, ServerTls(world.server), world.root.issue("bob"))


def test_required_means_required(world: World) -> None:
    assert refused(world, ServerTls(world.server), None).reason == "no client certificate"


def test_optional_lets_nobody_in_without_a_name_and_refuses_a_bad_name(world: World) -> None:
    server = ServerTls(replace(world.server, client_certificates="optional"))
    end = meet(world, server, None)
    assert end.peer_certificate is None
    assert end.peer_chain == ()
    meet(world, server, world.root.issue("bob", purpose=pki.CLIENT))
    assert refused(world, server, world.root.issue_expired("bob")).reason == "certificate has expired"


def test_none_does_not_ask(world: World) -> None:
    settings = replace(world.server, client_certificates="none", client_ca=None)
    end = meet(world, ServerTls(settings), world.root.issue("bob", purpose=pki.CLIENT))
    assert end.peer_certificate is None


def test_expired_and_early_certificates_are_refused(world: World) -> None:
    server = ServerTls(world.server)
    late = refused(world, server, world.root.issue_expired("late"))
    assert late.reason == "certificate has expired"
    assert late.certificate.startswith("CN=late (serial ")
    early = refused(world, server, world.root.issue_for_tomorrow("early"))
    assert early.reason == "certificate is not yet valid"


def test_an_expired_intermediate_is_named(world: World) -> None:
    people = world.root.intermediate("Old people CA")
    certificate = (
        x509.CertificateBuilder()
        .subject_name(people.certificate.subject)
        .issuer_name(world.root.certificate.subject)
        .public_key(people.credential.key.public_key())
        .serial_number(7)
        .not_valid_before(pki.now() - 3 * pki.DAY)
        .not_valid_after(pki.now() - pki.DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(world.root.credential.key, hashes.SHA256())
    )
    bob = replace(people.issue("bob", purpose=pki.CLIENT), chain=(certificate,))
    error = refused(world, ServerTls(world.server), bob)
    assert error.reason == "certificate has expired"
    assert error.certificate == "CN=Old people CA (serial 7)"


def test_a_certificate_of_another_ca_is_refused(world: World) -> None:
    stranger = pki.Authority.root("Test CA").issue("alice", purpose=pki.CLIENT)
    error = refused(world, ServerTls(world.server), stranger)
    assert error.reason in ("certificate issuer is not trusted", "certificate has a wrong signature")


def test_a_self_signed_certificate_is_refused(world: World) -> None:
    root = pki.Authority.root("alice")
    assert refused(world, ServerTls(world.server), root.credential).reason == "self-signed certificate"


def test_a_server_certificate_is_no_client(world: World) -> None:
    error = refused(world, ServerTls(world.server), world.root.issue("gateway", purpose=pki.SERVER))
    assert error.reason == "certificate is not for this purpose"


# --- a user certificate that signs others -----------------------------------------------------------


def signed_by_a_user(world: World, *extensions: x509.ExtensionType, basic: bool = True) -> pki.Credential:
    """mallory's certificate, signed with the key of bob, who is a user and no CA."""
    bob = world.root.issue("bob", extensions=extensions)
    if not basic:
        bob = without_basic_constraints(world, bob, *extensions)
    return pki.Authority(bob, parent=world.people).issue("mallory", purpose=pki.CLIENT)


def without_basic_constraints(
    world: World, credential: pki.Credential, *extensions: x509.ExtensionType
) -> pki.Credential:
    builder = (
        x509.CertificateBuilder()
        .subject_name(credential.certificate.subject)
        .issuer_name(world.root.certificate.subject)
        .public_key(credential.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.now() - pki.DAY)
        .not_valid_after(pki.now() + pki.DAY)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return replace(credential, certificate=builder.sign(world.root.credential.key, hashes.SHA256()))


def may_sign() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.mark.parametrize("with_key_usage", [False, True])
@pytest.mark.parametrize("basic", [False, True])
def test_a_user_certificate_signs_nobody(world: World, with_key_usage: bool, basic: bool) -> None:
    # OpenSSL alone lets keyUsage stand in for basicConstraints that are missing.
    extensions = (may_sign(),) if with_key_usage else ()
    mallory = signed_by_a_user(world, *extensions, basic=basic)
    error = refused(world, ServerTls(world.server), mallory)
    assert "no CA" in error.reason
    assert error.certificate.startswith("CN=bob (serial ")


def test_a_user_certificate_in_the_bundle_is_a_fault(world: World) -> None:
    bundle = world.directory / "wrong.crt"
    bundle.write_bytes(world.bundle.read_bytes() + world.alice.certificate.read_bytes())
    with pytest.raises(TlsSettingsError, match=r"wrong\.crt: CN=alice is no CA certificate"):
        ServerTls(replace(world.server, client_ca=bundle))


def test_an_intermediate_without_its_root_is_a_fault(world: World) -> None:
    bundle = world.people.write_bundle(world.directory / "half.crt")
    with pytest.raises(TlsSettingsError, match="the issuer of CN=Test people CA is missing; add"):
        ServerTls(replace(world.server, client_ca=bundle))


# --- revocation -------------------------------------------------------------------------------------


def test_a_fresh_list_lets_the_others_in(world: World) -> None:
    bob, mallory = (world.people.issue(name, purpose=pki.CLIENT) for name in ("bob", "mallory"))
    world.people.revoke(mallory)
    server = ServerTls(replace(world.server, crl=world.write_crl()))
    meet(world, server, bob)
    error = refused(world, server, mallory)
    assert error.reason == "certificate revoked"
    assert error.certificate.startswith("CN=mallory ")


def test_a_revoked_intermediate_takes_its_people_along(world: World) -> None:
    world.root.revoke(world.people)
    server = ServerTls(replace(world.server, crl=world.write_crl()))
    error = refused(world, server, world.people.issue("bob", purpose=pki.CLIENT))
    assert error.reason == "certificate revoked"
    assert error.certificate.startswith("CN=Test people CA ")


def test_each_ca_of_the_chain_needs_its_list(world: World) -> None:
    bob = world.people.issue("bob", purpose=pki.CLIENT)
    for authority in (world.root, world.people):
        crl = authority.write_crl(world.directory / "one.crl")
        error = refused(world, ServerTls(replace(world.server, crl=crl)), bob)
        assert error.reason == "no certificate revocation list of its issuer"


def test_an_expired_list_lets_nobody_in(world: World) -> None:
    server = ServerTls(replace(world.server, crl=world.write_crl(expired=True)))
    error = refused(world, server, world.people.issue("bob", purpose=pki.CLIENT))
    assert error.reason == "certificate revocation list has expired"


def test_a_list_that_somebody_else_signed_counts_for_nothing(world: World) -> None:
    forger = pki.Authority.root("Test CA")
    crl = forger.write_crl(world.directory / "forged.crl")
    error = refused(world, ServerTls(replace(world.server, crl=crl)), world.root.issue("bob"))
    assert "revocation list" in error.reason


def test_a_list_in_der_form_is_read(world: World) -> None:
    bob = world.root.issue("bob", purpose=pki.CLIENT)
    world.root.revoke(bob)
    path = world.directory / "ca.der"
    path.write_bytes(world.root.crl().public_bytes(serialization.Encoding.DER))
    server = ServerTls(replace(world.server, crl=path))
    assert refused(world, server, bob).reason == "certificate revoked"


def test_a_reload_refuses_who_was_revoked_meanwhile(world: World) -> None:
    bob = world.people.issue("bob", purpose=pki.CLIENT)
    server = ServerTls(replace(world.server, crl=world.write_crl()))
    before = meet(world, server, bob)
    assert server.reload() is False
    world.people.revoke(bob)
    world.write_crl()
    assert server.reload() is True
    assert refused(world, server, bob).reason == "certificate revoked"
    # Who is already in stays in: ending a session is the business of locks, not of handshakes.
    assert before.encrypt(b"still talking")


def test_a_handshake_under_way_ends_under_the_old_files(world: World) -> None:
    server = ServerTls(replace(world.server, crl=world.write_crl()))
    end, client = server.engine(), client_engine(world.client)
    client.handshake()
    end.feed_ciphertext(client.take_outgoing())
    end.handshake()
    world.write_crl()
    assert server.reload() is True
    shake_hands(client, end)
    assert end.is_established


PEM_WITHOUT_A_LIST = b"-----BEGIN X509 CRL-----\nAA\n-----END X509 CRL-----\n"


@pytest.mark.parametrize("content", [b"", b"not a list", PEM_WITHOUT_A_LIST])
def test_a_bad_file_at_reload_changes_nothing(world: World, content: bytes) -> None:
    bob = world.people.issue("bob", purpose=pki.CLIENT)
    crl = world.write_crl()
    server = ServerTls(replace(world.server, crl=crl))
    crl.write_bytes(content)
    with pytest.raises(TlsSettingsError, match=r"ca\.crl: holds no readable certificate revocation list"):
        server.reload()
    meet(world, server, bob)
    crl.unlink()
    with pytest.raises(TlsSettingsError, match="cannot be read"):
        server.reload()
    meet(world, server, bob)


def test_a_reload_takes_a_new_server_certificate(world: World) -> None:
    server = ServerTls(world.server)
    renewed = world.root.issue("gateway", dns=["gateway.test"], purpose=pki.SERVER)
    renewed.write(world.directory)
    assert server.reload() is True
    client, end = client_engine(world.client), server.engine()
    shake_hands(client, end)
    assert client.peer_certificate == renewed.certificate


def test_a_list_without_an_end_is_a_fault(world: World) -> None:
    # `cryptography` does not build one, so an existing list is cut: the second time of the header goes.
    der = world.root.crl().public_bytes(serialization.Encoding.DER)
    path = world.directory / "endless.crl"
    path.write_bytes(_without_next_update(der))
    with pytest.raises(TlsSettingsError, match="has no nextUpdate"):
        ServerTls(replace(world.server, crl=path))


def _without_next_update(der: bytes) -> bytes:
    """Take the second time out of a list's body. That breaks its signature, which nobody looks at here."""
    signed, behind = _contents(_contents(der)[0])
    start = signed.index(b"\x17\x0d", signed.index(b"\x17\x0d") + 15)
    return _sequence(_sequence(signed[:start] + signed[start + 15 :]) + behind)


def _contents(der: bytes) -> tuple[bytes, bytes]:
    """What is in the DER value at the head of `der`, and what follows it."""
    octets = der[1] - 0x80 if der[1] > 0x80 else 0
    length = int.from_bytes(der[2 : 2 + octets]) if octets else der[1]
    start = 2 + octets
    return der[start : start + length], der[start + length :]


def _sequence(contents: bytes) -> bytes:
    size = len(contents)
    length = (
        bytes([size]) if size < 0x80 else bytes([0x81, size])
    )  # all lists here are shorter than 256 bytes
    return b"\x30" + length + contents


def test_what_ends_when_is_told(world: World) -> None:
    server = ServerTls(replace(world.server, crl=world.write_crl()))
    ends = {expiry.what: expiry for expiry in server.expiries}
    assert set(ends) == {
        "server certificate CN=gateway",
        "client CA CN=Test CA",
        "revocation list CN=Test CA",
        "revocation list CN=Test people CA",
    }
    month = datetime.timedelta(days=30)
    expected = (pki.now() + month).timestamp()
    assert ends["revocation list CN=Test CA"].at_s == pytest.approx(expected, abs=3600)


# --- choosing a certificate and a protocol ----------------------------------------------------------


def test_the_certificate_is_chosen_by_name(world: World) -> None:
    files = world.root.issue("shop", dns=["shop.test"], purpose=pki.SERVER).write(world.directory)
    settings = replace(world.server, more_certificates=((files.certificate, files.key),))
    server = ServerTls(settings)
    for host, name in (("gateway.test", "gateway"), ("shop.test", "shop"), ("SHOP.test", "shop")):
        client, end = client_engine(world.client, host), server.engine()
        shake_hands(client, end)
        assert client.peer_certificate is not None
        assert client.peer_certificate.subject.rfc4514_string() == f"CN={name}"
    # Whatever the name, the same people are let in.
    client, end = client_engine(world.client_as(None), "shop.test"), server.engine()
    with pytest.raises(HandshakeError, match="no client certificate"):
        shake_hands(client, end)


def test_the_server_chooses_the_protocol(world: World) -> None:
    server = ServerTls(replace(world.server, alpn=("h2", "http/1.1")))
    client = ClientTls(replace(world.client, alpn=("http/1.1", "h2"))).engine("gateway.test")
    end = server.engine()
    shake_hands(client, end)
    assert client.alpn_protocol == end.alpn_protocol == "h2"


def test_no_protocol_in_common_is_refused(world: World) -> None:
    server = ServerTls(replace(world.server, alpn=("postgresql",)))
    client = ClientTls(replace(world.client, alpn=("h2",))).engine("gateway.test")
    with pytest.raises(HandshakeError, match="no application protocol"):
        shake_hands(client, server.engine())


def test_a_client_without_alpn_is_left_to_the_door(world: World) -> None:
    end = ServerTls(replace(world.server, alpn=("postgresql",))).engine()
    shake_hands(client_engine(world.client), end)
    assert end.alpn_protocol is None


OTHER_HOST = "certificate is for another host name"
OTHER_ADDRESS = "certificate is for another IP address"


# --- the client's role ------------------------------------------------------------------------------


def target(world: World, credential: pki.Credential) -> TlsEngine:
    files = credential.write(world.directory / "target")
    return ServerTls(ServerTlsSettings(files.certificate, files.key, client_certificates="none")).engine()


def connect(world: World, mode: str, credential: pki.Credential, host: str) -> TlsEngine:
    ca = None if mode == "require" else world.bundle
    client = ClientTls(ClientTlsSettings(mode=mode, ca=ca)).engine(host)  # type: ignore[arg-type]
    shake_hands(client, target(world, credential))
    return client


def db(world: World, common_name: str = "db", **names: list[str]) -> pki.Credential:
    return world.root.issue(common_name, purpose=pki.SERVER, **names)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "host"),
    [
        ({"dns": ["db.test"]}, "db.test"),
        ({"dns": ["db.test"]}, "DB.test."),
        ({"dns": ["*.db.test"]}, "a.db.test"),
        ({"ips": ["127.0.0.1"]}, "127.0.0.1"),
        ({"ips": ["::1"]}, "0:0:0:0:0:0:0:1"),
        ({"common_name": "db.test"}, "db.test"),
    ],
)
def test_verify_full_believes_the_right_name(world: World, names: dict[str, list[str]], host: str) -> None:
    connect(world, "verify-full", db(world, **names), host)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "host", "reason"),
    [
        ({"dns": ["other.test"]}, "db.test", OTHER_HOST),
        ({"dns": ["db.test.evil.test"]}, "db.test", OTHER_HOST),
        ({"dns": ["a*.db.test"]}, "ab.db.test", OTHER_HOST),
        ({"dns": ["*.db.test"]}, "a.b.db.test", OTHER_HOST),
        ({"dns": ["*.db.test"]}, "db.test", OTHER_HOST),
        ({"dns": ["other.test"], "common_name": "db.test"}, "db.test", OTHER_HOST),
        ({"dns": ["127.0.0.1"]}, "127.0.0.1", OTHER_ADDRESS),
        ({"ips": ["127.0.0.2"]}, "127.0.0.1", OTHER_ADDRESS),
        ({"common_name": "127.0.0.1"}, "127.0.0.1", OTHER_ADDRESS),
    ],
)
def test_verify_full_refuses_another_name(
    world: World, names: dict[str, list[str]], host: str, reason: str
) -> None:
    with pytest.raises(HandshakeError) as caught:
        connect(world, "verify-full", db(world, **names), host)  # type: ignore[arg-type]
    assert caught.value.reason == reason
    assert caught.value.certificate.startswith("CN=")


def test_verify_ca_takes_any_name_of_the_ca(world: World) -> None:
    connect(world, "verify-ca", db(world), "db.test")
    stranger = pki.Authority.root("Elsewhere CA").issue("db", purpose=pki.SERVER)
    with pytest.raises(HandshakeError, match="issuer is not trusted"):
        connect(world, "verify-ca", stranger, "db.test")


def test_require_takes_anyone(world: World) -> None:
    stranger = pki.Authority.root("Elsewhere CA").issue("db", purpose=pki.SERVER)
    client = connect(world, "require", stranger, "db.test")
    assert client.peer_certificate == stranger.certificate


def test_a_client_certificate_is_no_server(world: World) -> None:
    wrong = world.root.issue("db", dns=["db.test"], purpose=pki.CLIENT)
    with pytest.raises(HandshakeError, match="not for this purpose"):
        connect(world, "verify-full", wrong, "db.test")


def test_a_revoked_target_is_refused(world: World) -> None:
    credential = db(world, dns=["db.test"])
    world.root.revoke(credential)
    client = ClientTls(replace(world.client, crl=world.write_crl())).engine("db.test")
    with pytest.raises(HandshakeError, match="certificate revoked"):
        shake_hands(client, target(world, credential))


def test_a_self_signed_target_is_believed_when_it_is_the_ca(world: World) -> None:
    # As `openssl req -x509` makes it: a CA that is also the server, with no keyUsage.
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "db.test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(pki.now() - pki.DAY)
        .not_valid_after(pki.now() + pki.DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    own = pki.Authority(pki.Credential(builder.sign(key, hashes.SHA256()), key))
    bundle = own.write_bundle(world.directory / "own.crt")
    client = ClientTls(ClientTlsSettings(ca=bundle)).engine("db.test")
    shake_hands(client, target(world, own.credential))


def test_a_refused_client_hears_the_reason_at_its_first_read(world: World) -> None:
    client, end = client_engine(world.client_as(None)), ServerTls(world.server).engine()
    with pytest.raises(HandshakeError, match="no client certificate"):
        shake_hands(client, end)
    client.feed_ciphertext(end.take_outgoing())
    with pytest.raises(TlsError, match="certificate required"):
        client.read_plaintext()


def test_a_host_name_that_is_none_is_told(world: World) -> None:
    with pytest.raises(TlsSettingsError, match="is no host name"):
        client_engine(world.client, "a" * 64 + ".test")


def test_a_client_reloads(world: World) -> None:
    client = ClientTls(world.client)
    assert client.reload() is False
    other = pki.Authority.root("Elsewhere CA")
    other.write_bundle(world.bundle)
    assert client.reload() is True
    assert [expiry.what for expiry in client.expiries][-1] == "target CA CN=Elsewhere CA"
    with pytest.raises(HandshakeError, match="issuer is not trusted"):
        shake_hands(client.engine("db.test"), target(world, db(world, dns=["db.test"])))


def test_the_systems_authorities_do_not_know_us(world: World) -> None:
    client = ClientTls(ClientTlsSettings(ca="system")).engine("db.test")
    with pytest.raises(HandshakeError, match="issuer is not trusted"):
        shake_hands(client, target(world, db(world, dns=["db.test"])))


# --- settings that cannot work ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"client_ca": None}, "no CA is named"),
        ({"client_certificates": "maybe"}, "unknown; say required, optional or none"),
        ({"client_certificates": "none", "crl": Path("x.crl")}, "is never used"),
        ({"certificate": Path("/nowhere/x.crt")}, "cannot be read"),
    ],
)
def test_server_settings_that_cannot_work(world: World, change: dict[str, object], message: str) -> None:
    with pytest.raises(TlsSettingsError, match=message):
        ServerTls(replace(world.server, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ca": None}, "needs to know whom to trust; set ca"),
        ({"mode": "prefer"}, "is unknown"),
        ({"mode": "require"}, "verifies nothing"),
        ({"certificate": None}, "needs its key"),
        ({"ca": "system", "mode": "verify-ca"}, "anyone can get a certificate"),
        ({"ca": "system", "crl": Path("x.crl")}, "does not go with"),
    ],
)
def test_client_settings_that_cannot_work(world: World, change: dict[str, object], message: str) -> None:
    with pytest.raises(TlsSettingsError, match=message):
        ClientTls(replace(world.client, **change))  # type: ignore[arg-type]


def test_a_disabled_client_gives_no_connection() -> None:
    client = ClientTls(ClientTlsSettings(mode="disable"))
    assert not client.is_enabled
    with pytest.raises(TlsSettingsError, match="disabled"):
        client.engine("db.test")


def test_a_key_of_another_certificate_is_told(world: World) -> None:
    with pytest.raises(TlsSettingsError, match="does not go with the key"):
        ServerTls(replace(world.server, key=world.alice.key))


def test_a_key_with_a_passphrase_is_told(world: World) -> None:
    key = world.directory / "locked.key"
    locked = serialization.BestAvailableEncryption(b"secret")
    key.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
        )
    )
    with pytest.raises(TlsSettingsError, match="is encrypted with a passphrase"):
        ServerTls(replace(world.server, key=key))


@pytest.mark.parametrize("field", ["certificate", "key", "client_ca"])
def test_a_file_without_pem_is_told(world: World, field: str) -> None:
    path = world.directory / "empty.pem"
    path.write_bytes(b"\n")
    with pytest.raises(TlsSettingsError, match=r"empty\.pem: holds no readable PEM"):
        ServerTls(replace(world.server, **{field: path}))  # type: ignore[arg-type]


def test_a_huge_file_is_not_read(world: World) -> None:
    path = world.directory / "huge.pem"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(TlsSettingsError, match="is larger than"):
        ServerTls(replace(world.server, client_ca=path))
