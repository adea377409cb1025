"""What a client that is let in can do to the connection and its channels: floods, lies, silence. It gets an answer or
is sent away; the daemon's memory stays where it is, and a session beside it never notices.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protocols.ssh import messages as wire
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway
from tests.end_to_end.ssh_raw import PACKET, WINDOW, RawClient
from tests.end_to_end.ssh_wire import KEXINIT, Ended
from tests.ssh_pki import string

MAX_CHANNELS = 100
GROWTH_KIB = 48 * 1024
NUMBER = wire.Number


def uint32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


@pytest.fixture(scope="module")
def session_beside(ssh_gateway: SshGateway) -> Iterator[tuple[RawClient, int]]:
    """Somebody else's, there before the first test; `cat` runs on its channel."""
    with RawClient.logged_in(ssh_gateway) as client:
        channel = client.open_session()
        assert client.ask_channel(channel, "exec", string("cat"))
        yield client, channel


@pytest.fixture(autouse=True)
def neighbour(ssh_gateway: SshGateway, session_beside: tuple[RawClient, int]) -> Iterator[None]:
    """After each test the session beside goes on as if nothing had been, and the memory is where it was."""
    client, channel = session_beside
    before = ssh_gateway.daemon.memory_kib()
    yield
    client.send(wire.channel_data(client.peers[channel], b"still here"))
    while (payload := client.receive())[0] != NUMBER.CHANNEL_DATA:
        pass
    assert payload[9:] == b"still here"
    grown = ssh_gateway.daemon.memory_kib() - before
    assert grown < GROWTH_KIB, f"{grown} KiB more"
    assert not ssh_gateway.logged("a session failed")


@pytest.fixture
def client(ssh_gateway: SshGateway) -> Iterator[RawClient]:
    with RawClient.logged_in(ssh_gateway) as found:
        yield found


def ending(gateway: SshGateway, client: RawClient) -> Document:
    wait_until(lambda: bool(gateway.logged("session ended", client=client.name)), "the end of the session")
    return gateway.logged("session ended", client=client.name)[0]


def works(client: RawClient) -> bool:
    return client.run(b"echo well") == (b"well\n", b"", 0)


# Many of everything


KINDS = [
    "session",
    "direct-tcpip",
    "direct-streamlocal@openssh.com",
    "x11",
    "forwarded-tcpip",
    "tun@openssh.com",
    "s",
]


def test_ten_thousand_channels(client: RawClient) -> None:
    """A hundred may be open; each of the rest is told so. Closed ones make room."""
    answers = {NUMBER.CHANNEL_OPEN_CONFIRMATION: 0, NUMBER.CHANNEL_OPEN_FAILURE: 0}
    peers = []
    for start in range(0, 10_000, 500):
        kinds = itertools.islice(itertools.cycle(KINDS), 500)
        client.send(
            *(wire.channel_open(kind, start + number, WINDOW, PACKET) for number, kind in enumerate(kinds))
        )
        for _ in range(500):
            payload = client.receive()
            answers[NUMBER(payload[0])] += 1
            if payload[0] == NUMBER.CHANNEL_OPEN_CONFIRMATION:
                peers.append(int.from_bytes(payload[5:9], "big"))
            else:
                assert b"proxyd: " in payload
    assert answers[NUMBER.CHANNEL_OPEN_CONFIRMATION] == MAX_CHANNELS
    assert f"{MAX_CHANNELS} channels are open already" in str(client.open("session"))
    client.send(*map(wire.channel_close, peers))
    for _ in peers:
        assert client.receive()[0] == NUMBER.CHANNEL_CLOSE
    assert works(client)


def test_channels_that_come_and_go(client: RawClient) -> None:
    for number in range(300):
        client.send(wire.channel_open("session", number, WINDOW, PACKET))
        peer = int.from_bytes(client.receive()[5:9], "big")
        client.send(wire.channel_close(peer))
        assert client.receive()[0] == NUMBER.CHANNEL_CLOSE
    assert works(client)


