"""Ways to be let in as somebody else, or as nobody, tried on the running gateway. Each is refused; who has the right
key then still comes in, over the same connection.
"""

from __future__ import annotations

import base64
import hmac
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.ssh_gateway import LOGIN, PEOPLE_AUTHORITY, SshGateway
from tests.end_to_end.ssh_raw import (
    FAILURE,
    INFO_REQUEST,
    INFO_RESPONSE,
    PK_OK,
    SUCCESS,
    USER,
    RawClient,
    auth_request,
    credential,
)
from tests.end_to_end.ssh_wire import Ended, strings_before
from tests.ssh_pki import HOST, HOUR, Authority, Key, line, option, string

NOW = int(time.time())
LOST = 255


@pytest.fixture(scope="module")
def authority(ssh_keys: SshKeys) -> Authority:
    """Of people: what it signs the gateways trust."""
    return Authority(Key(asyncssh.read_private_key(ssh_keys.private(PEOPLE_AUTHORITY))))


@pytest.fixture(scope="module")
def alice(ssh_gateway: SshGateway) -> tuple[Key, bytes]:
    return credential(ssh_gateway)


def is_let_in(gateway: SshGateway, user: str, given: tuple[Key, bytes]) -> bool:
    """By a connection of its own."""
    with RawClient.connect(gateway) as client:
        try:
            return client.sign_in(user, given) == SUCCESS
        except Ended:
            return False


def whose(client: RawClient, gateway: SshGateway) -> Document:
    """The log line of a client's session."""
    wait_until(lambda: bool(gateway.logged("session opened", client=client.name)), "the session's line")
    return gateway.logged("session opened", client=client.name)[0]


def refusal(gateway: SshGateway, client: RawClient) -> Document:
    """The one line that says why a client was sent away."""
    wait_until(
        lambda: bool(gateway.logged("connection refused", client=client.name)), "the line of the refusal"
    )
    lines = gateway.logged("connection refused", client=client.name)
    assert len(lines) == 1
    return lines[0]


# What is wrong with the certificate, and what the log says of it.
BAD_CERTIFICATES: list[tuple[str, dict[str, Any], str]] = [
    ("expired", {"valid_before": NOW - 1, "valid_after": NOW - HOUR}, "expired"),
    ("not valid yet", {"valid_after": NOW + HOUR, "valid_before": NOW + 2 * HOUR}, "valid only from"),
    ("never valid", {"valid_after": 0, "valid_before": 0}, "expired"),
    ("of another principal", {"principals": ["root", "deploy2", "eploy", "Deploy"]}, "principals"),
    ("of a pattern", {"principals": ["*", "deplo?"]}, "principals"),
    ("of the whole user name", {"principals": [USER]}, "principals"),
    ("of nobody", {"principals": []}, "no principals"),
    ("of an empty name", {"principals": [""]}, "principals"),
    ("of a host", {"kind": HOST}, "host certificate"),
    ("of an unknown kind", {"kind": 7}, "unknown type"),
    ("without a name", {"key_id": ""}, "name"),
    ("with a line break in its name", {"key_id": "alice\nmallory"}, "name"),
    ("with a terminal's escapes in its name", {"key_id": "alice\x1b[2J"}, "name"),
    ("with a name that is no text", {"key_id": b"alice\xff"}, "UTF-8"),
    ("for elsewhere", {"options": {"source-address": option("10.0.0.0/8,192.0.2.1")}}, "source-address"),
    ("for no address", {"options": {"source-address": option("nowhere")}}, "source-address"),
    ("with an unknown option", {"options": {"only-on-sundays": b""}}, "critical option"),
    ("with an option twice", {"options": [("force-command", option("id"))] * 2}, "twice"),
    ("with bytes behind it", {"trailing": b"x"}, "follows its end"),
]


