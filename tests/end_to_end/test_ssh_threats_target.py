"""A target that is somebody else's by now: it opens what was not asked for, lies about channels, floods, and leaves in
the middle. The client gets nothing of it that it did not ask for, and is told; other sessions never notice.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from demo.sshd import SshServer
from protocols.ssh import messages as wire
from protocols.ssh.sftp import Kind
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_raw import PACKET, WINDOW, Conversation, RawClient, RawTarget
from tests.end_to_end.ssh_wire import IGNORE, KEX_INIT, Ended, Wire, strings_before
from tests.ssh_pki import Key, string

LOST = 255
NUMBER = wire.Number
GROWTH_KIB = 48 * 1024
Messages = Callable[[int], list[bytes]]


def uint32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


@pytest.fixture(scope="module")
def target() -> Iterator[RawTarget]:
    with RawTarget() as target:
        yield target


@pytest.fixture(scope="module")
def gateway(
    target: RawTarget, ssh_gateway: SshGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    """Before the raw target; `web2` is a real one."""

    def adjust(config: Document) -> None:
        known_hosts = directory / "known_hosts_web2"
        real = ssh_gateway.server
        known_hosts.write_text(real.known_hosts_line + "\n")
        other = copy.deepcopy(config["targets"][0])
        other |= {"name": "web2", "address": f"{real.host}:{real.port}"}
        other["host_keys"] = {"known_hosts": str(known_hosts)}
        other["logins"] = [{"name": "deploy", "user": real.login, "certificate": True}]
        config["targets"].append(other)
        config["targets"][0]["connect_timeout"] = "3s"

    directory = tmp_path_factory.mktemp("target")
    server = cast(SshServer, target)  # as far as a gateway looks at it
    with SshGateway(server, directory, ssh_gateway.keys, adjust=adjust) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def session_beside(gateway: SshGateway) -> Iterator[tuple[RawClient, int]]:
    with RawClient.logged_in(gateway, user="deploy+web2") as client:
        channel = client.open_session()
        assert client.ask_channel(channel, "exec", string("cat"))
        yield client, channel


@pytest.fixture(autouse=True)
def neighbour(
    gateway: SshGateway, session_beside: tuple[RawClient, int], target: RawTarget
) -> Iterator[None]:
    """After each test a session with another target goes on as if nothing had been, and the memory is where it was."""
    client, channel = session_beside
    before = gateway.daemon.memory_kib()
    target.greeting = lambda target: None
    yield
    client.send(wire.channel_data(client.peers[channel], b"still here"))
    while (payload := client.receive())[0] != NUMBER.CHANNEL_DATA:
        pass
    assert payload[9:] == b"still here"
    grown = gateway.daemon.memory_kib() - before
    assert grown < GROWTH_KIB, f"{grown} KiB more"
    assert not gateway.logged("a session failed")
    assert b"\x1b" not in gateway.daemon.log_path.read_bytes()


# What a target does


def accept_session(target: Wire) -> int:
    """Let the gateway have a session and whatever it asks on it; the gateway's number of the channel."""
    while True:
        payload = target.receive()
        if payload[0] == NUMBER.CHANNEL_OPEN:
            (kind,) = strings_before(payload[1:], 1)
            (number,) = struct.unpack_from(">I", payload, 5 + len(kind))
            target.send(wire.open_confirmation(number, 0, WINDOW, PACKET))
        elif payload[0] == NUMBER.CHANNEL_REQUEST:
            target.send(wire.channel_success(number))
            return int(number)


def say(target: Wire, number: int, *messages: bytes) -> None:
    """These, then a word and the end of the channel."""
    with contextlib.suppress(OSError):
        target.send(*messages)
        target.send(
            wire.channel_data(number, b"<end>"),
            wire.channel_request(number, "exit-status", False, uint32(0)),
            wire.channel_eof(number),
            wire.channel_close(number),
        )


def until_it_ends(target: Wire) -> list[bytes]:
    """Everything that the gateway still sends."""
    found = []
    with contextlib.suppress(Ended, OSError):
        while True:
            found.append(target.receive())
    return found