def test_ten_thousand_global_requests(client: RawClient) -> None:
    """Each is answered, in its turn."""
    names = [
        "keepalive@openssh.com",
        "hostkeys-prove-00@openssh.com",
        "cancel-tcpip-forward",
        "x",
        "tcpip-forward",
    ]
    expected = [NUMBER.REQUEST_SUCCESS, *[NUMBER.REQUEST_FAILURE] * 4]
    for _ in range(20):
        client.send(*(wire.global_request(name, True, b"\0\0\0\0garbage") for name in names * 100))
        assert [client.receive()[0] for _ in range(500)] == expected * 100
    client.send(*(wire.global_request("x" * 64, False) for _ in range(1000)))
    assert works(client)


class TestEnvironment:
    def test_ten_thousand_variables(self, client: RawClient) -> None:
        channel = client.open_session()
        peer = client.peers[channel]
        for start in range(0, 10_000, 500):
            client.send(
                *(
                    wire.channel_request(peer, "env", False, string(f"LC_{start + n}") + string("x"))
                    for n in range(500)
                )
            )
        assert client.ask_channel(channel, "exec", string("env | grep -c ^LC_"))
        assert int(client.until_close(channel)[0]) <= 128

    def test_large_and_strange_ones(self, client: RawClient) -> None:
        channel = client.open_session()
        for name, value in (
            ("LC_BIG", "x" * 200_000),
            ("LC_" + "x" * 100_000, "y"),
            ("", "x"),
            (b"LC_\xff", "x"),
            ("lc_x", "x"),
            ("LD_PRELOAD", "/tmp/x.so"),
            ("BASH_ENV", "/tmp/x"),
            ("ENV", "/tmp/x"),
            ("PATH", "/tmp"),
            ("IFS", "/"),
            ("LC_X=1\nLD_PRELOAD", "/tmp/x.so"),
            ("LANG\0LD_PRELOAD", "/tmp/x.so"),
        ):
            assert not client.ask_channel(channel, "env", string(name) + string(value)), name
        assert client.ask_channel(channel, "exec", string("env"))
        shown = client.until_close(channel)[0].decode()
        for name in ("LC_", "LD_PRELOAD", "BASH_ENV", "ENV=", "IFS", "/tmp/x"):
            assert name not in shown
        assert works(client)

    def test_a_value_of_a_megabyte_is_too_large_for_a_packet(
        self, client: RawClient, ssh_gateway: SshGateway
    ) -> None:
        channel = client.open_session()
        client.ask_channel(channel, "env", string("LC_X") + string(bytes(1 << 20)), want_reply=False)
        assert client.until_end() == "Max packet size exceeded"
        assert "Max packet size exceeded" in ending(ssh_gateway, client)["reason"]


def test_a_flood_of_window_changes(client: RawClient) -> None:
    channel = client.open_session()
    peer = client.peers[channel]
    change = wire.channel_request(peer, "window-change", False, uint32(80, 24, 0, 0))
    client.send(*[change] * 1000)
    assert client.ask_channel(channel, "pty-req", pty())
    assert client.ask_channel(channel, "exec", string("read x; stty size"))
    for start in range(0, 5000, 500):
        client.send(
            *(
                wire.channel_request(peer, "window-change", False, uint32(1 + start + n, 24, 0, 0))
                for n in range(500)
            )
        )
    client.send(wire.channel_data(peer, b"\n"))
    assert b"24 5000" in client.until_close(channel)[0]


def pty(term: str | bytes = "xterm", columns: int = 80, rows: int = 24, modes: bytes = b"\0") -> bytes:
    return string(term) + uint32(columns, rows, 0, 0) + string(modes)


