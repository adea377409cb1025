"""Bad input to the SSH door from strangers: they stall, flood, or send what is no SSH. Each is sent away with a line in
the log, and nobody else waits for them. What sessions do that are let in is in the tests of threats.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import struct
import threading
from collections.abc import Callable, Iterator

import asyncssh
import pytest

from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.running import HOST, WAIT_S, Document, wait_until
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_raw import (
    FAILURE,
    USER,
    RawClient,
    auth_request,
)
from tests.end_to_end.ssh_wire import (
    DEBUG,
    IGNORE,
    KEX_INIT,
    KEXINIT,
    NEWKEYS,
    SERVICE_REQUEST,
    UNIMPLEMENTED,
    Ended,
)
from tests.ssh_pki import Key, string

LOST = 255
PATIENT = "patient"
GROWTH_KIB = 64 * 1024
"""What the daemon may take for everything that a test does at once."""

Action = Callable[[RawClient], object]


def uint32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


@contextlib.contextmanager
def flat(gateway: SshGateway, growth_kib: int = GROWTH_KIB) -> Iterator[Callable[[], None]]:
    """The daemon's memory stays where it is: looked at when the block says so, and at its end."""
    before = gateway.daemon.memory_kib()

    def check() -> None:
        grown = gateway.daemon.memory_kib() - before
        assert grown < growth_kib, f"{grown} KiB more"

    yield check
    check()


def refusals(gateway: SshGateway, client: RawClient) -> list[Document]:
    return gateway.logged("connection refused", client=client.name)


def is_served(gateway: SshGateway, *options: str) -> bool:
    return gateway.route().output("echo served", *options) == "served\n"


# Strangers