@pytest.mark.parametrize(
    ("fields", "said"), [case[1:] for case in BAD_CERTIFICATES], ids=[case[0] for case in BAD_CERTIFICATES]
)
def test_a_bad_certificate(
    ssh_gateway: SshGateway, authority: Authority, alice: tuple[Key, bytes], fields: dict[str, Any], said: str
) -> None:
    """Neither looked at when it is offered, nor taken when it is signed with; then alice's own is."""
    key = Key.new()
    bad = key, authority.certify(key, **{"key_id": "alice", "principals": [LOGIN], **fields})
    with RawClient.connect(ssh_gateway) as client:
        assert client.offer(USER, bad[1]) == FAILURE
        assert client.sign_in(USER, bad) == FAILURE
        client.close()
        line = refusal(ssh_gateway, client)
        assert line["failure"] == "identity"
        assert said in line["reason"]
        assert "\x1b" not in line["reason"]
        assert "\n" not in line["reason"]
    with RawClient.connect(ssh_gateway) as client:
        assert client.sign_in(USER, bad) == FAILURE
        assert client.sign_in(USER, alice) == SUCCESS
        assert whose(client, ssh_gateway)["subject"] == "alice"


def test_keys_that_sign_but_may_not(
    ssh_gateway: SshGateway, authority: Authority, alice: tuple[Key, bytes], ssh_keys: SshKeys
) -> None:
    key, blob = alice
    mine = Key.new()
    stranger = Authority.new()
    tried = {
        "signed by a stranger": (mine, stranger.certify(mine, "alice", [LOGIN])),
        "signed by a stranger in the authority's name": (
            mine,
            stranger.certify(mine, "alice", [LOGIN], signer_blob=authority.blob),
        ),
        "signed by a user's key": (mine, Authority(key).certify(mine, "alice", [LOGIN])),
        "signed by a user's certificate": (
            mine,
            Authority(key).certify(mine, "alice", [LOGIN], signer_blob=blob),
        ),
        "the authority's own key": (authority.key, authority.blob),
        "a certificate for the authority": (
            authority.key,
            authority.certify(authority.key, "alice", [LOGIN]),
        ),
        "alice's key without its certificate": (key, key.blob),
        "a key of the target's users": (
            Key(asyncssh.read_private_key(ssh_keys.private("person"))),
            Key(asyncssh.read_private_key(ssh_keys.private("person"))).blob,
        ),
        "mallory's signature under alice's certificate": (mine, blob),
        "no key at all": (mine, string("ssh-ed25519")),
        "a certificate cut short": (mine, blob[:-40]),
        "a kind that nobody knows": (mine, string("ssh-quantum") + string("x" * 32)),
    }
    for what, given in tried.items():
        assert not is_let_in(ssh_gateway, USER, given), what
    assert is_let_in(ssh_gateway, USER, alice)