def saying(messages: Messages, heard: list[bytes] | None = None) -> Conversation:
    """A target that runs a command by saying these messages, and keeps what it hears after them."""

    def conversation(target: Wire) -> None:
        number = accept_session(target)
        say(target, number, *messages(number))
        (heard if heard is not None else []).extend(until_it_ends(target))

    return conversation


def ending(gateway: SshGateway, client: RawClient) -> Document:
    wait_until(lambda: bool(gateway.logged("session ended", client=client.name)), "the end of the session")
    return gateway.logged("session ended", client=client.name)[0]


# Channels and requests that nobody asked for


OPENS = {
    "forwarded-tcpip": string("127.0.0.1") + uint32(8080) + string("127.0.0.1") + uint32(1),
    "forwarded-streamlocal@openssh.com": string("/tmp/x.sock") + string(""),
    "auth-agent@openssh.com": b"",
    "x11": string("127.0.0.1") + uint32(6000),
    "session": b"",
    "direct-tcpip": string("127.0.0.1") + uint32(22) + string("127.0.0.1") + uint32(1),
    "direct-streamlocal@openssh.com": string("/run/x") + string("") + uint32(0),
    "tun@openssh.com": uint32(1, 1),
    "x" * 60: b"",
}


def test_channels_that_nobody_asked_for(gateway: SshGateway, target: RawTarget) -> None:
    """A thousand of each kind: all are refused, and the client never hears of one."""
    heard: list[bytes] = []
    opens = [
        wire.channel_open(kind, number, WINDOW, PACKET, body)
        for number, (kind, body) in enumerate(OPENS.items())
    ]
    target.conversation = saying(lambda number: opens * 1000, heard)
    with RawClient.logged_in(gateway) as client:
        channel = client.open_session()
        assert client.ask_channel(channel, "exec", string("x"))
        seen = []
        while (payload := client.receive())[0] != NUMBER.CHANNEL_CLOSE:
            seen.append(payload[0])
        assert NUMBER.CHANNEL_OPEN not in seen
    wait_until(lambda: len(heard) > 0, "the target's end")
    assert [payload[0] for payload in heard].count(NUMBER.CHANNEL_OPEN_FAILURE) == 1000 * len(opens)


def test_global_requests_of_a_target(gateway: SshGateway, target: RawTarget) -> None:
    """Each is answered by the gateway with a no; none reaches the client, host keys least of all."""
    heard: list[bytes] = []
    requests = [
        wire.global_request(name, True, body)
        for name, body in (
            ("hostkeys-00@openssh.com", string(Key.new().blob)),
            ("tcpip-forward", string("127.0.0.1") + uint32(22)),
            ("streamlocal-forward@openssh.com", string("/tmp/x")),
            ("no-more-sessions@openssh.com", b""),
            ("x@example.com", bytes(20_000)),
        )
    ]
    target.conversation = saying(lambda number: requests * 500, heard)
    with RawClient.logged_in(gateway) as client:
        channel = client.open_session()
        assert client.ask_channel(channel, "exec", string("x"))
        while (payload := client.receive())[0] != NUMBER.CHANNEL_CLOSE:
            assert payload[0] != NUMBER.GLOBAL_REQUEST
    wait_until(lambda: len(heard) > 0, "the target's end")
    assert [payload[0] for payload in heard].count(NUMBER.REQUEST_FAILURE) == 500 * len(requests)


def test_an_agent_that_was_not_asked_for_on_this_connection(gateway: SshGateway, target: RawTarget) -> None:
    """What one session has asked for is nothing to another one with the same target."""
    answers: list[int] = []

    def conversation(target: Wire) -> None:
        number = accept_session(target)
        target.send(wire.channel_open("auth-agent@openssh.com", 9, WINDOW, PACKET))
        while (payload := target.receive())[0] not in {
            NUMBER.CHANNEL_OPEN_FAILURE,
            NUMBER.CHANNEL_OPEN_CONFIRMATION,
        }:
            pass
        answers.append(payload[0])
        say(target, number)
        until_it_ends(target)

    target.conversation = conversation
    with RawClient.logged_in(gateway) as first, RawClient.logged_in(gateway) as second:
        channel = first.open_session()
        assert first.ask_channel(channel, "auth-agent-req@openssh.com")
        while (payload := first.receive())[0] != NUMBER.CHANNEL_OPEN:
            pass
        assert strings_before(payload[1:], 1) == [b"auth-agent@openssh.com"]
        assert second.run(b"x")[0] == b"<end>"
    assert answers == [NUMBER.CHANNEL_OPEN_FAILURE]


