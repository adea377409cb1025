"""The SSH parts of the configuration file: what is read, and every fault with its place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.located_yaml import DocumentError
from proxyd.config import Config, LoadedConfig, SshListener, SshTarget
from tests.proxyd.documents import ALICE_KEY, SSH_CONFIG

BOB_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSQRCjB46K61HNWn1t0yrTpxlrSp1yYazp+Ya3IoZqo"
BOB = f"    - {{name: bob, keys: ['{BOB_KEY}']}}\n"


def load(directory: Path, text: str = SSH_CONFIG) -> Config:
    path = directory / "proxyd.yaml"
    path.write_text(text)
    return LoadedConfig.read(path).config


def faults_of(directory: Path, old: str, new: str) -> list[str]:
    assert old in SSH_CONFIG, old
    with pytest.raises(DocumentError) as caught:
        load(directory, SSH_CONFIG.replace(old, new, 1))
    return [str(fault).removeprefix(f"{directory}/proxyd.yaml:") for fault in caught.value.faults]


def listener_of(config: Config) -> SshListener:
    listener = config.listeners[1]
    assert isinstance(listener, SshListener)
    return listener


def target_of(config: Config) -> SshTarget:
    target = config.target("web1")
    assert isinstance(target, SshTarget)
    return target


def test_a_listener(tmp_path: Path) -> None:
    listener = listener_of(load(tmp_path))
    assert listener.host_keys == (tmp_path / "ssh/host",)
    assert listener.client_ca == tmp_path / "ssh/user_ca.pub"
    assert listener.factors == (("certificate",), ("public_key", "totp"))
    limits = listener.limits
    assert (limits.handshake_timeout, limits.channels, limits.attempts, limits.connections) == (
        60.0,
        100,
        6,
        1000,
    )
    assert listener.keepalive == 30.0
    assert listener.takes("totp")


def test_certificates_are_what_is_asked_for_by_itself(tmp_path: Path) -> None:
    text = SSH_CONFIG.replace("    factors: [[certificate], [public_key, totp]]\n", "")
    listener = listener_of(load(tmp_path, text))
    assert listener.factors == (("certificate",),)
    assert not listener.takes("public_key")


def test_people(tmp_path: Path) -> None:
    identity = load(tmp_path).identity
    alice = identity.person("alice@example.com")
    assert alice is not None
    assert (alice.groups, alice.claims, alice.keys) == (("data",), {"team": "blue"}, (ALICE_KEY,))
    assert identity.person("bob") is None
    assert (identity.ssh_certificates.name, identity.ssh_certificates.principals) == ("key_id", "logins")


def test_a_target(tmp_path: Path) -> None:
    target = target_of(load(tmp_path))
    assert target.host_keys.known_hosts == tmp_path / "ssh/known_hosts"
    readonly, root, console = target.logins
    assert (readonly.account, readonly.certificate) == ("reader", True)
    assert root.key is not None
    assert root.passphrase is not None
    assert console.password is not None
    assert target.login("root") is root
    assert target.login("toor") is None


def test_a_target_behind_a_unix_socket(tmp_path: Path) -> None:
    text = SSH_CONFIG.replace("address: web1.example:22", "address: unix:/run/sshd.sock")
    assert target_of(load(tmp_path, text)).address.is_unix


def test_variables_that_clients_may_set(tmp_path: Path) -> None:
    assert target_of(load(tmp_path)).environment == ("LANG", "LC_*", "COLORTERM")
    text = SSH_CONFIG.replace(
        "    host_keys: {known", "    environment: [GIT_PROTOCOL]\n    host_keys: {known"
    )
    assert target_of(load(tmp_path, text)).environment == ("GIT_PROTOCOL",)


def test_tapes_and_admin(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert (config.tapes.input, config.tapes.file_content, config.admin) == ("echoed", 0, None)
    text = SSH_CONFIG.replace("{directory: tapes}", "{directory: tapes, input: none, file_content: 64KiB}")
    config = load(tmp_path, text + "admin: {socket: run/admin.sock, group: operators}\n")
    assert (config.tapes.input, config.tapes.file_content) == ("none", 65536)
    assert config.admin is not None
    assert (config.admin.socket, config.admin.group) == (tmp_path / "run/admin.sock", "operators")


def test_the_authority(tmp_path: Path) -> None:
    authority = load(tmp_path).ssh_authority
    assert authority is not None
    assert (authority.key.file, authority.lifetime) == (tmp_path / "ssh/gateway_ca", 300.0)


LISTENER_FAULTS = [
    (
        "protocol: ssh\n    address: 127",
        "protocol: shh\n    address: 127",
        "9:5: listeners[1].protocol",
        "`ssh`?",
    ),
    (
        "    protocol: ssh\n    address: 127",
        "    address: 127",
        "8:5: listeners[1].protocol: missing",
        "one of",
    ),
    (
        "    host_keys: [ssh/host]\n",
        "    host_keys: [ssh/host]\n    tls: {certificate: a, key: b}\n",
        "12:5: listeners[1].tls: not a key of `protocol: ssh`",
        "only `protocol: postgres` and `protocol: http` have it",
    ),
    ("    address: 127.0.0.1:0\n    host", "    host", "8:5: listeners[1]", "give either `address`"),
    (
        "    host_keys: [ssh/host]\n",
        "",
        "8:5: listeners[1].host_keys",
        "as in `host_keys: [ssh/host_ed25519]`",
    ),
    ("host_keys: [ssh/host]", "host_keys: []", "11:5: listeners[1].host_keys", "list at least one"),
    ("host_keys: [ssh/host]", "host_keys: ssh/host", "11:5: listeners[1].host_keys", "list"),
    ("    client_ca: ssh/user_ca.pub\n", "", "14:5: listeners[1].factors", "add `client_ca`"),
    ("client_ca: ssh/user_ca.pub", "client_ca: ''", "13:5: listeners[1].client_ca", "an empty path"),
    ("[[certificate], [public_key, totp]]", "[]", "15:5: listeners[1].factors", "list at least one"),
    ("[[certificate], [public_key, totp]]", "[certificate]", "15:15: listeners[1].factors[0]", "list"),
    (
        "[[certificate], [public_key, totp]]",
        "[[certificate], []]",
        "15:30: listeners[1].factors[1]",
        "everybody",
    ),
    ("[[certificate], [public_key, totp]]", "[[totp]]", "15:15: listeners[1].factors[0]", "guess codes"),
    (
        "[[certificate], [public_key, totp]]",
        "[[totp, public_key]]",
        "15:15: listeners[1].factors[0]",
        "come before",
    ),
    ("[public_key, totp]", "[public_key, totp, totp]", "15:49: listeners[1].factors[1][2]", "stands twice"),
    ("[[certificate]", "[[certificate, certificate]", "15:29: listeners[1].factors[0][1]", "stands twice"),
    (
        "[public_key, totp]",
        "[certificate, totp]",
        "15:30: listeners[1].factors[1]",
        "[certificate] is in already",
    ),
    ("[public_key, totp]", "[certificate]", "15:30: listeners[1].factors[1]", "never asked for"),
    (
        "[public_key, totp]",
        "[password]",
        "15:31: listeners[1].factors[1][0]",
        "use one of `certificate`, `public_key`",
    ),
    (
        "[public_key, totp]",
        "[public_key, public_key]",
        "15:30: listeners[1].factors[1]",
        "nobody can show [public_key, public_key]: no person has 2 `keys`",
    ),
    (
        "      totp: {file: secrets/alice.totp}\n",
        "",
        "15:30: listeners[1].factors[1]",
        "no person has `keys` and `totp`; add `keys` and `totp` to somebody",
    ),
    (
        "    revoked_keys:",
        "    keepalive: 30\n    revoked_keys:",
        "14:5: listeners[1].keepalive",
        "not a duration",
    ),
    (
        "    revoked_keys:",
        "    limits: {channels: 0}\n    revoked_keys:",
        "14:14: listeners[1].limits.channels",
        "1",
    ),
    (
        "    revoked_keys:",
        "    limits: {attempts: 500}\n    revoked_keys:",
        "14:14: listeners[1].limits.attempts",
        "100",
    ),
    (
        "    limits: {connections: 10,",
        "    limits: {channels: 3, connections: 10,",
        "7:14: listeners[0].limits.channels: unknown key",
        "known keys here: `connections`, `connections_per_subject`, `handshake_timeout`",
    ),
]

IDENTITY_FAULTS = [
    ("name: alice@example.com", "name: alice smith", "identity.people[0].name", "without blanks"),
    ("name: alice@example.com", "name: ''", "identity.people[0].name", "not the name of a person"),
    ("name: alice@example.com", 'name: "al\\nice"', "identity.people[0].name", "not the name of a person"),
    ("  people:\n", f"  people:\n{BOB}{BOB}", "identity.people[1].name", "a second person named `bob`"),
    (
        "  people:\n",
        f"  people:\n    - {{name: b, keys: ['{ALICE_KEY}']}}\n",
        "people[1].keys[0]",
        "one of `b` already",
    ),
    (
        f'["{ALICE_KEY} alice"]',
        f'["{ALICE_KEY}", "{ALICE_KEY} again"]',
        "people[0].keys[1]",
        "keep it in one place",
    ),
    (f"{ALICE_KEY} alice", "SHA256:abc", "people[0].keys[0]", "not a type of public keys"),
    (f"{ALICE_KEY} alice", "", "people[0].keys[0]", "not one public key"),
    (f"{ALICE_KEY} alice", f'from=\\"10.0.0.0/8\\" {ALICE_KEY}', "people[0].keys[0]", "options"),
    (f"{ALICE_KEY} alice", ALICE_KEY[:40], "people[0].keys[0]", "cut off"),
    (f"{ALICE_KEY} alice", "ssh-ed25519", "people[0].keys[0]", "cut off"),
    (f"{ALICE_KEY} alice", ALICE_KEY.replace("ssh-ed25519", "ssh-rsa"), "people[0].keys[0]", "mistyped"),
    (f"{ALICE_KEY} alice", "ssh-ed25519-cert-v01@openssh.com AAAA", "people[0].keys[0]", "a certificate"),
    (f"{ALICE_KEY} alice", "-----BEGIN OPENSSH PRIVATE KEY-----", "people[0].keys[0]", "a private key"),
    (f"{ALICE_KEY} alice", f"{ALICE_KEY}\\n{BOB_KEY}", "people[0].keys[0]", "not one public key"),
    ("totp: {file: secrets/alice.totp}", "totp: secrets/alice.totp", "people[0].totp", "write a mapping"),
    (
        "  people:\n",
        "  ssh_certificates: {name: cn}\n  people:\n",
        "ssh_certificates.name",
        "`key_id`, `principal`",
    ),
    ("  people:\n", "  ssh_certificates: {principals: []}\n  people:\n", "principals", "`logins`, `groups`"),
]

TARGET_FAULTS = [
    (
        "    host_keys: {known_hosts: ssh/known_hosts}\n",
        "",
        "targets[1].host_keys: missing",
        "as in `host_keys: {known",
    ),
    ("{known_hosts: ssh/known_hosts}", "{}", "targets[1].host_keys", "exactly one of `known_hosts`"),
    ("{known_hosts: ssh/known_hosts}", "{known_hosts: a, ca: b}", "targets[1].host_keys", "exactly one of"),
    (
        "{known_hosts: ssh/known_hosts}",
        "{keys: []}",
        "targets[1].host_keys.keys",
        "every connection would be refused",
    ),
    (
        "{known_hosts: ssh/known_hosts}",
        "{keys: [ssh-dss AAAA]}",
        "targets[1].host_keys.keys[0]",
        "not a type",
    ),
    (
        "    host_keys: {known",
        "    database: shop\n    host_keys: {known",
        "database: not a key of `protocol: ssh`",
        "post",
    ),
    (
        "    host_keys: {known",
        "    tls: {}\n    host_keys: {known",
        "tls: not a key of `protocol: ssh`",
        "remove it",
    ),
    (
        "    database: shop\n",
        "    database: shop\n    environment: []\n",
        "not a key of `protocol: postgres`",
        "`protocol: ssh` has it",
    ),
    (
        "certificate: true}",
        "certificate: true, password: {file: a}}",
        "targets[1].logins[0]",
        "exactly one of `certif",
    ),
    ("certificate: true}", "certificate: false}", "targets[1].logins[0]", "not one credential"),
    (
        "certificate: true}",
        "certificate: yes}",
        "targets[1].logins[0].certificate",
        "write `true` or `false`",
    ),
    (
        "console, password: {file: secrets/reader}",
        "console, password: {file: a}, passphrase: {file: b}",
        "logins[2].passphrase",
        "without a key",
    ),
    ("name: console,", "name: root,", "targets[1].logins[2].name", "a second login named `root`"),
    ("name: console,", "name: con..sole,", "targets[1].logins[2].name", "`..` in a name"),
    ("- name: web1", "- name: web..1", "targets[1].name", "`..` in a name"),
    ("- name: web1", "- name: shop", "targets[1].name", "a second target named `shop`"),
    (
        "    host_keys: {known",
        "    environment: [a-b]\n    host_keys: {known",
        "environment[0]",
        "letters, digits and `_`",
    ),
    (
        "ssh_authority: {key: {file: ssh/gateway_ca}}\n",
        "",
        "targets[1].logins[0].certificate",
        "add `ssh_authority`",
    ),
    (
        "{key: {file: ssh/gateway_ca}}",
        "{key: {file: a}, lifetime: 5s}",
        "ssh_authority.lifetime",
        "from `30s` to `1d`",
    ),
    (
        "{key: {file: ssh/gateway_ca}}",
        "{key: {file: a}, lifetime: 90d}",
        "ssh_authority.lifetime",
        "too long",
    ),
    ("{key: {file: ssh/gateway_ca}}", "{key: a}", "ssh_authority.key", "a text is not a mapping"),
]

OTHER_FAULTS = [
    (
        "{directory: tapes}",
        "{directory: tapes, input: some}",
        "tapes.input",
        "use one of `echoed`, `all`, `none`",
    ),
    (
        "{directory: tapes}",
        "{directory: tapes, file_content: 10}",
        "tapes.file_content",
        "`10` is not a size",
    ),
    ("{directory: tapes}", "{directory: tapes, file_content: false}", "tapes.file_content", "not a size"),
    (
        "{directory: tapes}",
        "{directory: tapes, file_content: 17MiB}",
        "tapes.file_content",
        "at most `16MiB`",
    ),
    ("log: {level", "admin: {group: a}\nlog: {level", "admin.socket: missing", "add `socket`"),
    (
        "log: {level",
        f"admin: {{socket: /{'a' * 107}}}\nlog: {{level",
        "admin.socket: longer than 107 bytes",
        "shorter path",
    ),
    (
        "log: {level",
        "admin: {socket: a, group: ''}\nlog: {level",
        "admin.group: an empty text",
        "write a value",
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "place", "words"), LISTENER_FAULTS + IDENTITY_FAULTS + TARGET_FAULTS + OTHER_FAULTS
)
def test_a_fault_has_a_place_and_a_remedy(tmp_path: Path, old: str, new: str, place: str, words: str) -> None:
    faults = faults_of(tmp_path, old, new)
    assert len(faults) == 1, faults
    assert place in faults[0], faults
    assert words in faults[0], faults