class TestSignatures:
    """A public-key offer is no proof, and a signature proves one request of one connection."""

    def test_an_offer_lets_nobody_in(self, ssh_gateway: SshGateway, alice: tuple[Key, bytes]) -> None:
        blob = alice[1]
        with RawClient.connect(ssh_gateway) as client:
            assert client.offer(USER, blob) == PK_OK
            assert client.offer(USER, blob) == PK_OK
            assert client.ask(USER, "none")[0] == FAILURE
            assert client.sign_in(USER, (Key.new(), blob)) == FAILURE
            client.send(b"\x5a" + string("session") + struct.pack(">III", 0, 1 << 20, 1 << 15))
            assert "before authentication" in client.until_end()
        assert refusal(ssh_gateway, client)["failure"] == "identity"

    def test_the_key_that_was_offered_is_not_the_one_that_signs(
        self, ssh_gateway: SshGateway, alice: tuple[Key, bytes], authority: Authority
    ) -> None:
        """Who signs is who comes in, whoever was asked about before."""
        mallory = Key.new()
        given = mallory, authority.certify(mallory, "mallory", [LOGIN])
        with RawClient.connect(ssh_gateway) as client:
            assert client.offer(USER, alice[1]) == PK_OK
            assert client.sign_in(USER, given) == SUCCESS
            channel = client.open_session()
            assert client.ask_channel(channel, "exec", string("id"))
            out, said, status = client.until_close(channel)
            assert (out, status) == (b"", 126)
            assert b'"mallory" has no access' in said

    def test_a_signature_of_another_connection(
        self, ssh_gateway: SshGateway, alice: tuple[Key, bytes]
    ) -> None:
        with RawClient.connect(ssh_gateway) as first, RawClient.connect(ssh_gateway) as second:
            seen = first.proof(USER, alice)
            first.send(seen)
            assert first.answer()[0] == SUCCESS
            second.send(seen)
            assert second.answer()[0] == FAILURE

    def test_a_signature_for_another_name_or_key(
        self, ssh_gateway: SshGateway, alice: tuple[Key, bytes], authority: Authority
    ) -> None:
        key, blob = alice
        other = authority.certify(key, "dora", [LOGIN])
        with RawClient.connect(ssh_gateway) as client:
            for proof in (
                client.proof(f"{LOGIN}+web2", alice, signed_as=USER),
                client.proof(USER, (key, other), blob=blob),
                _damaged(client.proof(USER, alice)),
                client.proof(USER, alice).replace(
                    b"\x01\0\0\0\x20ssh-ed25519-cert", b"\x01\0\0\0\x20ssh-ed25519-CERT"
                ),
            ):
                client.send(proof)
                assert client.answer()[0] == FAILURE
            assert client.sign_in(USER, alice) == SUCCESS

    def test_a_name_that_changes_while_an_attempt_is_under_way(
        self, ssh_gateway: SshGateway, alice: tuple[Key, bytes]
    ) -> None:
        """Sent in one piece: the session is that of the name that was signed."""
        with RawClient.connect(ssh_gateway) as client:
            none = auth_request("root+web1", "none")
            client.send(none, client.proof(USER, alice), none, none)
            assert client.answer()[0] == FAILURE
            assert client.answer()[0] == SUCCESS
            assert whose(client, ssh_gateway)["login"] == LOGIN

    def test_a_name_after_the_login(self, ssh_gateway: SshGateway, alice: tuple[Key, bytes]) -> None:
        """Requests after success are of no effect (RFC 4252, 5.3), and later an error."""
        with RawClient.logged_in(ssh_gateway) as client:
            client.send(auth_request("root+web1", "none"))
            assert client.run(b"echo in")[0] == b"in\n"
            assert whose(client, ssh_gateway)["login"] == LOGIN
            client.send(auth_request("root+web1", "none"))
            client.until_end()

    def test_too_many_wrong_signatures(self, ssh_gateway: SshGateway, alice: tuple[Key, bytes]) -> None:
        with RawClient.connect(ssh_gateway) as client:
            said = ""
            for _ in range(20):
                try:
                    assert client.sign_in(USER, (Key.new(), alice[1])) == FAILURE
                except Ended as ended:
                    said = ended.reason
                    break
            assert said == "Too many authentication failures"

    def test_endless_offers(self, ssh_gateway: SshGateway) -> None:
        with RawClient.connect(ssh_gateway) as client:
            offers = [
                auth_request(USER, "publickey", b"\0" + string("ssh-ed25519") + string(Key.new().blob))
            ] * 200
            client.send(*offers)
            assert client.until_end() == "Too many authentication failures"


def _damaged(request: bytes) -> bytes:
    return request[:-1] + bytes([request[-1] ^ 1])


class TestMethods:
    @pytest.mark.parametrize(
        ("method", "rest"),
        [
            ("none", b""),
            ("password", b"\0" + string("secret")),
            ("password", b"\1" + string("old") + string("new")),
            (
                "hostbased",
                string("ssh-ed25519") + string("x") + string("host") + string("root") + string("s"),
            ),
            ("gssapi-with-mic", struct.pack(">I", 1) + string(bytes.fromhex("06092a864886f712010202"))),
            ("gssapi-keyex", string("mic")),
            ("keyboard-interactive", string("") + string("")),
            (
                "publickey-hostbound-v00@openssh.com",
                b"\0" + string("ssh-ed25519") + string("x") + string("y"),
            ),
            ("something@example.com", b"whatever"),
            ("", b""),
        ],
    )
    def test_another_method(
        self, ssh_gateway: SshGateway, alice: tuple[Key, bytes], method: str, rest: bytes
    ) -> None:
        with RawClient.connect(ssh_gateway) as client:
            answer = client.ask(USER, method, rest)
            assert answer[0] == FAILURE
            assert strings_before(answer[1:], 1) == [b"publickey"]
            assert client.sign_in(USER, alice) == SUCCESS

    @pytest.mark.parametrize(
        "payload",
        [
            auth_request(USER, "none", service="ssh-userauth"),
            auth_request(USER, "none", service="root-shell"),
            auth_request(USER, "publickey", b"\2"),
            auth_request(USER, "publickey", b"\0" + string("ssh-ed25519")),
            auth_request(USER, "none")[:-2],
            bytes([SUCCESS]),
            bytes([FAILURE]) + string("publickey") + b"\1",
            bytes([INFO_RESPONSE]) + struct.pack(">I", 1) + string("123456"),
            bytes([INFO_RESPONSE]) + struct.pack(">I", 0xFFFFFFFF),
            bytes([80]) + string("keepalive@openssh.com") + b"\1",
            bytes([94]) + struct.pack(">I", 0) + string("data"),
            bytes([98]) + struct.pack(">I", 0) + string("exec") + b"\1" + string("id"),
        ],
    )
    def test_what_does_not_belong_here(self, ssh_gateway: SshGateway, payload: bytes) -> None:
        """What only a server says, what comes after the login, what is not whole: never a way in."""
        with RawClient.connect(ssh_gateway) as client:
            client.send(payload)
            try:
                assert client.answer()[0] == FAILURE
            except Ended:
                assert refusal(ssh_gateway, client)["failure"] in {"protocol", "identity"}

    def test_openssh_with_a_password_alone(self, ssh_gateway: SshGateway, tmp_path: Path) -> None:
        route = ssh_gateway.route().with_options(tmp_path, PreferredAuthentications="password,hostbased")
        done = route.ssh("id", status=LOST)
        assert b"Permission denied (publickey)" in done.stderr


