"""The HTTP parts of the configuration file: what is read, and every fault with its place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.located_yaml import DocumentError
from proxyd.config import (
    Config,
    HostPattern,
    HttpListener,
    HttpTarget,
    LoadedConfig,
    TargetUrl,
    normal_host,
    normal_port,
)
from tests.proxyd.documents import HTTP_CONFIG

ISSUER = """\
  issuers:
    - {name: company, issuer: "https://login.example", audiences: [proxyd], ca: system}
targets:
"""


def load(directory: Path, text: str = HTTP_CONFIG) -> Config:
    path = directory / "proxyd.yaml"
    path.write_text(text)
    return LoadedConfig.read(path).config


def faults_of(directory: Path, *changes: tuple[str, str]) -> list[str]:
    text = HTTP_CONFIG
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    with pytest.raises(DocumentError) as caught:
        load(directory, text)
    return [str(fault).removeprefix(f"{directory}/proxyd.yaml:") for fault in caught.value.faults]


def listener_of(config: Config) -> HttpListener:
    listener = config.listeners[1]
    assert isinstance(listener, HttpListener)
    return listener


def target_of(config: Config) -> HttpTarget:
    target = config.target("api")
    assert isinstance(target, HttpTarget)
    return target


def test_a_listener(tmp_path: Path) -> None:
    listener = listener_of(load(tmp_path))
    assert (listener.domain, listener.hosts) == ("gateway.example", ("bastion.example",))
    assert listener.factors == (("certificate",),)
    assert listener.takes("certificate")
    assert not listener.takes("token")
    assert listener.protocols == ("h2", "http/1.1")
    assert listener.tls is not None
    assert listener.tls.client_ca == tmp_path / "pki/ca.crt"
    assert listener.proxy is not None
    assert listener.proxy.certificate_authority.certificate == tmp_path / "pki/inspect.crt"
    limits, timeouts = listener.limits, listener.timeouts
    assert (limits.streams, limits.head, limits.headers, limits.judged_body) == (100, 65536, 128, 1048576)
    assert (limits.connections, limits.handshake_timeout) == (1000, 10.0)
    assert (timeouts.head, timeouts.idle, timeouts.body) == (10.0, 60.0, 60.0)


PLAIN = "    tls: {certificate: pki/web.crt, key: pki/web.key, client_ca: pki/ca.crt}\n"


@pytest.mark.parametrize("address", ["127.0.0.1:0", "'[::1]:0'", "localhost:80", "unix:/run/web.sock"])
def test_a_listener_in_clear_on_this_machine(tmp_path: Path, address: str) -> None:
    text = HTTP_CONFIG.replace(PLAIN, "    factors: [[token]]\n").replace("targets:\n", ISSUER)
    text = text.replace("address: 127.0.0.1:0\n    factors", f"address: {address}\n    factors")
    listener = listener_of(load(tmp_path, text))
    assert listener.tls is None
    assert listener.takes("token")


def test_a_target(tmp_path: Path) -> None:
    target = target_of(load(tmp_path))
    assert target.url == TargetUrl("https", "api.internal", 8443, "/base")
    assert (str(target.url), target.url.authority) == ("https://api.internal:8443/base", "api.internal:8443")
    assert str(target.address) == "api.internal:8443"
    assert {host for host, port in target.names() if port is None} == {"api.internal", "api.example.com"}
    assert (target.protocols, target.api, target.encoded_slashes, target.forwarded) == (
        ("http/1.1",),
        None,
        "refuse",
        False,
    )
    assert (target.limits.connections, target.limits.response_head) == (100, 65536)
    assert (target.timeouts.response, target.timeouts.idle, target.connect_timeout) == (60.0, 60.0, 5.0)
    assert target.login("nobody") is None
    accounts = [login.account for login in target.logins]
    assert accounts == ["readonly", "gate", "field", "mutual", "gate", "AKID", "open"]
    field = target.login("field")
    assert field is not None
    assert field.header is not None
    assert field.header.name == "x-api-key"


HOSTS = [
    ("API.Example.", "api.example"),
    ("a_b.example", "a_b.example"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("127.0.0.1", "127.0.0.1"),
    ("[2001:DB8:0::1]", "2001:db8::1"),
    ("2001:db8::1", "2001:db8::1"),
    ("localhost", "localhost"),
]
NO_HOSTS = [
    "",
    ".",
    "a..b",
    "-a",
    "a-",
    "a b",
    "bücher.example",
    "a/b",
    "*.a",
    "a:1",
    "1.2.3",
    "0x7f.1",
    "010.0.0.1",
]
NO_HOSTS += ["fe80::1%eth0", "[fe80::1%25eth0]", "[127.0.0.1]", "[a.example]", "[]"]
NO_HOSTS += ["a" * 64, ".".join(["a" * 60] * 5), "[::1", "127.0.0.1.", "a@b", "a%2eb", "a\n"]


@pytest.mark.parametrize(("text", "host"), HOSTS)
def test_hosts(text: str, host: str) -> None:
    assert normal_host(text) == host


@pytest.mark.parametrize("text", NO_HOSTS)
def test_what_is_no_host(text: str) -> None:
    assert normal_host(text) is None


@pytest.mark.parametrize(("text", "port"), [("1", 1), ("65535", 65535), ("443", 443)])
def test_ports(text: str, port: int) -> None:
    assert normal_port(text) == port


@pytest.mark.parametrize("text", ["", "0", "65536", "080", "+1", "1 ", "٤", "123456"])
def test_what_is_no_port(text: str) -> None:
    assert normal_port(text) is None


URLS = [
    ("http://a", TargetUrl("http", "a", 80), "a"),
    ("https://A.Example:443/", TargetUrl("https", "a.example", 443), "a.example"),
    ("http://[::1]:8080/x/", TargetUrl("http", "::1", 8080, "/x"), "[::1]:8080"),
    ("https://a/b%20c/@d", TargetUrl("https", "a", 443, "/b%20c/@d"), "a"),
]


@pytest.mark.parametrize(("text", "url", "authority"), URLS)
def test_urls(tmp_path: Path, text: str, url: TargetUrl, authority: str) -> None:
    config = HTTP_CONFIG.replace("https://api.internal:8443/base", text)
    if text.startswith("http:"):
        config = config.replace("    tls: {ca: pki/ca.crt}\n", "").replace(
            "      - {name: mutual, certificate: {certificate: pki/client.crt, key: pki/client.key}}\n", ""
        )
    assert target_of(load(tmp_path, config)).url == url
    assert url.authority == authority


def test_an_endpoint_is_called_as_it_is_written(tmp_path: Path) -> None:
    text = HTTP_CONFIG.replace("https://login.example/t", "https://login.example/o/token/")
    login = target_of(load(tmp_path, text)).login("token")
    assert login is not None
    assert login.oauth2 is not None
    assert str(login.oauth2.token_url) == "https://login.example/o/token/"


@pytest.mark.parametrize(
    ("host", "port", "is_listed"),
    [
        ("a.example", 443, True),
        ("a.example", 80, True),
        ("a.example", 8443, True),  # the target's own port
        ("a.example", 22, False),
        ("b.example", 9000, True),
        ("b.example", 443, False),
        ("::1", 443, True),
        ("api.internal", 8443, False),  # its own address is not among them
    ],
)
def test_which_addresses_a_target_lists(tmp_path: Path, host: str, port: int, is_listed: bool) -> None:
    text = HTTP_CONFIG.replace('[api.internal, "api.example.com"]', '[A.example, "b.example:9000", "[::1]"]')
    target = target_of(load(tmp_path, text))
    assert target.is_listed(host, port) is is_listed
    assert target.is_at("api.internal", 8443)
    assert {host for host, port in target.names() if port is None} == {"a.example", "::1"}
    assert str(HostPattern("::1", 80)) == "[::1]:80"


LISTENER_FAULTS = [
    ((PLAIN, ""), "listeners[1]", "or write `factors: [[token]]`"),
    (("127.0.0.1:0\n" + PLAIN, "0.0.0.0:80\n"), "listeners[1]", "travel in clear"),
    (("    address: 127.0.0.1:0\n" + PLAIN, "    socket: web\n"), "listeners[1]", "travel in clear"),
    (("domain: gateway.example", "domain: '*.example'"), "listeners[1].domain", "without a port or a `*`"),
    (("domain: gateway.example", "domain: 10.0.0.1"), "listeners[1].domain", "write a name"),
    (("domain: gateway.example", "domain: 5"), "listeners[1].domain", "not the name of a host"),
    (("[bastion.example]", "['bastion.example:443']"), "listeners[1].hosts[0]", "without a port"),
    (
        ("[bastion.example]", "[b.example, B.example]"),
        "listeners[1].hosts[0]",
        "is a name of this listener already",
    ),
    (
        ("[bastion.example]", "[gateway.example]"),
        "listeners[1].hosts[0]",
        "is a name of this listener already",
    ),
    (("[bastion.example]", "[x.gateway.example]"), "listeners[1].hosts[0]", "are those of targets"),
    (("    domain", "    factors: []\n    domain"), "listeners[1].factors", "list at least one"),
    (("    domain", "    factors: [[]]\n    domain"), "listeners[1].factors[0]", "everybody would be let in"),
    (
        ("    domain", "    factors: [[totp]]\n    domain"),
        "listeners[1].factors[0][0]",
        "`certificate`, `token`",
    ),
    (
        ("    domain", "    factors: [[certificate, certificate]]\n    domain"),
        "listeners[1].factors[0][1]",
        "stands twice",
    ),
    (
        ("    domain", "    factors: [[certificate], [certificate, token]]\n    domain"),
        "listeners[1].factors[1]",
        "never asked for",
    ),
    (
        ("    domain", "    factors: [[token, certificate], [certificate]]\n    domain"),
        "listeners[1].factors[0]",
        "never asked for",
    ),
    (
        ("    domain", "    factors: [[certificate], [token]]\n    domain"),
        "listeners[1].tls.client_certificates",
        "write `client_certificates: optional`",
    ),
    (
        ("    domain", "    factors: [[token]]\n    domain"),
        "listeners[1].tls.client_certificates",
        "write `client_certificates: none`",
    ),
    (
        ("web.key, client_ca: pki/ca.crt", "web.key, client_certificates: none"),
        "listeners[1].factors",
        "clients are asked for none",
    ),
    (("    domain", "    protocols: []\n    domain"), "listeners[1].protocols", "list at least one"),
    (("    domain", "    protocols: [h2, h2]\n    domain"), "listeners[1].protocols", "name each once"),
    (("    domain", "    protocols: [h3]\n    domain"), "listeners[1].protocols[0]", "`h2`, `http/1.1`"),
    (
        ("    domain", "    limits: {head: 1KiB}\n    domain"),
        "listeners[1].limits.head",
        "from `4KiB` to `1MiB`",
    ),
    (
        ("    domain", "    limits: {judged_body: 1GB}\n    domain"),
        "listeners[1].limits.judged_body",
        "at most `64MiB`",
    ),
    (
        ("    domain", "    limits: {streams: 0}\n    domain"),
        "listeners[1].limits.streams",
        "write 1 or more",
    ),
    (("key: {file: pki/inspect.key}", "key: pki/inspect.key"), "certificate_authority.key", "mapping"),
    (
        ("    domain", "    host_keys: [a]\n    domain"),
        "listeners[1].host_keys",
        "only `protocol: ssh` has it",
    ),
]

READER = "bearer: {file: secrets/reader}"
TARGET_FAULTS = [
    (("https://api.internal:8443/base", "ftp://api.internal"), "targets[1].url", "write `https://HOST`"),
    (("https://api.internal:8443/base", "api.internal"), "targets[1].url", "write `https://HOST`"),
    (("https://api.internal:8443/base", "https://"), "targets[1].url", "write `https://HOST`"),
    (("https://api.internal:8443/base", "https://a:0"), "targets[1].url", "write `https://HOST`"),
    (("https://api.internal:8443/base", "'https://a:'"), "targets[1].url", "write `https://HOST`"),
    (("https://api.internal:8443/base", "https://a:99999"), "targets[1].url", "not a URL"),
    (("https://api.internal:8443/base", "https://u:p@a"), "targets[1].url", "a user in the URL"),
    (("https://api.internal:8443/base", "https://a?x=1"), "targets[1].url", "end it with the path"),
    (("https://api.internal:8443/base", "'https://a#x'"), "targets[1].url", "end it with the path"),
    (("https://api.internal:8443/base", "https://a/../b"), "targets[1].url", "read in two ways"),
    (("https://api.internal:8443/base", "https://a//b"), "targets[1].url", "read in two ways"),
    (("https://api.internal:8443/base", "https://a/%2fb"), "targets[1].url", "read in two ways"),
    (("https://api.internal:8443/base", "https://a/b%"), "targets[1].url", "read in two ways"),
    (("https://api.internal:8443/base", "https://a\\b"), "targets[1].url", "not the URL of a target"),
    (("https://api.internal:8443/base", "https://bücher"), "targets[1].url", "not the URL of a target"),
    (("    tls: {ca: pki/ca.crt}\n", ""), "targets[1]", "`tls: {ca: system}`"),
    (("    tls: {ca: pki/ca.crt}\n", "    tls: {mode: verify-full}\n"), "targets[1].tls", "add `ca`"),
    (
        ("    tls: {ca: pki/ca.crt}\n", "    tls: {mode: prefer}\n"),
        "targets[1].tls.mode",
        "write `verify-full`",
    ),
    (("https://api.internal:8443/base", "http://api.internal"), "targets[1].tls", "the URL says http"),
    (
        ("    labels: {env: prod}\n    tls: {ca", "    address: a:1\n    tls: {ca"),
        "targets[1].address",
        "have it",
    ),
    (('[api.internal, "api.example.com"]', '["*.example"]'), "targets[1].hosts[0]", "or a `*`"),
    (('[api.internal, "api.example.com"]', '["a:0"]'), "targets[1].hosts[0]", "`NAME:PORT`"),
    (('[api.internal, "api.example.com"]', '["https://a"]'), "targets[1].hosts[0]", "without a scheme"),
    (
        ('[api.internal, "api.example.com"]', "[a]\n    origins: [app.example]"),
        "targets[1].origins[0]",
        "not the URL",
    ),
    (
        ('[api.internal, "api.example.com"]', "[a]\n    origins: ['https://app.example/x']"),
        "targets[1].origins[0]",
        "no path",
    ),
    (('[api.internal, "api.example.com"]', "[a, A.]"), "targets[1].hosts[1]", "stands twice"),
    (('[api.internal, "api.example.com"]', "[bastion.example]"), "targets[1].hosts[0]", "the gateway's own"),
    (
        ('[api.internal, "api.example.com"]', "[x.gateway.example]"),
        "targets[1].hosts[0]",
        "the gateway's own",
    ),
    (('[api.internal, "api.example.com"]', "[gateway.example]"), "targets[1].hosts[0]", "the gateway's own"),
    (("name: api\n", "name: a..b\n"), "targets[1].name", "write one dot"),
    (("name: readonly, bearer", "name: a..b, bearer"), "targets[1].logins[0].name", "write one dot"),
    (("name: basic, basic", "name: readonly, basic"), "targets[1].logins[1].name", "a second login"),
    (("    tls: {ca", "    protocols: [h1]\n    tls: {ca"), "targets[1].protocols[0]", "`http/1.1`"),
    (("    tls: {ca", "    api: gemini\n    tls: {ca"), "targets[1].api", "`openai`, `anthropic`"),
    (("    tls: {ca", "    encoded_slashes: yes\n    tls: {ca"), "targets[1].encoded_slashes", "`keep`"),
    ((READER, f"{READER}, none: true"), "targets[1].logins[0]", "exactly one of `bearer`"),
    ((f", {READER}", ""), "targets[1].logins[0]", "exactly one of `bearer`"),
    (("none: true", "none: false"), "targets[1].logins[6]", "exactly one of `bearer`"),
    ((READER, "password: {file: a}"), "targets[1].logins[0].password", "known keys here"),
    (("user: gate, password", "user: 'a:b', password"), "targets[1].logins[1].basic.user", "a colon"),
    (("name: X-Api-Key", "name: Host"), "targets[1].logins[2].header.name", "makes itself"),
    (("name: X-Api-Key", "name: Transfer-Encoding"), "targets[1].logins[2].header.name", "makes itself"),
    (("name: X-Api-Key", "name: Proxyd-Login"), "targets[1].logins[2].header.name", "makes itself"),
    (
        ("name: X-Api-Key", "name: 'x y'"),
        "targets[1].logins[2].header.name",
        "not the name of a header field",
    ),
    (
        ("https://login.example/t", "http://login.example/t"),
        "targets[1].logins[4].oauth2.token_url",
        "in clear",
    ),
    (("https://login.example/t", "http://127.0.0.1/t"), "targets[1].logins[4].oauth2.ca", "no TLS"),
    (("secrets/reader}, ca: pki/ca.crt}", "secrets/reader}}"), "targets[1].logins[4].oauth2", "add `ca`"),
    (("client_id: gate", "client_id: 'a b'"), "targets[1].logins[4].oauth2.client_id", "without blanks"),
    (("client_id: gate", 'client_id: gate, scope: "a\\nb"'), "targets[1].logins[4].oauth2.scope", "control"),
    (("region: eu-central-1, ", ""), "targets[1].logins[5].sigv4.region", "as in `region: eu-central-1`"),
    (("access_key: AKID, ", ""), "targets[1].logins[5].sigv4", "as in `access_key: AKIDEXAMPLE`"),
    (
        ("access_key: AKID, ", "credentials: {file: x}, "),
        "targets[1].logins[5].sigv4.credentials",
        "or `access_key` and `secret_key`",
    ),
    (("service: s3", "service: S3"), "targets[1].logins[5].sigv4.service", "in lower case"),
    (
        ("secret_key: {file: secrets/reader}", "secret_key: topsecret"),
        "sigv4.secret_key",
        "a text is not a mapping",
    ),
]


@pytest.mark.parametrize(("change", "place", "words"), LISTENER_FAULTS + TARGET_FAULTS)
def test_a_fault_has_a_place_and_a_remedy(
    tmp_path: Path, change: tuple[str, str], place: str, words: str
) -> None:
    faults = faults_of(tmp_path, change)
    assert len(faults) == 1, faults
    assert place in faults[0], faults
    assert words in faults[0], faults
    assert "topsecret" not in faults[0]


OTHER_TARGET = """\
  - name: other
    protocol: http
    url: http://127.0.0.1:9000
    hosts: [other.example]
    logins: [{name: default, none: true}]