@pytest.fixture(scope="module")
def hasty_gateway(
    sshd: SshServer, ssh_keys: SshKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    """Gives three seconds to log in; at its other listener somebody who is held up by others has a minute."""

    def adjust(config: Document) -> None:
        listener = config["listeners"][0]
        patient = copy.deepcopy(listener) | {"name": PATIENT}
        patient["limits"]["handshake_timeout"] = "60s"
        config["listeners"].insert(0, patient)
        listener["limits"] |= {"handshake_timeout": "3s", "connections": 400}
        listener["factors"] = [["certificate"], ["public_key", "totp"]]
        config["identity"]["people"].append(
            {"name": "bob", "keys": [ssh_keys.public("bob")], "totp": {"file": str(secret)}}
        )

    directory = tmp_path_factory.mktemp("hasty")
    secret = directory / "totp"
    secret.touch(0o600)
    secret.write_text("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n")
    with SshGateway(sshd, directory / "gateway", ssh_keys, adjust=adjust) as gateway:
        yield gateway


def _half_of_the_keys(client: RawClient) -> None:
    client.greet()
    client.send_raw(client.packet(client.kexinit())[:-7])


def _keys_without_an_end(client: RawClient) -> None:
    client.greet()
    client.send(client.kexinit())


def _no_new_keys(client: RawClient) -> None:
    _keys_without_an_end(client)
    client.send(bytes([KEX_INIT]) + string(b"\x09" + bytes(31)))


def _service_alone(client: RawClient) -> None:
    client.greet()
    client.exchange_keys()
    client.send(bytes([SERVICE_REQUEST]) + string("ssh-userauth"))


def _offer(client: RawClient) -> None:
    _service_alone(client)
    client.send(auth_request(USER, "publickey", b"\0" + string("ssh-ed25519") + string(Key.new().blob)))


STALLS: list[Action] = [
    lambda client: None,
    lambda client: client.send_raw(b"SSH-2."),
    lambda client: client.send_raw(b"SSH-2.0-nobody"),
    lambda client: client.send_raw(b"SSH-2.0-nobody\r\n"),
    _half_of_the_keys,
    _keys_without_an_end,
    _no_new_keys,
]
SLOW_STALLS: list[Action] = [_service_alone, _offer]


def test_two_hundred_who_stall_are_sent_away_and_nobody_waits_for_them(
    hasty_gateway: SshGateway, ssh_keys: SshKeys
) -> None:
    gateway = hasty_gateway
    clients: list[RawClient] = []
    with flat(gateway) as check, contextlib.ExitStack() as stack:
        for stall in itertools.islice(itertools.cycle(STALLS), 200):
            clients.append(stack.enter_context(RawClient.plain(gateway)))
            stall(clients[-1])
        for stall in SLOW_STALLS:
            clients.append(stack.enter_context(RawClient.plain(gateway)))
            stall(clients[-1])
        clients.append(stack.enter_context(_asked_for_a_code(gateway, ssh_keys)))
        check()
        assert is_served(gateway)
        for client in clients:
            client.read_to_end()
    names = {client.name for client in clients}
    wait_until(lambda: len(_timeouts(gateway, names)) == len(clients), "a line for each")


def _asked_for_a_code(gateway: SshGateway, keys: SshKeys) -> RawClient:
    """A client that has shown the first of two factors, and does not answer the question for the second."""
    bob = Key(asyncssh.read_private_key(keys.private("bob")))
    client = RawClient.connect(gateway)
    client.send(client.proof(USER, (bob, bob.blob)))
    assert client.answer()[0] == FAILURE
    client.send(auth_request(USER, "keyboard-interactive", string("") + string("")))
    return client


def _timeouts(gateway: SshGateway, clients: set[str]) -> list[str]:
    lines = gateway.logged("connection refused", failure="timeout")
    found = [line["client"] for line in lines if line["client"] in clients]
    assert len(found) == len(set(found)), "one line each"
    return found


# What a stranger sends again and again, once keys are exchanged.
FLOODS = {
    "messages to be ignored": bytes([IGNORE]) + string(b""),
    "long messages to be ignored": bytes([IGNORE]) + string(bytes(30_000)),
    "debug messages": bytes([DEBUG]) + b"\1" + string("x" * 200) + string(""),
    "unknown messages": bytes([15]),
    "unimplemented": bytes([UNIMPLEMENTED]) + uint32(1),
    "attempts without a method": auth_request(USER, "none"),
    "attempts under ever other names": auth_request("a" * 200, "none"),
    "passwords": auth_request(USER, "password", b"\0" + string("x" * 1000)),
    "questions for codes": auth_request(USER, "keyboard-interactive", string("") + string("")),
    "certificates": auth_request(
        USER, "publickey", b"\0" + string("ssh-ed25519-cert-v01@openssh.com") + string(bytes(20_000))
    ),
}


def test_strangers_who_flood_are_sent_away_and_nobody_waits_for_them(hasty_gateway: SshGateway) -> None:
    """None of them reads what it is answered."""
    gateway = hasty_gateway
    patient = gateway.logged("listening", listener=PATIENT)[0]["address"].rpartition(":")[2]
    there = ("-p", patient, "-o", f"HostKeyAlias=[{HOST}]:{gateway.port}")
    clients = [RawClient.connect(gateway) for _ in FLOODS]

    def flood(client: RawClient, payload: bytes) -> None:
        # A hundred in one piece, the sequence numbers and nonces counted up as it goes.
        with contextlib.suppress(OSError):
            while True:
                client.send(*[payload] * 100)

    with flat(gateway):
        threads = [
            threading.Thread(target=flood, args=pair) for pair in zip(clients, FLOODS.values(), strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            assert is_served(gateway, *there)
        finally:
            for thread in threads:
                thread.join(WAIT_S)
    for client, what in zip(clients, FLOODS, strict=True):
        wait_until(lambda client=client: bool(refusals(gateway, client)), f"the line about {what}")  # type: ignore[misc]
        assert len(refusals(gateway, client)) == 1
        client.close()


# What strangers send instead of SSH, and what the log says of it.
NOT_SSH: dict[str, tuple[bytes, str]] = {
    "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "Unsupported SSH version"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600) + b"\n", "Unsupported SSH version"),
    "the first version": (b"SSH-1.5-old\r\n", "Unsupported SSH version"),
    "lines before the version": (b"hello\r\n" * 3 + b"SSH-2.0-x\r\n", "Unsupported SSH version"),
    "an endless line": (b"x" * 9000, "Banner line too long"),
    "an endless version": (b"SSH-2.0-" + b"x" * 4000 + b"\r\n", "Version too long"),
    "a version that is no text": (b"SSH-2.0-\xff\x1b[2J\r\n", "cannot be handled"),
    "a PROXY header": (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nSSH-2.0-x\r\n", "Unsupported SSH version"),
    "a huge packet": (b"SSH-2.0-x\r\n" + b"\x7f\xff\xff\xff" + bytes(100), "Max packet size exceeded"),
    "a packet of minus one": (
        b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xff" + bytes(100),
        "Max packet size exceeded",
    ),
    "an empty packet": (b"SSH-2.0-x\r\n" + bytes(64), "cannot be handled"),
    "nothing but padding": (b"SSH-2.0-x\r\n" + uint32(12) + b"\xff" + bytes(11), "cannot be handled"),
    "keys torn off": (
        b"SSH-2.0-x\r\n" + uint32(12) + b"\4" + bytes([KEXINIT]) + bytes(10),
        "cannot be handled",
    ),
    "new keys before any": (
        b"SSH-2.0-x\r\n" + uint32(12) + b"\12" + bytes([NEWKEYS]) + bytes(10),
        "New keys",
    ),
    "a request in clear": (
        b"SSH-2.0-x\r\n"
        + uint32(28)
        + b"\12"
        + bytes([SERVICE_REQUEST])
        + string("ssh-userauth")
        + bytes(10),
        "before kex complete",
    ),
    "a login in clear": (
        b"SSH-2.0-x\r\n" + uint32(12) + b"\12" + bytes([50]) + bytes(10),
        "before key exchange was complete",
    ),
}


@pytest.mark.parametrize(("data", "said"), NOT_SSH.values(), ids=NOT_SSH.keys())
def test_what_is_no_ssh_ends_the_connection_with_a_line(
    ssh_gateway: SshGateway, data: bytes, said: str
) -> None:
    with RawClient.plain(ssh_gateway) as client:
        client.send_raw(data)
        client.read_to_end()
        wait_until(lambda: bool(refusals(ssh_gateway, client)), "the line")
    [line] = refusals(ssh_gateway, client)
    assert line["failure"] == "protocol"
    assert said in line["reason"]
    assert b"\x1b" not in ssh_gateway.daemon.log_path.read_bytes()


EXCHANGES: dict[str, Action] = {
    "no algorithm in common": lambda client: client.send(client.kexinit("diffie-hellman-group1-sha1")),
    "a key for each stranger": lambda client: client.send(client.kexinit("rsa2048-sha256")),
    "a group of the client's choice": lambda client: client.send(
        client.kexinit("diffie-hellman-group-exchange-sha256")
    ),
    "compression": lambda client: client.send(client.kexinit().replace(string("none"), string("zlib"))),
    "compression after the login": lambda client: client.send(
        client.kexinit().replace(string("none"), string("zlib@openssh.com"))
    ),
    "no cipher": lambda client: client.send(
        client.kexinit().replace(b"aes128-gcm@openssh.com", b"none-------@openssh.com"[:22])
    ),
    "a point of small order": lambda client: client.send(
        client.kexinit(), bytes([KEX_INIT]) + string(bytes(32))
    ),
    "half a point": lambda client: client.send(client.kexinit(), bytes([KEX_INIT]) + string(bytes(16))),
    "no point": lambda client: client.send(client.kexinit(), bytes([KEX_INIT])),
    "keys twice": lambda client: client.send(client.kexinit(), client.kexinit()),
    "a word slipped into a strict exchange (Terrapin)": lambda client: client.send(
        client.kexinit("curve25519-sha256,kex-strict-c-v00@openssh.com"), bytes([IGNORE]) + string("")
    ),
    "fifty thousand names": lambda client: client.send(client.kexinit(",".join(["kex"] * 50_000))),
}


@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES.keys())
def test_a_key_exchange_that_cannot_be(ssh_gateway: SshGateway, exchange: Action) -> None:
    with RawClient.plain(ssh_gateway) as client:
        client.greet()
        exchange(client)
        with contextlib.suppress(Ended):
            while client.receive_any():
                pass
        wait_until(lambda: bool(refusals(ssh_gateway, client)), "the line")
    assert refusals(ssh_gateway, client)[0]["failure"] == "protocol"