# A user name, and how the log may show it; alice signs in with each as it stands.
NAMES = [
    "",
    "+",
    "+web1",
    "deploy+",
    "deploy++web1",
    "deploy+web1+web1",
    "deploy+../web1",
    "deploy+web1/../../etc/passwd",
    "../../tmp/x+web1",
    "/deploy+web1",
    "..+web1",
    "deploy+..",
    "deploy\n+web1",
    "deploy+web1\n",
    "deploy+web1\r\nsession opened",
    "deploy\0+web1",
    "deploy+web1\0",
    "deploy +web1",
    "-oProxyCommand=id+web1",
    "deploy+web1\x1b[2J\x07",
    "deploy+web1\u202e",
    "deploy+web1\u00ad",  # SASLprep takes a soft hyphen away
    "\uff44eploy+web1",  # and makes fullwidth letters plain
    "deploy\uff0bweb1",
    "deploy+web\u2460",
    "deploy+w\u0435b1",  # a Cyrillic letter
    "d" * 250 + "+web1",
    "deploy+" + "w" * 10_000,
    "\u202e" * 1000,
    "deploy%00+web1",
    "deploy+${HOME}",
    "deploy+web1;id",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:30]))
def test_a_user_name_that_is_none(ssh_gateway: SshGateway, authority: Authority, name: str) -> None:
    """Also with a certificate whose principal is what is asked for, letter by letter."""
    key = Key.new()
    given = key, authority.certify(key, "alice", [LOGIN, name, name.partition("+")[0]])
    begun = ssh_gateway.daemon.log_path.stat().st_size  # the gateway is shared, and so is its log
    files = sorted(path.parent for path in ssh_gateway.tapes())
    with RawClient.connect(ssh_gateway) as client:
        try:
            assert client.sign_in(name, given) == FAILURE
        except Ended as ended:
            assert len(ended.reason) < 500
        client.close()
        refusal(ssh_gateway, client)
    assert sorted(path.parent for path in ssh_gateway.tapes()) == files
    raw = ssh_gateway.daemon.log_path.read_bytes()[begun:]
    assert b"\x1b" not in raw
    assert b"\x07" not in raw
    assert all(json.loads(line) and len(line) < 4096 for line in raw.decode().splitlines())


@pytest.mark.parametrize("name", [b"deploy\xff+web1", b"\xc0\xafdeploy+web1", b"\xed\xa0\x80+web1"])
def test_a_user_name_that_is_no_text(ssh_gateway: SshGateway, alice: tuple[Key, bytes], name: bytes) -> None:
    with RawClient.connect(ssh_gateway) as client:
        client.send(auth_request(name, "none"))
        try:
            assert client.answer()[0] == FAILURE
        except Ended:
            refusal(ssh_gateway, client)
    assert is_let_in(ssh_gateway, USER, alice)