def test_texts_of_a_target(gateway: SshGateway, target: RawTarget) -> None:
    """What it says of itself and of its refusals is bounded; the log shows no raw control character."""

    def conversation(target: Wire) -> None:
        while (payload := target.receive())[0] != NUMBER.CHANNEL_OPEN:
            pass
        (kind,) = strings_before(payload[1:], 1)
        (number,) = struct.unpack_from(">I", payload, 5 + len(kind))
        target.send(wire.open_failure(number, 2, "\x1b[2J" + "x" * 3000))
        target.send(bytes([1]) + uint32(2) + string("\x1b[2J\r\nsession opened" + "x" * 100_000) + string(""))
        until_it_ends(target)

    target.conversation = conversation
    with RawClient.logged_in(gateway) as client:
        assert len(str(client.open("session"))) < 4200
        assert len(client.until_end()) < 600
        line = ending(gateway, client)
        assert line["outcome"] == "target_closed"
        assert len(line["reason"]) < 5000


# Breaches of the protocol


def _elsewhere(build: Callable[[int], bytes]) -> Messages:
    return lambda number: [build(number + 7)]


BREACHES: dict[str, Messages] = {
    "data for another channel": _elsewhere(lambda number: wire.channel_data(number, b"x")),
    "errors for another channel": _elsewhere(lambda number: wire.extended_data(number, 1, b"x")),
    "the end of another channel": _elsewhere(wire.channel_eof),
    "the close of another channel": _elsewhere(wire.channel_close),
    "a window for another channel": _elsewhere(lambda number: wire.window_adjust(number, 1)),
    "a status for another channel": _elsewhere(
        lambda number: wire.channel_request(number, "exit-status", False, uint32(0))
    ),
    "data beyond the window": lambda number: [wire.channel_data(number, bytes(PACKET))] * 200,
    "a packet beyond the largest": lambda number: [wire.channel_data(number, bytes(100_000))],
    "data after the end of data": lambda number: [wire.channel_eof(number), wire.channel_data(number, b"x")],
    "data after the close": lambda number: [wire.channel_close(number), wire.channel_data(number, b"x")],
    "a second close": lambda number: [wire.channel_close(number)] * 2,
    "an answer to nothing": lambda number: [wire.channel_success(number)],
    "an answer to no global request": lambda number: [wire.request_success()],
    "a second confirmation": lambda number: [wire.open_confirmation(number, 5, WINDOW, PACKET)],
    "a refusal of what is open": lambda number: [wire.open_failure(number, 1, "no")],
    "a window beyond what it can be": lambda number: [wire.window_adjust(number, 0xFFFFFFFF)],
    "a length that is not the data's": lambda number: [bytes([94]) + uint32(number, 1000) + b"x"],
    "a message cut short": lambda number: [bytes([95]) + uint32(number)],
    "a message that there is not": lambda number: [bytes([120]) + uint32(number)],
    "a status that is none": lambda number: [wire.channel_request(number, "exit-status", False, b"x")],
    "a signal that is none": lambda number: [
        wire.channel_request(number, "exit-signal", False, string("\x1b"))
    ],
    "a login again": lambda number: [
        bytes([50]) + string("root") + string("ssh-connection") + string("none")
    ],
    "a packet that is too large": lambda number: [wire.channel_data(number, bytes(300_000))],
}


