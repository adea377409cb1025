"""What the HTTP settings refer to: every fault of a file stands at the line that names it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from policy.located_yaml import DocumentError
from proxyd.references import Material, read_documents
from tests.pki import CLIENT, DAY, SERVER, Authority, now
from tests.proxyd.documents import HTTP_CONFIG, write_http_setup, write_secret

NOW = now().timestamp()

Spoil = Callable[[Path], object]


def faults_of(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        Material.read(path, NOW)
    return [str(fault).removeprefix(f"{path}:") for fault in caught.value.faults]


def warnings_of(path: Path, at: float = NOW) -> list[str]:
    return [str(warning).removeprefix(f"{path}:") for warning in Material.read(path, at).warnings]


def test_a_sound_setup(tmp_path: Path) -> None:
    path = write_http_setup(tmp_path)
    assert warnings_of(path) == []
    _, warnings = read_documents(path)
    assert warnings == ()


def write(name: str, text: str) -> Spoil:
    return lambda directory: (directory / name).write_text(text)


def remove(name: str) -> Spoil:
    return lambda directory: (directory / name).unlink()


def open_to_all(name: str) -> Spoil:
    return lambda directory: (directory / name).chmod(0o644)


def another_key(name: str) -> Spoil:
    def spoil(directory: Path) -> None:
        (directory / name).write_bytes(Authority.root("Other").credential.key_pem())
        (directory / name).chmod(0o600)

    return spoil


def no_authority(directory: Path) -> None:
    Authority.root().issue("leaf", purpose=SERVER).write(directory / "pki", "inspect")


FAULTS = [
    (remove("pki/web.crt"), "listeners[1].tls.certificate", "cannot be read"),
    (another_key("pki/web.key"), "listeners[1].tls.certificate", "does not go with the key"),
    (write("pki/ca.crt", "nothing"), "listeners[1].tls.client_ca", "holds no readable PEM certificate"),
    (remove("pki/inspect.crt"), "listeners[1].proxy.certificate_authority.certificate", "cannot be read"),
    (remove("pki/inspect.key"), "listeners[1].proxy.certificate_authority.key.file", "cannot be opened"),
    (open_to_all("pki/inspect.key"), "listeners[1].proxy.certificate_authority.key.file", "chmod 600"),
    (
        another_key("pki/inspect.key"),
        "listeners[1].proxy.certificate_authority.certificate",
        "does not go with",
    ),
    (
        write("pki/inspect.key", "nothing"),
        "listeners[1].proxy.certificate_authority.key.file",
        "no readable PEM",
    ),
    (no_authority, "listeners[1].proxy.certificate_authority.certificate", "may not sign for servers"),
    (remove("pki/client.crt"), "targets[1].logins[3].certificate.certificate", "cannot be read"),
    (
        another_key("pki/client.key"),
        "targets[1].logins[3].certificate.certificate",
        "does not go with the key",
    ),
]


@pytest.mark.parametrize(("spoil", "place", "words"), FAULTS)
def test_a_file_that_is_no_good(tmp_path: Path, spoil: Spoil, place: str, words: str) -> None:
    path = write_http_setup(tmp_path)
    spoil(tmp_path)
    found = [fault for fault in faults_of(path) if place in fault]
    assert len(found) == 1, faults_of(path)
    assert words in found[0], found


SECRETS = [
    ("bearer: {file: secrets/reader}", "bearer: {file: secrets/http}", "targets[1].logins[0].bearer.file"),
    (
        "password: {file: secrets/reader}}}",
        "password: {file: secrets/http}}}",
        "targets[1].logins[1].basic.password",
    ),
    (
        "value: {file: secrets/reader}",
        "value: {file: secrets/http}",
        "targets[1].logins[2].header.value.file",
    ),
    (
        "client_secret: {file: secrets/reader}",
        "client_secret: {file: secrets/http}",
        "logins[4].oauth2.client_secret",
    ),
    (
        "secret_key: {file: secrets/reader}",
        "secret_key: {file: secrets/http}",
        "logins[5].sigv4.secret_key.file",
    ),
    (
        "secret_key: {",
        "session_token: {file: secrets/http}, secret_key: {",
        "logins[5].sigv4.session_token.file",
    ),
    (
        "access_key: AKID, secret_key: {file: secrets/reader}",
        "credentials: {file: secrets/http}",
        "logins[5].sigv4.credentials.file",
    ),
    ("ca: pki/ca.crt}\n      - {name: aws", "ca: secrets/http}\n      - {name: aws", "logins[4].oauth2.ca"),
]


@pytest.mark.parametrize(("old", "new", "place"), SECRETS)
def test_a_secret_that_is_not_there(tmp_path: Path, old: str, new: str, place: str) -> None:
    assert old in HTTP_CONFIG
    path = write_http_setup(tmp_path, config=HTTP_CONFIG.replace(old, new, 1))
    faults = faults_of(path)
    assert len(faults) == 1, faults
    assert place in faults[0]
    assert "(No such file or directory)" in faults[0]


def test_a_secret_that_no_field_can_carry(tmp_path: Path) -> None:
    path = write_http_setup(tmp_path)
    write_secret(tmp_path / "secrets/reader", "hunter2\nhunter3")
    faults = faults_of(path)
    assert [fault.split(":")[2] for fault in faults] == [
        " targets[1].logins[0].bearer.file",
        " targets[1].logins[2].header.value.file",
    ]
    assert not any("hunter" in fault for fault in faults)


def constrained(directory: Path) -> None:
    """An authority that may sign below example.com alone."""
    permitted = [x509.DNSName("example.com")]
    constraints = x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)
    root = Authority.root("Root")
    made = root.credential
    builder = (
        x509.CertificateBuilder()
        .subject_name(made.certificate.subject)
        .issuer_name(made.certificate.subject)
        .public_key(made.key.public_key())
        .serial_number(1)
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + 300 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(constraints, critical=True)
    )
    (directory / "pki/inspect.crt").write_bytes(
        builder.sign(made.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    )
    (directory / "pki/inspect.key").write_bytes(made.key_pem())


def expiring(name: str, after: datetime.timedelta) -> Spoil:
    """A certificate of the same kind that ends `after` now."""

    def spoil(directory: Path) -> None:
        if name == "inspect":
            Authority.root("CA", not_after=now() + after).credential.write(directory / "pki", name)
            return
        names = ["gateway.example", "*.gateway.example", "bastion.example"] if name == "web" else []
        purpose = SERVER if name == "web" else CLIENT
        issued = Authority.root().issue(name, dns=names, purpose=purpose, not_after=now() + after)
        issued.write(directory / "pki", name)

    return spoil


def other_names(directory: Path) -> None:
    Authority.root().issue("web", dns=["gateway.example"], purpose=SERVER).write(directory / "pki", "web")


def changed(old: str, new: str) -> Spoil:
    def spoil(directory: Path) -> None:
        path = directory / "proxyd.yaml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return spoil


WITHOUT_NAMES = changed("    domain: gateway.example\n    hosts: [bastion.example]\n", "")
SAME_ADDRESS = changed(
    "masking:\n",
    """\
  - name: twin
    protocol: http
    url: https://api.internal:8443/other
    tls: {ca: pki/ca.crt}
    logins: [{name: default, none: true}]
