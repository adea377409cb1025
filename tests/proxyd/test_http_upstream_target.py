"""How HTTP targets are found and reached: by names, by addresses, with the certificate of each login."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from protocols.http.messages import RequestHead
from proxyd.gateway import Gateway, HttpTargetRuntime
from proxyd.references import Material
from proxyd.telemetry import Telemetry
from proxyd.tls_contexts import ServerTls, ServerTlsSettings
from proxyd.tls_engine import TlsError
from tests.pki import CLIENT, SERVER, Authority, now
from tests.proxyd.documents import HTTP_CONFIG, write_http_setup, write_secret
from tests.proxyd.tls_pairs import shake_hands

NOW = now().timestamp()
REQUEST = RequestHead("GET", "/", "https", "api.internal:8443", ())

TWINS = """\
  - name: first
    protocol: http
    url: http://127.0.0.1:9000
    hosts: [first.example]
    protocols: [h2]
    logins: [{name: default, none: true}]
  - name: second
    protocol: http
    url: http://127.0.0.1:9000/v2
    hosts: ["second.example:9000"]
    logins: [{name: default, none: true}]
masking:
"""


def build(directory: Path, config: str = HTTP_CONFIG) -> Gateway:
    material = Material.read(write_http_setup(directory, config=config), NOW)
    return Gateway.from_config(material.config, material.policy, telemetry=Telemetry(stream=io.StringIO()))


def target_of(gateway: Gateway, name: str = "api") -> HttpTargetRuntime:
    target = gateway.http_target(name)
    assert target is not None
    return target


def test_targets_of_another_protocol_are_none(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    assert gateway.http_target("shop") is None
    assert gateway.http_target("nobody") is None
    assert gateway.postgres_target("api") is None
    target = target_of(gateway)
    assert (target.facts.name, target.facts.protocol, target.facts.labels) == ("api", "http", {"env": "prod"})


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("api.example.com", None, "api"),
        ("api.example.com", 443, "api"),
        ("api.example.com", 22, None),
        ("api.internal", 8443, "api"),
        ("api.internal", None, "api"),
        ("first.example", None, "first"),
        ("second.example", None, None),  # listed with a port: for CONNECT alone
        ("second.example", 9000, "second"),
        ("second.example", 443, None),
        ("127.0.0.1", 9000, None),  # where two are
        ("127.0.0.1", None, None),
        ("127.0.0.1", 5432, None),  # a target of another protocol
        ("elsewhere.example", 443, None),
    ],
)
def test_who_is_meant_by_a_host(tmp_path: Path, host: str, port: int | None, name: str | None) -> None:
    gateway = build(tmp_path, HTTP_CONFIG.replace("masking:\n", TWINS))
    found = gateway.http_target_of(host, port)
    assert (None if found is None else found.facts.name) == name


def test_the_way_there(tmp_path: Path) -> None:
    account = target_of(build(tmp_path)).accounts["readonly"]
    upstream = account.upstream
    assert (upstream.name, upstream.login, upstream.server_name) == ("api", "readonly", "api.internal")
    assert (str(upstream.address), upstream.authority) == ("api.internal:8443", "api.internal:8443")
    assert (upstream.scheme, upstream.base_path, upstream.connect_timeout_s) == ("https", "/base", 5.0)
    injected = account.injector.ready(REQUEST)
    assert injected is not None
    assert injected.headers == (("authorization", "Bearer hunter2"),)


def test_in_clear(tmp_path: Path) -> None:
    upstream = (
        target_of(build(tmp_path, HTTP_CONFIG.replace("masking:\n", TWINS)), "first")
        .accounts["default"]
        .upstream
    )
    assert upstream.engine() is None
    assert upstream.version_after(None) == "h2"
    assert not upstream.reload()
    assert upstream.expiries == ()


@pytest.mark.parametrize(
    ("protocols", "alpn", "spoken"),
    [
        ("[http/1.1]", None, "http/1.1"),
        ("[http/1.1]", "http/1.1", "http/1.1"),
        ("[http/1.1]", "h2", None),
        ("[h2]", "h2", "h2"),
        ("[h2]", None, None),
        ("[h2, http/1.1]", None, "http/1.1"),
        ("[h2, http/1.1]", "h2", "h2"),
        ("[h2, http/1.1]", "spdy", None),
    ],
)
def test_what_is_spoken(tmp_path: Path, protocols: str, alpn: str | None, spoken: str | None) -> None:
    text = HTTP_CONFIG.replace(
        "    tls: {ca: pki/ca.crt}\n", f"    tls: {{ca: pki/ca.crt}}\n    protocols: {protocols}\n"
    )
    upstream = target_of(build(tmp_path, text)).accounts["readonly"].upstream
    assert upstream.version_after(alpn) == spoken


def server_for(directory: Path, authority: Authority, name: str, alpn: tuple[str, ...]) -> ServerTls:
    files = authority.issue(name, dns=[name], purpose=SERVER).write(directory / "server")
    ca = authority.write_bundle(directory / "server" / "ca.crt")
    settings = ServerTlsSettings(
        files.certificate, files.key, client_ca=ca, client_certificates="optional", alpn=alpn
    )
    return ServerTls(settings)


def test_each_login_has_its_own_certificate(tmp_path: Path) -> None:
    authority = Authority.root("Another CA")
    gateway = build(tmp_path)
    target = target_of(gateway)
    authority.write_bundle(tmp_path / "pki/ca.crt")
    authority.issue("gate", purpose=CLIENT).write(tmp_path / "pki", "client")
    for account in target.accounts.values():
        assert account.upstream.reload()
        assert not account.upstream.reload()
    server = server_for(tmp_path, authority, "api.internal", ("http/1.1", "h2"))
    for login, shown in (("mutual", True), ("readonly", False)):
        client, accepting = target.accounts[login].upstream.engine(), server.engine()
        assert client is not None
        shake_hands(client, accepting)
        assert client.alpn_protocol == "http/1.1"
        assert (accepting.peer_certificate is not None) is shown


def test_a_server_of_another_name_is_refused(tmp_path: Path) -> None:
    authority = Authority.root("Another CA")
    target = target_of(build(tmp_path))
    authority.write_bundle(tmp_path / "pki/ca.crt")
    upstream = target.accounts["readonly"].upstream
    assert upstream.reload()
    client = upstream.engine()
    assert client is not None
    with pytest.raises(TlsError):
        shake_hands(client, server_for(tmp_path, authority, "api.example.com", ()).engine())


def test_a_reload_reads_the_secrets_of_every_login(tmp_path: Path) -> None:
    target = target_of(build(tmp_path))
    write_secret(tmp_path / "secrets/reader", "hunter3")
    changed = {name for name, account in target.accounts.items() if account.injector.reload()}
    assert changed == {"readonly", "basic", "field", "token", "aws"}
    injected = target.accounts["readonly"].injector.ready(REQUEST)
    assert injected is not None
    assert injected.headers == (("authorization", "Bearer hunter3"),)