def test_terminals_that_are_none(client: RawClient) -> None:
    channel = client.open_session()
    for body in (
        pty("x" * 10_000),
        pty("xterm\x1b[2J"),
        pty("xterm\0"),
        pty(b"\xff\xfe"),
        pty("two words"),
        pty(modes=bytes(100_000)),
        pty(modes=b"\x35"),
        pty(modes=b"\x35\0\0\0\1\x36\0"),
        pty()[:-1],
        pty() + b"x",
        b"",
    ):
        assert not client.ask_channel(channel, "pty-req", body)
    modes = b"\x35" + uint32(0xFFFFFFFF) + b"\x9f" + uint32(0xFFFFFFFF) + b"\0"
    assert client.ask_channel(channel, "pty-req", pty(columns=0xFFFFFFFF, rows=0xFFFFFFFF, modes=modes))
    assert not client.ask_channel(channel, "pty-req", pty()), "a second one"
    assert client.ask_channel(channel, "exec", string("echo well"))
    assert b"well" in client.until_close(channel)[0]


# What is asked on a channel, with a body that is not one


BODIES = {
    "exec": [
        b"",
        uint32(5),
        uint32(5) + b"abc",
        string("id") + b"more",
        string("id\0"),
        uint32(0xFFFFFFFF) + b"id",
    ],
    "shell": [b"x", string("id")],
    "subsystem": [
        b"",
        string(""),
        string("sftp") + b"x",
        string("sf tp"),
        string("s" * 10_000),
        string("sftp\0"),
    ],
    "env": [b"", string("LANG"), string("LANG") + string("C") + b"x"],
    "pty-req": [b"", string("xterm"), string("xterm") + uint32(1, 2, 3)],
    "x11-req": [
        b"",
        b"\0" + string("MIT-MAGIC-COOKIE-1"),
        b"\0" + string("x") + string("y" * 5000) + uint32(0),
    ],
    "auth-agent-req@openssh.com": [b"x"],
    "window-change": [b"", uint32(1, 2, 3), uint32(1, 2, 3, 4, 5)],
    "exit-status": [uint32(0)],
    "exit-signal": [string("KILL") + b"\0" + string("") + string("")],
    "keepalive@openssh.com": [b""],
    "nonsense@example.com": [b"", bytes(1000)],
}


@pytest.mark.parametrize("name", BODIES)
def test_a_request_that_cannot_be_read_is_a_no_and_no_more(client: RawClient, name: str) -> None:
    channel = client.open_session()
    for body in BODIES[name]:
        assert not client.ask_channel(channel, name, body)
        client.ask_channel(channel, name, body, want_reply=False)
    assert client.ask_channel(channel, "exec", string("echo well"))
    assert client.until_close(channel) == (b"well\n", b"", 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        string("127.0.0.1"),
        string("127.0.0.1") + uint32(99_999) + string("") + uint32(0),
        string("a b") + uint32(1) + string("x") + uint32(1),
        string("x" * 300) + uint32(1) + string("x") + uint32(1),
        string("\0") + uint32(1) + string("x") + uint32(1),
    ],
)
def test_an_open_that_cannot_be_read_is_a_no_and_no_more(client: RawClient, body: bytes) -> None:
    for kind in ("direct-tcpip", "direct-streamlocal@openssh.com"):
        assert str(client.open(kind, body)).startswith("proxyd: ")
    assert works(client)