masking:
"""
MANY = [
    (
        ("hosts: [other.example]", "hosts: ['api.example.com:443']"),
        "targets[2].hosts[0]",
        "is the target `api` already",
    ),
    (
        ("hosts: [other.example]", "hosts: [API.example.com]"),
        "targets[2].hosts[0]",
        "is the target `api` already",
    ),
    (
        ("hosts: [other.example]", "hosts: ['api.internal:8443']"),
        "targets[2].hosts[0]",
        "is the target `api` already",
    ),
    (("name: other", "name: API"), "targets[2].name", "as a host name it is the same as `api`"),
    (("9000\n", "9000\n    protocols: [h2, http/1.1]\n"), "targets[2].protocols", "agreed upon by TLS alone"),
    (
        ("{name: default, none: true}", "{name: a, certificate: {certificate: c, key: k}}"),
        "targets[2].logins[0].certificate",
        "needs TLS",
    ),
]


@pytest.mark.parametrize(("change", "place", "words"), MANY)
def test_faults_between_targets(tmp_path: Path, change: tuple[str, str], place: str, words: str) -> None:
    faults = faults_of(tmp_path, ("masking:\n", OTHER_TARGET), change)
    assert len(faults) == 1, faults
    assert place in faults[0], faults
    assert words in faults[0], faults


def test_a_name_that_is_where_another_target_is(tmp_path: Path) -> None:
    unlisted = ('    hosts: [api.internal, "api.example.com"]\n', "")
    faults = faults_of(
        tmp_path, ("masking:\n", OTHER_TARGET), unlisted, ("[other.example]", "['api.internal:8443']")
    )
    assert len(faults) == 1, faults
    assert "targets[2].hosts[0]: `api.internal:8443` is where the target `api` is" in faults[0]


def test_two_targets_at_one_address(tmp_path: Path) -> None:
    """One API, by two names and accounts: that is no fault."""
    text = HTTP_CONFIG.replace("masking:\n", OTHER_TARGET).replace("masking:\n", OTHER_TARGET)
    text = text.replace("name: other", "name: first", 1).replace("other.example", "first.example", 1)
    config = load(tmp_path, text)
    assert [target.name for target in config.targets] == ["shop", "api", "first", "other"]


def test_two_certificates_for_one_connection(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path, ("{ca: pki/ca.crt}\n    logins", "{ca: c, certificate: a, key: b}\n    logins")
    )
    assert len(faults) == 1, faults
    assert "targets[1].logins[3].certificate" in faults[0]
    assert "remove one of the two" in faults[0]


def test_a_secret_does_not_show_itself_in_a_representation(tmp_path: Path) -> None:
    assert "hunter2" not in repr(load(tmp_path))