class TestPermits:
    """What a certificate demands or leaves out."""

    def test_a_command_of_its_own(
        self, ssh_gateway: SshGateway, authority: Authority, tmp_path: Path
    ) -> None:
        """It runs whatever was asked for: a command, a shell, a file transfer."""
        key = Key.new()
        blob = authority.certify(
            key, "alice", [LOGIN], options={"force-command": option("echo forced; cat; exit 7")}
        )
        with RawClient.connect(ssh_gateway) as client:
            assert client.sign_in(USER, (key, blob)) == SUCCESS
            for name, body in (
                ("exec", string("touch /tmp/never")),
                ("shell", b""),
                ("subsystem", string("sftp")),
                ("subsystem", string("nosuch")),
            ):
                channel = client.open_session()
                assert client.ask_channel(channel, name, body)
                client.send(b"\x60" + struct.pack(">I", client.peers[channel]))
                assert client.until_close(channel)[::2] == (b"forced\n", 7), name

    def test_a_command_of_its_own_is_judged_too(
        self, make_ssh_gateway: SshGatewayFactory, authority: Authority
    ) -> None:
        gateway = make_ssh_gateway(policy=policy("allow", '{shell: true, exec: ["echo *"], files: ["*"]}'))
        key = Key.new()
        blob = authority.certify(key, "alice", [LOGIN], options={"force-command": option("touch /tmp/x")})
        with RawClient.connect(gateway) as client:
            assert client.sign_in(USER, (key, blob)) == SUCCESS
            for name, body in (("exec", string("echo hello")), ("shell", b""), ("subsystem", string("sftp"))):
                channel = client.open_session()
                assert client.ask_channel(channel, name, body)
                out, said, status = client.until_close(channel)
                assert (out, status) == (b"", 126)
                assert b"touch" in said

    def test_no_extensions(self, ssh_gateway: SshGateway, authority: Authority) -> None:
        """No terminal, no forwarding, no agent, no display; commands all the same."""
        key = Key.new()
        blob = authority.certify(key, "alice", [LOGIN], extensions=())
        where = string("127.0.0.1") + struct.pack(">I", ssh_gateway.server.port)
        with RawClient.connect(ssh_gateway) as client:
            assert client.sign_in(USER, (key, blob)) == SUCCESS
            channel = client.open_session()
            pty = string("xterm") + struct.pack(">IIII", 80, 24, 0, 0) + string(b"\0")
            assert not client.ask_channel(channel, "pty-req", pty)
            assert not client.ask_channel(channel, "auth-agent-req@openssh.com")
            display = b"\0" + string("MIT-MAGIC-COOKIE-1") + string("00" * 16) + struct.pack(">I", 0)
            assert not client.ask_channel(channel, "x11-req", display)
            said = client.open("direct-tcpip", where + string("127.0.0.1") + struct.pack(">I", 1))
            assert "does not permit port forwarding" in str(said)
            path = string("/tmp/x") + string("") + struct.pack(">I", 0)
            assert "does not permit" in str(client.open("direct-streamlocal@openssh.com", path))
            client.send(b"\x50" + string("tcpip-forward") + b"\1" + string("") + struct.pack(">I", 0))
            assert client.receive()[0] == 82
            assert client.ask_channel(channel, "exec", string("tty"))
            assert client.until_close(channel)[0] == b"not a tty\n"

    def test_from_here(self, ssh_gateway: SshGateway, authority: Authority) -> None:
        key = Key.new()
        for networks in ("127.0.0.0/8", "10.0.0.0/8,127.1.0.0/16"):
            blob = authority.certify(key, "alice", [LOGIN], options={"source-address": option(networks)})
            assert is_let_in(ssh_gateway, USER, (key, blob))


def policy(effect: str, section: str, more: str = "") -> str:
    return f"""\
version: 1
roles:
  operator: {{groups: [operators]}}
access:
  - name: everywhere
    roles: [operator]
    targets: {{protocol: ssh}}
    logins: [deploy]
rules:
  - name: rule
    effect: {effect}
    roles: [operator]
    ssh: {section}
{more}"""


# Keys and codes in a row


PERSONS = ("bob", "carol", "erin", "frank", "grace")
SECRET = base64.b32encode(b"0123456789abcdefghij").decode()


def code(step: int, secret: str = SECRET) -> str:
    """RFC 6238, by hand."""
    digest = hmac.digest(base64.b32decode(secret), struct.pack(">Q", step), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06d}"


def current_step() -> int:
    return int(time.time()) // 30


@pytest.fixture(scope="module")
def people() -> dict[str, Key]:
    return {name: Key.new() for name in (*PERSONS, "revoked", "uncoded")}