class TestStarts:
    """One thing runs on a channel."""

    @pytest.mark.parametrize(
        "second", [("exec", string("id")), ("shell", b""), ("subsystem", string("sftp"))]
    )
    @pytest.mark.parametrize("first", [("exec", string("cat")), ("subsystem", string("sftp"))])
    def test_a_second_start(
        self, client: RawClient, first: tuple[str, bytes], second: tuple[str, bytes]
    ) -> None:
        channel = client.open_session()
        assert client.ask_channel(channel, *first)
        assert not client.ask_channel(channel, *second)
        client.send(wire.channel_eof(client.peers[channel]))
        assert client.until_close(channel)[:2] == (b"", b"")

    def test_both_in_one_piece(self, client: RawClient) -> None:
        """Before the target has said anything to the first."""
        channel = client.open_session()
        peer = client.peers[channel]
        client.send(
            wire.channel_request(peer, "subsystem", True, string("sftp")),
            wire.channel_request(peer, "exec", True, string("echo bypassed")),
            wire.channel_request(peer, "shell", True),
        )
        assert client.channel_answer()
        assert not client.channel_answer()
        assert not client.channel_answer()
        client.send(wire.channel_eof(peer))
        assert client.until_close(channel)[0] == b""

    def test_after_a_start_that_failed_another_is_judged_for_itself(self, client: RawClient) -> None:
        channel = client.open_session()
        assert not client.ask_channel(channel, "subsystem", string("nosuch"))
        assert client.ask_channel(channel, "exec", string("echo well"))
        assert client.until_close(channel)[0] == b"well\n"

    def test_the_end_of_the_input_before_anything_reads_it(self, client: RawClient) -> None:
        channel = client.open_session()
        client.send(
            wire.channel_data(client.peers[channel], b"early"), wire.channel_eof(client.peers[channel])
        )
        assert client.ask_channel(channel, "exec", string("cat; echo end"))
        assert client.until_close(channel)[0] == b"earlyend\n"

    def test_a_close_before_anything_runs(self, client: RawClient) -> None:
        for early in ("nothing", "a command", "data"):
            channel = client.open_session()
            peer = client.peers[channel]
            if early == "a command":
                client.send(wire.channel_request(peer, "exec", True, string("cat")))
            elif early == "data":
                client.send(wire.channel_data(peer, bytes(PACKET)))
            client.send(wire.channel_close(peer))
            while client.receive()[0] != NUMBER.CHANNEL_CLOSE:
                pass
        assert works(client)


# What ends a session: nobody could say any more what belongs to what


def _channel_messages(peer: int) -> dict[str, bytes]:
    return {
        "data": wire.channel_data(peer, b"x"),
        "errors": wire.extended_data(peer, 1, b"x"),
        "end of data": wire.channel_eof(peer),
        "close": wire.channel_close(peer),
        "window": wire.window_adjust(peer, 1),
        "request": wire.channel_request(peer, "exec", True, string("id")),
        "yes": wire.channel_success(peer),
        "no": wire.channel_failure(peer),
        "confirmation": wire.open_confirmation(peer, 0, WINDOW, PACKET),
        "refusal": wire.open_failure(peer, 1, "x"),
    }


Payloads = Callable[[int], list[bytes]]


def _elsewhere(name: str, number: int) -> Payloads:
    return lambda peer: [_channel_messages(number)[name]]


