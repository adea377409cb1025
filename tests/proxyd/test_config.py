"""The configuration file: what is read, and every fault with its place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from policy.located_yaml import DocumentError
from proxyd.addresses import Address, parse_address, shown_name
from proxyd.cli import options
from proxyd.config import DEFAULT_PATH, Config, LoadedConfig, PostgresListener, PostgresTarget
from tests.proxyd.documents import CONFIG


def load(directory: Path, text: str) -> Config:
    path = directory / "proxyd.yaml"
    path.write_text(text)
    return LoadedConfig.read(path).config


def faults_of(directory: Path, text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load(directory, text)
    return [str(fault) for fault in caught.value.faults]


def only_fault(directory: Path, text: str) -> str:
    faults = faults_of(directory, text)
    assert len(faults) == 1, faults
    return faults[0].removeprefix(f"{directory}/")


def target_of(directory: Path, text: str) -> PostgresTarget:
    target = load(directory, text).targets[0]
    assert isinstance(target, PostgresTarget)
    return target


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load(tmp_path, CONFIG)
    assert config.policy == tmp_path / "policy.yaml"
    listener = config.listeners[0]
    assert isinstance(listener, PostgresListener)
    assert listener.tls.key == tmp_path / "pki/server.key"
    assert config.masking.keys["customers"].file == tmp_path / "secrets/pseudonym"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    assert load(tmp_path, CONFIG.replace("policy.yaml", "/srv/p.yaml")).policy == Path("/srv/p.yaml")


def test_a_relative_config_path_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proxyd.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    assert LoadedConfig.read(Path("proxyd.yaml")).config.policy == tmp_path / "policy.yaml"


def test_defaults_and_units(tmp_path: Path) -> None:
    config = load(tmp_path, CONFIG.replace("drain_timeout: 5s\n", ""))
    assert config.drain_timeout == 30.0
    assert config.tapes.reply_limit == 16 * 1024 * 1024
    assert config.listeners[0].limits.handshake_timeout == 3.0
    target = config.targets[0]
    assert isinstance(target, PostgresTarget)
    assert (target.catalog.poll, target.connect_timeout) == (1.0, 5.0)
    readonly, catalog = target.logins
    assert (readonly.account, catalog.account) == ("shop_reader", "catalog")


def test_a_config_does_not_change(tmp_path: Path) -> None:
    config = load(tmp_path, CONFIG)
    with pytest.raises(ValidationError):
        config.version = 2  # type: ignore[assignment]


def test_without_an_allow_list_only_the_default_database_is_open(tmp_path: Path) -> None:
    target = target_of(tmp_path, CONFIG)
    assert target.allows_database("shop")
    assert not target.allows_database("postgres")


def test_database_allow_list(tmp_path: Path) -> None:
    listed = target_of(
        tmp_path, CONFIG.replace("database: shop", "database: shop\n    databases: [shop, other]")
    )
    assert listed.allows_database("other")
    assert not listed.allows_database("third")
    anything = target_of(tmp_path, CONFIG.replace("database: shop", 'database: shop\n    databases: ["*"]'))
    assert anything.allows_database("third")


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        ("policy: policy.yaml", "polcy: policy.yaml", "1:1", "policy: missing"),
        ("policy: policy.yaml", "policy: policy.yaml\nplugins: []", "27:1", "plugins: unknown key"),
        ("127.0.0.1:0\n    tls", "localhost\n    tls", "5:5", "write HOST:PORT"),
        ("127.0.0.1:0\n    tls", "::1:5432\n    tls", "5:5", "in brackets"),
        ("127.0.0.1:0\n    tls", "127.0.0.1:70000\n    tls", "5:5", "from 0 to 65535"),
        ("127.0.0.1:0\n    tls", "unix:pg.sock\n    tls", "5:5", "not absolute"),
        ("    address: 127.0.0.1:0\n", "", "3:5", "give either `address`"),
        (", client_ca: pki/ca.crt", "", "6:5", "add `client_ca`"),
        ("handshake_timeout: 3s", "handshake_timeout: 3", "7:59", "`3` is not a duration"),
        ("connections: 10,", "connections: 0,", "7:14", "connections"),
        ("mode: disable", "mode: verify-full", "18:5", "add `ca`"),
        ("mode: disable", "mode: disable, key: k", "18:5", "give both `certificate` and `key`"),
        ("catalog: {login: catalog}", "catalog: {login: catalogue}", "22:15", "did you mean `catalog`?"),
        ("{name: catalog,", "{name: readonly,", "21:10", "a second login named `readonly`"),
        ("database: shop", "database: shop\n    databases: [other]", "18:5", "add `shop` to the list"),
        ("{file: secrets/reader}}\n    catalog", "{}}\n    catalog", "21:25", "exactly one of `file`"),
        ("tapes: {directory: tapes}", "tapes: {directory: ''}", "27:9", "an empty path"),
        ("from: [ou]", "from: [dc]", "11:21", "dc"),
        ("version: 1", "version: 2", "1:1", "use one of `1`"),
        ("client_ca: pki/ca.crt}", "client_ca: pki/ca.crt, minimum_version: 1.2}", "6:84", 'as in "1.2"'),
        ("policy: policy.yaml", "policy: policy.yaml\nlimits: {statement: 1GB}", "27:10", "raise `message`"),
    ],
)
def test_faults_have_a_place_and_a_remedy(tmp_path: Path, old: str, new: str, place: str, words: str) -> None:
    assert old in CONFIG
    faults = faults_of(tmp_path, CONFIG.replace(old, new, 1))
    shown = [fault for fault in faults if words in fault]
    assert shown, faults
    assert shown[0].startswith(f"{tmp_path}/proxyd.yaml:{place}: "), shown


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path: Path) -> None:
    fault = only_fault(tmp_path, CONFIG.replace("drain_timeout", "drain_timout"))
    assert "did you mean `drain_timeout`?" in fault


def test_one_fault_in_a_list_is_one_fault(tmp_path: Path) -> None:
    assert "listeners[0].name" in only_fault(tmp_path, CONFIG.replace("- name: postgres", "- name: a b"))


def test_two_listeners_of_one_name(tmp_path: Path) -> None:
    start, end = CONFIG.index("  - name: postgres"), CONFIG.index("identity:")
    text = CONFIG[:end] + CONFIG[start:end] + CONFIG[end:]
    assert "a second listener named `postgres`" in only_fault(tmp_path, text)


def test_no_listener(tmp_path: Path) -> None:
    start, end = CONFIG.index("listeners:"), CONFIG.index("identity:")
    assert "an empty list" in only_fault(tmp_path, CONFIG[:start] + "listeners: []\n" + CONFIG[end:])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        LoadedConfig.read(tmp_path / "nothing.yaml")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="UTF-8"):
        LoadedConfig.read(tmp_path / "c.yaml")


def test_the_commands_know_the_default_path() -> None:
    assert options.DEFAULT_CONFIG == DEFAULT_PATH


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:6432", Address("127.0.0.1", 6432)),
        ("[::1]:0", Address("::1", 0)),
        ("db.example:5432", Address("db.example", 5432)),
        ("unix:/run/proxyd/pg.sock", Address(path="/run/proxyd/pg.sock")),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:-1", "host:\uff11", "a:b:1", "unix:" + "/a" * 60]
)
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="; "):
        parse_address(text)


def test_loopback() -> None:
    assert parse_address("127.0.0.1:1").is_loopback
    assert parse_address("unix:/x").is_loopback
    assert not parse_address("0.0.0.0:1").is_loopback


def test_socket_names_are_shown_as_they_are_written() -> None:
    assert shown_name(("127.0.0.1", 22)) == "127.0.0.1:22"
    assert shown_name(("::1", 22, 0, 0)) == "[::1]:22"
    assert shown_name("/run/x.sock") == "unix:/run/x.sock"