@pytest.fixture(scope="module")
def factors_gateway(
    sshd: SshServer, ssh_keys: SshKeys, people: dict[str, Key], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    """A key and then a code; a certificate alone; some are revoked."""
    directory = tmp_path_factory.mktemp("factors")
    (directory / "totp").touch(0o600)
    (directory / "totp").write_text(SECRET + "\n")
    gone = Key.new()
    people["gone"] = gone
    (directory / "revoked").write_text(f"{people['revoked'].line}\n{gone.line}\n")

    def adjust(config: Document) -> None:
        listener = config["listeners"][0]
        listener["factors"] = [["certificate"], ["public_key", "totp"]]
        listener["revoked_keys"] = str(directory / "revoked")
        for name in (*PERSONS, "revoked"):
            config["identity"]["people"].append(
                {
                    "name": name,
                    "groups": ["operators"],
                    "keys": [people[name].line],
                    "totp": {"file": str(directory / "totp")},
                }
            )
        config["identity"]["people"].append(
            {"name": "uncoded", "groups": ["operators"], "keys": [people["uncoded"].line]}
        )

    with SshGateway(sshd, directory / "gateway", ssh_keys, adjust=adjust) as gateway:
        yield gateway


def plain(key: Key) -> tuple[Key, bytes]:
    return key, key.blob


def show_key(client: RawClient, user: str, key: Key) -> None:
    """The first of two factors."""
    client.send(client.proof(user, plain(key)))
    answer = client.answer()
    assert answer[0] == FAILURE
    assert answer[-1:] == b"\1", "partial success"
    assert strings_before(answer[1:], 1) == [b"keyboard-interactive"]


def ask_for_code(client: RawClient, user: str = USER) -> bytes:
    return client.ask(user, "keyboard-interactive", string("") + string(""))


def give(client: RawClient, *answers: str) -> int:
    client.send(bytes([INFO_RESPONSE]) + struct.pack(">I", len(answers)) + b"".join(map(string, answers)))
    return client.answer()[0]


class TestFactors:
    def test_both_and_no_code_twice(self, factors_gateway: SshGateway, people: dict[str, Key]) -> None:
        step = current_step()
        with RawClient.connect(factors_gateway) as client:
            show_key(client, USER, people["bob"])
            assert ask_for_code(client)[0] == INFO_REQUEST
            assert give(client, code(step)) == SUCCESS
            assert client.run(b"echo in")[0] == b"in\n"
            assert whose(client, factors_gateway)["subject"] == "bob"
        with RawClient.connect(factors_gateway) as client:
            show_key(client, USER, people["bob"])
            for used in (step, step - 1):
                assert ask_for_code(client)[0] == INFO_REQUEST
                assert give(client, code(used)) == FAILURE
            assert ask_for_code(client)[0] == INFO_REQUEST
            assert give(client, code(step + 1)) == SUCCESS

    def test_no_factor_is_left_out_or_taken_twice(
        self, factors_gateway: SshGateway, people: dict[str, Key]
    ) -> None:
        key = people["carol"]
        with RawClient.connect(factors_gateway) as client:
            assert ask_for_code(client)[0] == FAILURE  # the code first
            show_key(client, USER, key)
            for _ in range(3):  # the key again
                assert client.sign_in(USER, plain(key)) == FAILURE
            assert client.ask(USER, "none")[0] == FAILURE
            client.send(b"\x5a" + string("session") + struct.pack(">III", 0, 1 << 20, 1 << 15))
            assert "before authentication" in client.until_end()

    def test_a_code_before_anything_else(self, factors_gateway: SshGateway) -> None:
        with RawClient.connect(factors_gateway) as client:
            client.send(bytes([INFO_RESPONSE]) + struct.pack(">I", 1) + string(code(current_step())))
            assert client.until_end() == "Authentication not in progress"

    def test_answers_that_nobody_asked_for(self, factors_gateway: SshGateway, people: dict[str, Key]) -> None:
        right = code(current_step())
        with RawClient.connect(factors_gateway) as client:
            show_key(client, USER, people["erin"])
            for answers in ((), (right, right), ("",), (right + "0",), ("\uff11" * 6,)):
                assert ask_for_code(client)[0] == INFO_REQUEST
                assert give(client, *answers) == FAILURE

    def test_the_name_changes_between_the_factors(
        self, factors_gateway: SshGateway, people: dict[str, Key]
    ) -> None:
        """What was proved under one name is forgotten at the first word about another."""
        right = code(current_step())
        with RawClient.connect(factors_gateway) as client:
            show_key(client, USER, people["frank"])
            assert ask_for_code(client, "root+web1")[0] == FAILURE
            assert ask_for_code(client)[0] == FAILURE
            show_key(client, USER, people["frank"])
            assert ask_for_code(client)[0] == INFO_REQUEST
            assert client.ask("root+web1", "none")[0] == FAILURE
            client.send(bytes([INFO_RESPONSE]) + struct.pack(">I", 1) + string(right))
            try:
                assert client.answer()[0] != SUCCESS
                assert ask_for_code(client)[0] == FAILURE
            except Ended:
                pass
        with RawClient.connect(factors_gateway) as client:  # the code was not used up
            show_key(client, USER, people["frank"])
            assert ask_for_code(client)[0] == INFO_REQUEST
            assert give(client, right) == SUCCESS

    def test_the_key_of_one_and_the_code_of_another(
        self, factors_gateway: SshGateway, people: dict[str, Key]
    ) -> None:
        """A second key does not change whose code is asked for."""
        with RawClient.connect(factors_gateway) as client:
            show_key(client, USER, people["grace"])
            assert client.sign_in(USER, plain(people["bob"])) == FAILURE
            assert ask_for_code(client)[0] == INFO_REQUEST
            assert give(client, code(current_step())) == SUCCESS
            assert whose(client, factors_gateway)["subject"] == "grace"

    def test_who_has_no_codes_is_not_let_in_without(
        self, factors_gateway: SshGateway, people: dict[str, Key]
    ) -> None:
        with RawClient.connect(factors_gateway) as client:
            assert client.offer(USER, people["uncoded"].blob) == FAILURE
            assert client.sign_in(USER, plain(people["uncoded"])) == FAILURE

    def test_a_prompt_for_ever(self, factors_gateway: SshGateway, people: dict[str, Key]) -> None:
        """Asking and asking, with no answer: it ends, and costs nobody else anything."""
        with RawClient.connect(factors_gateway) as client:
            show_key(client, USER, people["bob"])
            asks = auth_request(USER, "keyboard-interactive", string("") + string(""))
            client.send(*[asks] * 300)
            assert client.until_end() == "Too many authentication failures"

    def test_revoked(self, factors_gateway: SshGateway, people: dict[str, Key], authority: Authority) -> None:
        gone = people["gone"]
        assert not is_let_in(factors_gateway, USER, plain(people["revoked"]))
        certified = gone, authority.certify(gone, "alice", [LOGIN])
        assert not is_let_in(factors_gateway, USER, certified)


class TestFiles:
    """Files of trust that are empty or wrong let nobody in, and a reload with them changes nothing."""

    def test_authorities(self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path) -> None:
        path = tmp_path / "authorities"
        gateway = make_ssh_gateway(adjust=lambda config: _use(config, "client_ca", path))
        given = credential(gateway)
        private = given[0].key.export_private_key("openssh").decode()
        for content in ("# nobody\n", "ssh-ed25519\n", line(given[1]), private, ""):
            path.write_text(content)
            assert not gateway.reload()
            assert is_let_in(gateway, USER, given)
        done = gateway.proxyd("check", "--config", str(gateway.config_path), check=False)
        assert done.returncode == 1
        assert f"{path}: lists no key" in done.stdout + done.stderr

    def test_revocation_counts_from_the_reload_on(
        self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path
    ) -> None:
        path = tmp_path / "revoked"
        path.write_text("")
        gateway = make_ssh_gateway(
            adjust=lambda config: config["listeners"][0].update(revoked_keys=str(path))
        )
        given = credential(gateway)
        assert is_let_in(gateway, USER, given)
        path.write_text("not a key\n")
        assert not gateway.reload()
        assert is_let_in(gateway, USER, given)
        path.write_text(given[0].line + "\n")
        assert gateway.reload()
        assert not is_let_in(gateway, USER, given)


def _use(config: Document, key: str, path: Path) -> None:
    """Let the listener read a copy of a file."""
    path.write_text(Path(config["listeners"][0][key]).read_text())
    config["listeners"][0][key] = str(path)