VIOLATIONS: dict[str, Payloads] = {
    **{
        f"{name} for channel {number}": _elsewhere(name, number)
        for name, number in itertools.product(_channel_messages(0), (7, 0xFFFFFFFF))
    },
    "data beyond the window": lambda peer: [wire.channel_data(peer, bytes(PACKET))] * 100,
    "a packet beyond the largest": lambda peer: [wire.channel_data(peer, bytes(100_000))],
    "a window beyond what it can be": lambda peer: [wire.window_adjust(peer, 0xFFFFFFFF)],
    "data after the end of data": lambda peer: [wire.channel_eof(peer), wire.channel_data(peer, b"x")],
    "data after the close": lambda peer: [wire.channel_close(peer), wire.channel_data(peer, b"x")],
    "a second close": lambda peer: [wire.channel_close(peer)] * 2,
    "errors of a client": lambda peer: [wire.extended_data(peer, 1, b"x")],
    "an answer to nothing": lambda peer: [wire.channel_success(peer)],
    "a no to nothing": lambda peer: [wire.channel_failure(peer)],
    "a confirmation that nobody waits for": lambda peer: [wire.open_confirmation(peer, 0, WINDOW, PACKET)],
    "an answer to a keepalive that was not sent": lambda peer: [wire.request_success()],
    "a no to a keepalive that was not sent": lambda peer: [wire.request_failure()],
    "a length that is not the data's": lambda peer: [bytes([94]) + uint32(peer, 1000) + b"x"],
    "a length shorter than the data": lambda peer: [bytes([94]) + uint32(peer, 1) + b"xyz"],
    "a message cut short": lambda peer: [bytes([94]) + uint32(peer)],
    "a message without a channel": lambda peer: [bytes([96])],
    "a message with more behind it": lambda peer: [wire.channel_eof(peer) + b"x"],
    "a request without a name": lambda peer: [bytes([98]) + uint32(peer) + string("") + b"\1"],
    "a request whose name is no name": lambda peer: [bytes([98]) + uint32(peer) + string("ex\x1bec") + b"\1"],
    "a request with an endless name": lambda peer: [bytes([98]) + uint32(peer) + string("e" * 100) + b"\1"],
    "a global request without a name": lambda peer: [bytes([80]) + string("") + b"\1"],
    "an open without a name": lambda peer: [bytes([90]) + string("") + uint32(1, 2, 3)],
    "an open cut short": lambda peer: [bytes([90]) + string("session") + uint32(1, 2)],
    "a message of a number that there is not": lambda peer: [bytes([101]) + uint32(peer)],
    "many requests without waiting": lambda peer: (
        [wire.channel_request(peer, "signal", True, string("CONT"))] * 200
    ),
}