masking:
""",
)


def twins(directory: Path) -> None:
    SAME_ADDRESS(directory)
    changed('    hosts: [api.internal, "api.example.com"]\n', "")(directory)


WARNINGS = [
    (expiring("web", 3 * DAY), "listeners[1].tls.certificate", "expires in 3.0 days"),
    (
        expiring("inspect", 3 * DAY),
        "proxy.certificate_authority.certificate",
        "inspection CA CN=CA expires in 3.0",
    ),
    (expiring("client", 3 * DAY), "targets[1].logins[3].certificate.certificate", "expires in 3.0 days"),
    (expiring("inspect", -DAY / 2), "proxy.certificate_authority.certificate", "has expired"),
    (other_names, "listeners[1].tls.certificate", "is not for `bastion.example`, `api.gateway.example`"),
    (constrained, "certificate_authority.certificate", "it has no keyUsage"),
    (constrained, "certificate_authority.certificate", "no tunnel to `api.internal` can be inspected"),
    (WITHOUT_NAMES, "listeners[1]", "as https://ADDRESS/t/TARGET/"),
    (
        changed("tls: {ca: pki/ca.crt}\n    log", "tls: {mode: require}\n    log"),
        "targets[1].tls.mode",
        "verifies",
    ),
    (twins, "targets[1].url", "`twin` is at the same address"),
]


@pytest.mark.parametrize(("spoil", "place", "words"), WARNINGS)
def test_what_is_worth_a_look(tmp_path: Path, spoil: Spoil, place: str, words: str) -> None:
    path = write_http_setup(tmp_path)
    spoil(tmp_path)
    found = [warning for warning in warnings_of(path) if words in warning]
    assert len(found) == 1, warnings_of(path)
    assert place in found[0]


def test_credentials_in_clear(tmp_path: Path) -> None:
    path = write_http_setup(tmp_path)
    changed("https://api.internal:8443/base", "http://api.internal:8080")(tmp_path)
    changed("    tls: {ca: pki/ca.crt}\n", "")(tmp_path)
    changed("      - {name: mutual, certificate: {certificate: pki/client.crt, key: pki/client.key}}\n", "")(
        tmp_path
    )
    (warning,) = warnings_of(path)
    assert "targets[1].url" in warning
    assert "credentials travel in clear" in warning


def test_which_host_a_wildcard_is_for(tmp_path: Path) -> None:
    """An asterisk is one label: a target with a dot in its name needs a name of its own in the certificate."""
    path = write_http_setup(tmp_path)
    changed("name: api\n", "name: Api.v2\n")(tmp_path)
    (warning,) = warnings_of(path)
    assert "is not for `api.v2.gateway.example`" in warning


def test_a_target_that_several_list(tmp_path: Path) -> None:
    """Listed by one of the two it means that one, so nothing is said."""
    path = write_http_setup(tmp_path)
    SAME_ADDRESS(tmp_path)
    assert warnings_of(path) == []


def test_a_listener_in_clear_has_no_certificate_to_look_at(tmp_path: Path) -> None:
    path = write_http_setup(tmp_path)
    changed("    tls: {certificate: pki/web.crt, key: pki/web.key, client_ca: pki/ca.crt}\n", "")(tmp_path)
    changed("    domain: gateway.example\n", "    domain: gateway.example\n    factors: [[token]]\n")(
        tmp_path
    )
    issuer = '{name: company, issuer: "https://login.example", audiences: [proxyd], ca: system}'
    changed("identity:\n", f"identity:\n  issuers: [{issuer}]\n")(tmp_path)
    for name in ("pki/web.crt", "pki/web.key"):
        (tmp_path / name).unlink()
    assert warnings_of(path) == []