@pytest.mark.parametrize("messages", BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_of_the_protocol_ends_this_session_with_a_word(
    gateway: SshGateway, target: RawTarget, messages: Messages
) -> None:
    target.conversation = saying(messages)
    with RawClient.logged_in(gateway) as client:
        channel = client.open_session(window=0)
        client.ask_channel(channel, "exec", string("x"))
        said = client.until_end()
        assert said.startswith("proxyd: ")
        line = ending(gateway, client)
        assert line["outcome"] in {"protocol", "target_closed"}
        assert "target" in line["reason"]


HARMLESS: dict[str, Messages] = {
    "statuses": lambda number: [wire.channel_request(number, "exit-status", False, uint32(3))] * 100,
    "unknown requests": lambda number: (
        [wire.channel_request(number, "x@example.com", True, bytes(1000))] * 500
    ),
    "keepalives": lambda number: [wire.channel_request(number, "keepalive@openssh.com", True)] * 500,
    "requests of clients": lambda number: [wire.channel_request(number, "exec", True, string("id"))] * 500,
    "windows": lambda number: [wire.window_adjust(number, 1)] * 5000,
    "empty data": lambda number: [wire.channel_data(number, b"")] * 5000,
    "single bytes": lambda number: [wire.channel_data(number, b"x")] * 5000,
    "data of an unknown stream": lambda number: [wire.extended_data(number, 77, b"x")] * 500,
    "messages to be ignored": lambda number: [bytes([IGNORE]) + string(bytes(1000))] * 500,
    "unknown messages of the transport": lambda number: [bytes([15])] * 500,
}


@pytest.mark.parametrize("messages", HARMLESS.values(), ids=HARMLESS.keys())
def test_a_flood_that_breaks_nothing_is_borne(
    gateway: SshGateway, target: RawTarget, messages: Messages
) -> None:
    target.conversation = saying(messages)
    with RawClient.logged_in(gateway) as client:
        out, errors, status = client.run(b"x")
        assert out.endswith(b"<end>")
        assert (errors, status) == (b"", 0)


def test_a_flood_for_a_client_that_does_not_read(gateway: SshGateway, target: RawTarget) -> None:
    """Data up to a window; requests behind it to a point, and then the session is over."""
    requests = [wire.channel_request(0, "exit-status", False, uint32(3))] * 5000
    target.conversation = saying(lambda number: [wire.channel_data(number, bytes(PACKET))] * 20 + requests)
    with RawClient.logged_in(gateway) as client:
        channel = client.open_session(window=0)
        assert client.ask_channel(channel, "exec", string("x"))
        assert "too many requests" in client.until_end()


class TestHostKey:
    def test_another_one_in_the_middle_of_a_session(self, gateway: SshGateway, target: RawTarget) -> None:
        """A new key exchange by another key: it is not the host any more."""

        def conversation(target: Wire) -> None:
            number = accept_session(target)
            target.send(wire.channel_data(number, b"first"))
            target.host_key = Key.new()
            with contextlib.suppress(Ended, OSError):
                target.exchange_keys()
                say(target, number, wire.channel_data(number, b"from somebody else"))
            until_it_ends(target)

        target.conversation = conversation
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            assert client.ask_channel(channel, "exec", string("x"))
            assert _output(client) == b"first"
            line = ending(gateway, client)
            assert "host key" in line["reason"].lower()

    def test_the_same_one_again(self, gateway: SshGateway, target: RawTarget) -> None:
        def conversation(target: Wire) -> None:
            number = accept_session(target)
            for _ in range(3):
                target.exchange_keys()
            say(target, number)
            until_it_ends(target)

        target.conversation = conversation
        with RawClient.logged_in(gateway) as client:
            assert client.run(b"x")[0] == b"<end>"

    def test_another_one_at_the_next_connection(self, gateway: SshGateway, target: RawTarget) -> None:
        before, target.key = target.key, Key.new()
        try:
            done = gateway.route().ssh("x", status=LOST)
            assert b"host key that the gateway does not know" in done.stderr
        finally:
            target.key = before

    def test_an_exchange_that_never_ends(self, gateway: SshGateway, target: RawTarget) -> None:
        """What the client sends meanwhile waits, to a point."""

        def conversation(target: Wire) -> None:
            accept_session(target)
            target.send(target.kexinit())
            target.read_to_end()

        target.conversation = conversation
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            assert client.ask_channel(channel, "exec", string("x"))
            data = wire.channel_data(client.peers[channel], bytes(PACKET))
            client.send(*[data] * 8, wire.global_request("keepalive@openssh.com", True))
            while client.receive()[0] != NUMBER.REQUEST_SUCCESS:
                pass
            client.send(*[data] * (WINDOW // PACKET - 8))


def _output(client: RawClient) -> bytes:
    out = b""
    with contextlib.suppress(Ended):
        while True:
            payload = client.receive()
            if payload[0] == NUMBER.CHANNEL_DATA:
                out += payload[9:]
    return out


class TestLeaving:
    @pytest.mark.parametrize("after", [0, 1, 1_000_000])
    def test_in_the_middle_of_a_transfer(self, gateway: SshGateway, target: RawTarget, after: int) -> None:
        """What has come is passed on, and the end is told as one that was not meant."""

        def conversation(target: Wire) -> None:
            number = accept_session(target)
            pieces = [bytes(PACKET)] * (after // PACKET) + [bytes(after % PACKET)]
            target.send(*(wire.channel_data(number, piece) for piece in pieces))
            target.sock.shutdown(socket.SHUT_RDWR)

        target.conversation = conversation
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            assert client.ask_channel(channel, "exec", string("x"))
            assert _output(client) == bytes(after)
            assert ending(gateway, client)["outcome"] == "target_closed"

    def test_openssh_says_so(self, gateway: SshGateway, target: RawTarget) -> None:
        target.conversation = lambda target: cast(None, accept_session(target))
        done = gateway.route().ssh("x", status=LOST)
        assert b"the target has closed the connection" in done.stderr

    def test_before_the_command(self, gateway: SshGateway, target: RawTarget) -> None:
        target.conversation = lambda target: None
        done = gateway.route().ssh("x", status=LOST)
        assert b"proxyd: " in done.stderr


class TestBeginning:
    """A target that is none: told within the time that connecting may take, and nothing waits for it."""

    GREETINGS: dict[str, Conversation] = {  # noqa: RUF012
        "silence": lambda target: cast(None, until_it_ends(target)),
        "another protocol": lambda target: target.send_raw(
            b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(10_000)
        ),
        "an old version": lambda target: target.send_raw(b"SSH-1.5-old\r\n"),
        "endless lines": lambda target: target.send_raw(b"hello\r\n" * 5000),
        "an endless line": lambda target: target.send_raw(b"x" * 100_000),
        "a huge packet": lambda target: target.send_raw(b"SSH-2.0-x\r\n\x7f\xff\xff\xff" + bytes(1000)),
        "noise": lambda target: target.send_raw(b"SSH-2.0-x\r\n" + bytes(range(256)) * 100),
        "an end": lambda target: target.sock.shutdown(socket.SHUT_RDWR),
    }

    @pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS.keys())
    def test_is_told(self, gateway: SshGateway, target: RawTarget, greeting: Conversation) -> None:
        def greet(target: Wire) -> None:
            with contextlib.suppress(OSError):
                greeting(target)
            until_it_ends(target)

        target.greeting = greet
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            assert client.ask_channel(channel, "exec", string("x"))
            out, said, status = client.until_close(channel)
            assert (out, status) == (b"", LOST)
            assert said.startswith(b"proxyd: web1 cannot be reached")
        [line] = gateway.logged("connection refused", client=client.name)
        assert line["failure"] == "target"

    def test_keys_that_never_come(self, gateway: SshGateway, target: RawTarget) -> None:
        def greet(target: Wire) -> None:
            target.greet()
            target.send(target.kexinit())
            while target.receive_any()[0] != KEX_INIT:
                pass
            until_it_ends(target)

        target.greeting = greet
        with RawClient.logged_in(gateway) as client:
            channel = client.open_session()
            assert client.ask_channel(channel, "shell")
            assert b"cannot be reached" in client.until_close(channel)[1]


# sftp

READ = 1


def sftp_server(answers: Callable[[int, bytes], list[bytes]]) -> Conversation:
    """A server of sftp that says VERSION and its start directory, and then `answers(kind, id)`."""

    def conversation(target: Wire) -> None:
        number = accept_session(target)
        stream = b""
        asked = itertools.count()

        def send(*packets: bytes) -> None:
            data = b"".join(map(string, packets))
            pieces = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
            target.send(*(wire.channel_data(number, piece) for piece in pieces))

        with contextlib.suppress(Ended, OSError):
            while True:
                payload = target.receive()
                if payload[0] == NUMBER.CHANNEL_DATA:
                    stream += payload[9:]
                while len(stream) >= 4 and len(stream) >= 4 + int.from_bytes(stream[:4], "big"):
                    size = int.from_bytes(stream[:4], "big")
                    packet, stream = stream[4 : 4 + size], stream[4 + size :]
                    match packet[0]:
                        case Kind.INIT:
                            send(bytes([Kind.VERSION]) + uint32(3))
                        case Kind.REALPATH if next(asked) == 0:
                            send(
                                bytes([Kind.NAME]) + packet[1:5] + uint32(1) + string("/home") * 2 + uint32(0)
                            )
                        case kind:
                            send(*answers(kind, packet[1:5]))

    return conversation


def _status(identity: bytes, code: int) -> bytes:
    return bytes([Kind.STATUS]) + identity + uint32(code) + string("") + string("")


LIES: dict[str, Callable[[int, bytes], list[bytes]]] = {
    "an answer to another request": lambda kind, identity: [_status(b"\0\0\x99\x99", 0)],
    "two answers": lambda kind, identity: [_status(identity, 4), _status(identity, 0)],
    "an answer of another kind": lambda kind, identity: [bytes([Kind.NAME]) + identity + uint32(0)],
    "data for an open": lambda kind, identity: [bytes([Kind.DATA]) + identity + string("x")],
    "a request": lambda kind, identity: [
        bytes([Kind.OPEN]) + identity + string("/etc/passwd") + uint32(READ, 0)
    ],
    "a version again": lambda kind, identity: [bytes([Kind.VERSION]) + uint32(3)],
    "an endless handle": lambda kind, identity: [bytes([Kind.HANDLE]) + identity + string("h" * 1000)],
    "a handle cut short": lambda kind, identity: [bytes([Kind.HANDLE]) + identity + uint32(100) + b"h"],
    "a status without a code": lambda kind, identity: [bytes([Kind.STATUS]) + identity],
    "a huge packet": lambda kind, identity: [bytes([Kind.STATUS]) + bytes(600_000)],
    "data that goes on": lambda kind, identity: [
        bytes([Kind.HANDLE]) + identity + string("h")
        if kind == Kind.OPEN
        else bytes([Kind.DATA]) + identity + string(bytes(5000))
    ],
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_an_sftp_server_that_lies(
    gateway: SshGateway, target: RawTarget, lie: Callable[[int, bytes], list[bytes]]
) -> None:
    """It ends the channel with a word that says who broke the protocol, and not the connection."""
    target.conversation = sftp_server(lie)
    with RawClient.logged_in(gateway) as client:
        channel = client.open_session()
        peer = client.peers[channel]
        assert client.ask_channel(channel, "subsystem", string("sftp"))
        opening = bytes([Kind.OPEN]) + uint32(1) + string("/x") + uint32(READ, 0)
        reading = bytes([Kind.READ]) + uint32(2) + string("h") + bytes(8) + uint32(10)
        packets = [bytes([Kind.INIT]) + uint32(3), opening]
        client.send(wire.channel_data(peer, b"".join(map(string, packets))))
        said = b""
        while (payload := client.receive())[0] != NUMBER.CHANNEL_CLOSE:
            if payload[0] == NUMBER.CHANNEL_DATA and payload[13:14] == bytes([Kind.HANDLE]):
                client.send(wire.channel_data(peer, string(reading)))
            elif payload[0] == NUMBER.CHANNEL_EXTENDED_DATA:
                said += payload[13:]
        assert b"cannot be followed: the target" in said
        client.send(wire.global_request("keepalive@openssh.com", True))
        while client.receive()[0] != NUMBER.REQUEST_SUCCESS:
            pass