@pytest.mark.parametrize("payloads", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_breach_of_the_protocol_ends_this_session_with_a_word(
    client: RawClient, ssh_gateway: SshGateway, payloads: Payloads
) -> None:
    channel = client.open_session()
    with contextlib.suppress(OSError):
        client.send(*payloads(client.peers[channel]))
    said = client.until_end()
    line = ending(ssh_gateway, client)
    assert line["outcome"] in {"protocol", "client_closed"}
    assert said
    assert "\x1b" not in line["reason"]
    assert said.removeprefix("proxyd: protocol error: ") in line["reason"]


# Who does not read, and who does not end


class TestBackPressure:
    def test_output_that_never_pauses_and_nobody_reads(
        self, client: RawClient, ssh_gateway: SshGateway, tmp_path: Path
    ) -> None:
        """The command waits; an interrupt gets through to it all the same."""
        over, stopped = tmp_path / "over", has_stopped(ssh_gateway)
        channel = client.open_session()
        assert client.ask_channel(channel, "pty-req", pty())
        assert client.ask_channel(channel, "exec", string(f"trap : INT; yes; touch {over}"))
        wait_until(stopped, "the wait of the writer")
        client.send(wire.channel_data(client.peers[channel], b"\x03"))
        wait_until(over.exists, "the end of the flood")

    def test_a_flood_for_a_client_that_reads_is_ended_by_an_interrupt(self, client: RawClient) -> None:
        channel = client.open_session()
        peer = client.peers[channel]
        assert client.ask_channel(channel, "pty-req", pty())
        assert client.ask_channel(channel, "exec", string("trap 'echo int; exit 5' INT; yes"))
        seen = 0
        while seen < 5 << 20:
            payload = client.receive()
            if payload[0] == NUMBER.CHANNEL_DATA:
                seen += len(payload) - 9
                client.send(wire.window_adjust(peer, len(payload) - 9))
        client.send(wire.channel_data(peer, b"\x03"))
        tail = b""
        while True:
            payload = client.receive()
            if payload[0] == NUMBER.CHANNEL_DATA:
                tail = tail[-100:] + payload[9:]
                client.send(wire.window_adjust(peer, len(payload) - 9))
            elif payload[0] == NUMBER.CHANNEL_CLOSE:
                break
        assert b"int" in tail

    def test_windows_of_nothing(self, client: RawClient) -> None:
        """Output waits for a window that never comes; the channel can still be closed."""
        channel = client.open_session(window=0)
        assert client.ask_channel(channel, "exec", string("yes"))
        assert works(client)
        client.send(wire.channel_close(client.peers[channel]))
        while (payload := client.receive())[0] != NUMBER.CHANNEL_CLOSE:
            assert payload[0] != NUMBER.CHANNEL_DATA
        assert works(client)

    def test_windows_of_a_byte_at_a_time(self, client: RawClient) -> None:
        channel = client.open_session(window=0)
        assert client.ask_channel(channel, "exec", string("echo 0123456789"))
        got = b""
        while len(got) < 11:
            client.send(wire.window_adjust(client.peers[channel], 1))
            while (payload := client.receive())[0] != NUMBER.CHANNEL_DATA:
                pass
            got += payload[9:]
        assert got == b"0123456789\n"

    def test_a_client_that_takes_nothing_at_all(self, client: RawClient) -> None:
        """Everything it asks is answered, until the answers wait; then it is not read any more."""
        assert works(client)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.settimeout(1)
        asked = wire.channel_open("x" * 60, 7, WINDOW, PACKET)
        with pytest.raises(TimeoutError):
            for _ in range(2000):
                client.send(*[asked] * 1000)

    def test_input_that_nobody_reads(self, client: RawClient) -> None:
        """The window is all that is taken."""
        channel = client.open_session()
        peer = client.peers[channel]
        assert client.ask_channel(channel, "exec", string("exec sleep 100"))
        for _ in range(WINDOW // PACKET):
            client.send(wire.channel_data(peer, bytes(PACKET)))
        assert works(client)
        client.send(wire.channel_close(peer))

    def test_requests_behind_data_that_waits(self, client: RawClient, ssh_gateway: SshGateway) -> None:
        channel = client.open_session()
        peer = client.peers[channel]
        assert client.ask_channel(channel, "exec", string("exec sleep 100"))
        client.send(*[wire.channel_data(peer, bytes(PACKET))] * (WINDOW // PACKET))
        while client.receive()[0] != NUMBER.CHANNEL_WINDOW_ADJUST:
            pass
        client.send(*[wire.channel_data(peer, bytes(PACKET))] * (WINDOW // PACKET // 2))
        signal = wire.channel_request(peer, "signal", False, string("CONT"))
        with contextlib.suppress(OSError):
            for _ in range(20):
                client.send(*[signal] * 100)
        assert "too many requests" in client.until_end()
        assert ending(ssh_gateway, client)["outcome"] == "protocol"

    def test_a_menu_for_a_client_that_does_not_read(self, ssh_gateway: SshGateway) -> None:
        with RawClient.logged_in(ssh_gateway, user="deploy") as client:
            channel = client.open_session(window=0)
            assert client.ask_channel(channel, "shell")
            client.sock.settimeout(1)
            with contextlib.suppress(TimeoutError, OSError):
                for _ in range(200):
                    client.send(*[wire.channel_data(client.peers[channel], b"\r" * 1000)] * 10)


def has_stopped(gateway: SshGateway) -> Callable[[], bool]:
    """Is nothing moving any more, after more than a window has come from the target?"""
    began, last = _from_targets(gateway), [0.0] * 20

    def looked() -> bool:
        last.append(_from_targets(gateway))
        return last[-1] - began > WINDOW // 2 and last[-1] == last[-20]

    return looked


def _from_targets(gateway: SshGateway) -> float:
    return gateway.metrics()['proxyd_bytes_total{direction="in",peer="target"}']


class TestKeyExchange:
    def test_one_that_never_ends(self, client: RawClient, ssh_gateway: SshGateway) -> None:
        """What the target says meanwhile is kept, to a point; then the target waits. At its end everything comes."""
        stopped = has_stopped(ssh_gateway)
        channel = client.open_session(window=1 << 30)
        assert client.ask_channel(channel, "exec", string("head -c 20000000 /dev/zero; echo end"))
        ours = client.kexinit()
        client.send(ours)
        while client.receive_any()[0] != KEXINIT:
            pass
        wait_until(stopped, "the wait of the writer")

    def test_again_and_again(self, client: RawClient) -> None:
        for _ in range(10):
            client.exchange_keys()
        assert works(client)

    def test_another_in_the_middle_of_one(self, client: RawClient, ssh_gateway: SshGateway) -> None:
        client.send(client.kexinit(), client.kexinit())
        with pytest.raises(Ended):
            while client.receive_any():
                pass
        assert "Key exchange already in progress" in ending(ssh_gateway, client)["reason"]


def test_texts_of_a_client_that_leaves_are_harmless(client: RawClient, ssh_gateway: SshGateway) -> None:
    client.send(bytes([1]) + uint32(2) + string(b"bye\x1b[2J\r\nsession ended" + b"x" * 100_000) + string(""))
    line = ending(ssh_gateway, client)
    assert len(line["reason"]) < 5000
    assert b"\x1b" not in ssh_gateway.daemon.log_path.read_bytes()


# Commands that are hard to read


NESTED: dict[str, str | bytes] = {
    "substitutions": "echo " + "$(" * 1000 + "id" + ")" * 1000,
    "backquotes": "echo " + "`" * 1000,
    "subshells": "(" * 1000 + "id" + ")" * 1000,
    "groups": "{ " * 1000 + "id" + "; }" * 1000,
    "quotes in substitutions": 'echo "$(' * 1000 + "id" + ')"' * 1000,
    "expansions": "echo " + "${x:-" * 1000 + "}" * 1000,
    "arithmetic": "echo $((" + "(" * 1000 + "1" + ")" * 1000 + "))",
    "shells": "sh -c " * 1000 + "id",
    "wrappers": "env " * 1000 + "id",
    "conditions": "if true; then " * 1000 + "id" + "; fi" * 1000,
    "here-documents": "".join(f"cat <<E{n}\n" for n in range(1000)),
    "pipes": "id | " * 20_000 + "id",
    "words": "echo " + "x " * 60_000,
    "quotes": "echo " + "'x'\"y\"" * 20_000,
    "unclosed": "echo '" + "x" * 100_000,
    "braces": "echo " + "{a,b}{c,d}" * 5 + "{" * 1000,
    "a large text": "echo " + "x" * 200_000,
    "not UTF-8": b"echo \xff\xfe",
}


@pytest.fixture(scope="module")
def careful_gateway(
    ssh_gateway: SshGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    policy = EVERYTHING_BY_SSH + '  - {name: no-rm, effect: deny, ssh: {exec: ["rm *"]}}\n'
    directory = tmp_path_factory.mktemp("careful")
    with SshGateway(ssh_gateway.server, directory, ssh_gateway.keys, policy=policy) as gateway:
        yield gateway


def test_commands_that_are_hard_to_read(careful_gateway: SshGateway) -> None:
    """Where a rule depends on words each is refused, or all of it is seen; and the connection goes on."""
    with RawClient.logged_in(careful_gateway) as client:
        for what, text in NESTED.items():
            out, said, status = client.run(text.encode() if isinstance(text, str) else text)
            assert (out, status) == (b"", 126), what
            assert said.startswith(b"proxyd: "), what
            assert said.count(b"\n") == 1, what
            assert len(said) < 2000, what
            assert works(client), what


def test_a_command_of_a_megabyte(client: RawClient, ssh_gateway: SshGateway) -> None:
    channel = client.open_session()
    client.ask_channel(channel, "exec", string("echo " + "x" * (1 << 20)), want_reply=False)
    assert client.until_end() == "Max packet size exceeded"
    assert "Max packet size exceeded" in ending(ssh_gateway, client)["reason"]
