"""`identity.issuers` and the factors that need them: what is refused, where, and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy.located_yaml import DocumentError
from proxyd.config import Config, LoadedConfig, PostgresListener, SshListener
from tests.proxyd.documents import CONFIG

ISSUER: dict[str, Any] = {
    "name": "company",
    "issuer": "https://login.example",
    "audiences": ["proxyd"],
}


def written(directory: Path, issuers: Any, listener: dict[str, Any] | None = None) -> Path:
    """CONFIG with `issuers`, and its listener changed."""
    document = yaml.safe_load(CONFIG)
    document["identity"]["issuers"] = issuers
    document["listeners"][0].update(listener or {})
    path = directory / "proxyd.yaml"
    path.write_text(json.dumps(document))  # which is YAML, and repeats what stands twice
    return path


def read(directory: Path, issuers: Any, listener: dict[str, Any] | None = None) -> Config:
    return LoadedConfig.read(written(directory, issuers, listener)).config


def faults(directory: Path, issuers: Any, listener: dict[str, Any] | None = None) -> str:
    with pytest.raises(DocumentError) as caught:
        read(directory, issuers, listener)
    return "\n".join(f"{fault.path}: {fault.message}; {fault.remedy}" for fault in caught.value.faults)


def test_defaults(tmp_path: Path) -> None:
    (issuer,) = read(tmp_path, [ISSUER]).identity.issuers
    assert issuer.discovery_url == "https://login.example/.well-known/openid-configuration"
    assert issuer.ca == "system"
    assert issuer.algorithms == ("RS256", "ES256", "EdDSA")
    assert (issuer.claims.name, issuer.claims.groups) == ("sub", "groups")
    assert (issuer.clock_skew, issuer.refresh, issuer.timeout, issuer.stale) == (30, 600, 5, 86400)


def test_the_address_of_the_description_is_not_the_issuer(tmp_path: Path) -> None:
    url = "https://login.example/realms/a/.well-known/openid-configuration"
    assert "write `https://login.example/realms/a`" in faults(tmp_path, [{**ISSUER, "issuer": url}])


def test_everything(tmp_path: Path) -> None:
    more = {
        "ca": "pki/issuer.crt",
        "algorithms": ["PS256"],
        "authorized_parties": ["cli"],
        "claims": {"name": "email", "groups": "realm_access.roles", "more": {"kind": "agent_kind"}},
        "group_map": {"Data Team": ["data"]},
        "name_prefix": "partner:",
        "scopes": ["openid", "groups"],
        "clock_skew": "1m",
        "refresh": "5m",
        "timeout": "2s",
        "stale": "2h",
    }
    (issuer,) = read(tmp_path, [{**ISSUER, **more}]).identity.issuers
    assert issuer.ca == tmp_path / "pki/issuer.crt"
    assert issuer.claims.more == {"kind": "agent_kind"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"issuer": "http://login.example"}, "is not https"),
        ({"issuer": "http://10.0.0.1"}, "is not https"),
        ({"issuer": "http://localhost.evil.example"}, "is not https"),
        ({"issuer": "login.example"}, "names no host"),
        ({"issuer": "https://"}, "names no host"),
        ({"issuer": "https://a b.example"}, "is no URL"),
        ({"issuer": "https://löwe.example"}, "is no URL"),
        ({"issuer": "https://u:p@login.example"}, "user name"),
        ({"issuer": "https://login.example?x=1"}, "query"),
        ({"issuer": "https://login.example#x"}, "fragment"),
        ({"issuer": "https://login.example:99999"}, "is no URL"),
        ({"audiences": []}, "empty list"),
        ({"audiences": [""]}, "audiences"),
        ({"algorithms": []}, "empty list"),
        ({"algorithms": ["HS256"]}, "algorithms[0]"),
        ({"algorithms": ["none"]}, "algorithms[0]"),
        ({"algorithms": ["RS256", "HS512"]}, "algorithms[1]"),
        ({"claims": {"name": ""}}, "not the name of a claim"),
        ({"claims": {"groups": "a..b"}}, "not the name of a claim"),
        ({"claims": {"more": {"issuer": "x"}}}, "no token may say that"),
        ({"claims": {"more": {"factors": "x"}}}, "no token may say that"),
        ({"claims": {"more": {"keys": "x"}}}, "no token may say that"),
        ({"name_prefix": "a b"}, "not the beginning of a name"),
        ({"clock_skew": "1h"}, "more than clocks differ"),
        ({"refresh": "1s"}, "asks the issuer too often"),
        ({"refresh": "1h", "stale": "30m"}, "stale before they are fetched"),
        ({"scopes": ["a b"]}, "scopes[0]"),
        ({"jwks_uri": "https://x"}, "jwks_uri"),
    ],
)
def test_faults(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    said = faults(tmp_path, [{**ISSUER, **more}])
    assert "identity.issuers[0]" in said
    assert words in said


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_loopback_may_be_in_clear(tmp_path: Path, host: str) -> None:
    (issuer,) = read(tmp_path, [{**ISSUER, "issuer": f"http://{host}:8080"}]).identity.issuers
    assert issuer.discovery_url.startswith(f"http://{host}:8080/")


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"issuer": "https://other.example"}, "a second issuer named `company`"),
        ({"name": "other"}, "tokens of https://login.example are spoken of already"),
    ],
)
def test_an_issuer_stands_once(tmp_path: Path, second: dict[str, Any], words: str) -> None:
    assert words in faults(tmp_path, [ISSUER, {**ISSUER, **second}])


# --- factors ----------------------------------------------------------------------------------------------

TLS = yaml.safe_load(CONFIG)["listeners"][0]["tls"]
NO_CLIENTS = {name: TLS[name] for name in ("certificate", "key")} | {"client_certificates": "none"}
OPTIONAL = {**TLS, "client_certificates": "optional"}


@pytest.mark.parametrize(
    ("factors", "tls"),
    [
        ([["certificate"]], TLS),
        ([["token"]], NO_CLIENTS),
        ([["certificate"], ["token"]], OPTIONAL),
        ([["certificate", "token"]], TLS),
        ([["certificate", "token"]], OPTIONAL),
    ],
)
def test_postgres_factors(tmp_path: Path, factors: list[list[str]], tls: Any) -> None:
    config = read(tmp_path, [ISSUER], {"factors": factors, "tls": tls, "token_method": "oauthbearer"})
    (listener,) = config.listeners
    assert isinstance(listener, PostgresListener)
    assert listener.factors == tuple(map(tuple, factors))


@pytest.mark.parametrize(
    ("factors", "tls", "words"),
    [
        ([], TLS, "empty list"),
        ([[]], TLS, "everybody would be let in"),
        ([["token"]], TLS, "client_certificates"),
        ([["certificate"], ["token"]], TLS, "client_certificates"),
        ([["certificate"]], NO_CLIENTS, "asked for none"),
        ([["certificate"], ["certificate", "token"]], TLS, "never asked for"),
        ([["token"], ["token", "certificate"]], OPTIONAL, "never asked for"),
        ([["token", "token"]], NO_CLIENTS, "stands twice"),
        ([["password"]], TLS, "factors[0]"),
        ([["totp"]], TLS, "factors[0]"),
    ],
)
def test_postgres_factors_that_cannot_be(
    tmp_path: Path, factors: list[list[str]], tls: Any, words: str
) -> None:
    assert words in faults(tmp_path, [ISSUER], {"factors": factors, "tls": tls})


def test_tokens_need_an_issuer(tmp_path: Path) -> None:
    said = faults(tmp_path, [], {"factors": [["token"]], "tls": NO_CLIENTS})
    assert "listeners[0].factors: tokens let in, but nobody is trusted to issue them" in said


def ssh_listener(factors: list[list[str]]) -> dict[str, Any]:
    return {
        "protocol": "ssh",
        "name": "ssh",
        "host_keys": ["ssh/host"],
        "client_ca": "ssh/user_ca.pub",
        "factors": factors,
    }


def read_ssh(directory: Path, factors: list[list[str]]) -> SshListener:
    document = yaml.safe_load(CONFIG)
    document["identity"]["issuers"] = [ISSUER]
    document["listeners"].append({**ssh_listener(factors), "address": "127.0.0.1:0"})
    path = directory / "proxyd.yaml"
    path.write_text(json.dumps(document))  # which is YAML, and repeats what stands twice
    listener = LoadedConfig.read(path).config.listeners[1]
    assert isinstance(listener, SshListener)
    return listener


@pytest.mark.parametrize(
    "factors",
    [
        [["token"]],
        [["certificate"], ["token"]],
        [["certificate", "token"]],
        [["token", "certificate"]],
        [["certificate", "token"], ["token", "certificate"]],
    ],
)
def test_ssh_factors(tmp_path: Path, factors: list[list[str]]) -> None:
    assert read_ssh(tmp_path, factors).takes("token")


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ([["token", "token"]], "stands twice"),
        ([["token"], ["token", "certificate"]], "never asked for"),
        ([["certificate", "token"], ["certificate", "totp"]], "only one can be asked for"),
    ],
)
def test_ssh_factors_that_cannot_be(tmp_path: Path, factors: list[list[str]], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        read_ssh(tmp_path, factors)
