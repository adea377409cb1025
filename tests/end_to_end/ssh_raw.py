"""Clients and targets of SSH made by hand, for what OpenSSH's would never do. The transport below is `ssh_wire`.

with RawClient.connect(gateway) as client:
    client.log_in(); channel = client.open_session(); client.exec(channel, b"true")

with RawTarget(conversation, key) as target: ...     # conversation(wire) after the gateway has logged in
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import asyncssh

from protocols.ssh import messages as wire
from tests.end_to_end.running import HOST, WAIT_S, RunningGateway
from tests.end_to_end.ssh_gateway import LOGIN, PEOPLE_AUTHORITY, SshGateway
from tests.end_to_end.ssh_peers import Listener
from tests.end_to_end.ssh_route import TARGET
from tests.end_to_end.ssh_wire import SERVICE_ACCEPT, SERVICE_REQUEST, Ended, Wire, strings, strings_before
from tests.ssh_pki import Key, request, string

REQUEST, FAILURE, SUCCESS, BANNER, PK_OK = 50, 51, 52, 53, 60
INFO_REQUEST, INFO_RESPONSE = 60, 61
USER = f"{LOGIN}+{TARGET}"
WINDOW = 2 * 1024 * 1024
PACKET = 32 * 1024

Credential = tuple[Key, bytes]

_addresses = itertools.count()


def credential(gateway: SshGateway, person: str = "alice") -> Credential:
    """The key and certificate that `gateway.route(person)` uses."""
    keys = gateway.keys
    if not keys.certificate(person).exists():
        keys.certify(person, PEOPLE_AUTHORITY, [LOGIN])
    blob = base64.b64decode(keys.certificate(person).read_text().split()[1])
    return Key(asyncssh.read_private_key(keys.private(person))), blob


class RawClient(Wire):
    """A client. `name`: as the gateway's log has it. The numbers of its channels count up from 0; the other side's are
    in `peers`.
    """

    patience_s = WAIT_S

    def __init__(self, sock: socket.socket, gateway: RunningGateway) -> None:
        super().__init__(sock)
        self.gateway = gateway
        self.name = "{}:{}".format(*sock.getsockname())
        self.peers: dict[int, int] = {}
        self._opened = 0

    @classmethod
    def plain(cls, gateway: RunningGateway) -> Self:
        """Connected, and nothing said."""
        # From an address of its own: one that is used again would have the lines of another client in the log.
        number = next(_addresses)
        source = f"127.1.{number // 250}.{1 + number % 250}"
        sock = socket.create_connection((HOST, gateway.port), cls.patience_s, (source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, gateway)

    @classmethod
    def connect(cls, gateway: RunningGateway) -> Self:
        """With keys exchanged and the service of authentication accepted."""
        client = cls.plain(gateway)
        with client.closed_at_failure():
            client.greet()
            client.exchange_keys()
            client.send(bytes([SERVICE_REQUEST]) + string("ssh-userauth"))
            assert client.receive()[0] == SERVICE_ACCEPT
        return client

    @classmethod
    def logged_in(cls, gateway: SshGateway, user: str = USER, person: str = "alice") -> Self:
        given = credential(gateway, person)
        client = cls.connect(gateway)
        with client.closed_at_failure():
            assert client.sign_in(user, given) == SUCCESS
        return client

    @contextlib.contextmanager
    def closed_at_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Authentication (RFC 4252)

    def ask(
        self, user: str | bytes, method: str, rest: bytes = b"", service: str = "ssh-connection"
    ) -> bytes:
        """A request for authentication, and its answer."""
        self.send(auth_request(user, method, rest, service))
        return self.answer()

    def answer(self) -> bytes:
        """The next payload that is no banner."""
        while (payload := self.receive())[0] == BANNER:
            pass
        return payload

    def offer(self, user: str, blob: bytes) -> int:
        """Ask about a key without proving anything; the number of the answer."""
        return self.ask(user, "publickey", b"\0" + string(algorithm(blob)) + string(blob))[0]

    def proof(
        self, user: str, given: Credential, *, signed_as: str | None = None, blob: bytes | None = None
    ) -> bytes:
        """The request with a signature. `signed_as`, `blob`: what is signed, where that is not what is sent."""
        key, shown = given
        signed = request(signed_as or user, blob or shown, session=self.session_id)
        signature = key.sign(signed)
        return auth_request(
            user, "publickey", b"\1" + string(algorithm(shown)) + string(shown) + string(signature)
        )

    def sign_in(self, user: str, given: Credential) -> int:
        self.send(self.proof(user, given))
        return self.answer()[0]

    # Channels (RFC 4254)

    def open(self, kind: str, body: bytes = b"", window: int = WINDOW) -> int | str:
        """Our number of a new channel, or why there is none."""
        number, self._opened = self._opened, self._opened + 1
        self.send(wire.channel_open(kind, number, window, PACKET, body))
        while True:
            payload = self.receive()
            if payload[0] == wire.Number.CHANNEL_OPEN_CONFIRMATION:
                self.peers[number] = int.from_bytes(payload[5:9], "big")
                return number
            if payload[0] == wire.Number.CHANNEL_OPEN_FAILURE:
                size = int.from_bytes(payload[9:13], "big")
                return payload[13 : 13 + size].decode()

    def open_session(self, window: int = WINDOW) -> int:
        number = self.open("session", window=window)
        assert isinstance(number, int), number
        return number

    def ask_channel(self, channel: int, name: str, body: bytes = b"", *, want_reply: bool = True) -> bool:
        """A request on a channel; was it granted? Without `want_reply` nothing is waited for."""
        self.send(wire.channel_request(self.peers[channel], name, want_reply, body))
        return want_reply and self.channel_answer()

    def channel_answer(self) -> bool:
        while True:
            number = self.receive()[0]
            if number in {wire.Number.CHANNEL_SUCCESS, wire.Number.CHANNEL_FAILURE}:
                return number == wire.Number.CHANNEL_SUCCESS

    def run(self, command: bytes, kind: str = "exec") -> tuple[bytes, bytes, int | None]:
        """One command on a channel of its own: its two streams and its exit status."""
        channel = self.open_session()
        assert self.ask_channel(channel, kind, string(command))
        return self.until_close(channel)

    def until_close(self, channel: int) -> tuple[bytes, bytes, int | None]:
        """What comes on a channel up to its end (less than its window): both streams and the exit status."""
        out, errors, status = bytearray(), bytearray(), None
        while True:
            payload = self.receive()
            if int.from_bytes(payload[1:5], "big") != channel:
                continue
            match payload[0]:
                case wire.Number.CHANNEL_DATA:
                    out += payload[9:]
                case wire.Number.CHANNEL_EXTENDED_DATA:
                    errors += payload[13:]
                case wire.Number.CHANNEL_REQUEST if payload[9:20] == b"exit-status":
                    status = int.from_bytes(payload[21:25], "big")
                case wire.Number.CHANNEL_CLOSE:
                    self.send(wire.channel_close(self.peers[channel]))
                    return bytes(out), bytes(errors), status

    def until_end(self) -> str:
        """Read on until the gateway ends the connection; what it said."""
        try:
            while True:
                self.receive()
        except Ended as ended:
            return ended.reason


def auth_request(user: str | bytes, method: str, rest: bytes = b"", service: str = "ssh-connection") -> bytes:
    return bytes([REQUEST]) + string(user) + string(service) + string(method) + rest


def algorithm(blob: bytes) -> bytes:
    return strings(blob[: 4 + int.from_bytes(blob[:4], "big")])[0]


Conversation = Callable[[Wire], None]


class RawTarget(Listener):
    """An SSH server that lets everybody in, and then does `conversation`; when that returns the connection ends.

    conversation, greeting: may be changed between connections. greeting: what comes before all of SSH. Stands where an
    `SshServer` is expected, for the `SshGateway` before it.
    """

    host = HOST
    login = LOGIN

    def __init__(self) -> None:
        self.key = Key.new()
        self.conversation: Conversation = lambda target: None
        self.greeting: Conversation = lambda target: None
        self.wires: list[Wire] = []
        super().__init__()

    @property
    def host_key(self) -> str:
        return " ".join(self.key.line.split()[:2])

    @property
    def known_hosts_line(self) -> str:
        return f"[{HOST}]:{self.port} {self.host_key}"

    def close(self) -> None:
        for target in self.wires:
            with contextlib.suppress(OSError):
                target.sock.shutdown(socket.SHUT_RDWR)
        super().close()

    def serve(self, connection: socket.socket) -> None:
        connection.settimeout(WAIT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = Wire(connection, self.key)
        self.wires.append(target)
        with contextlib.suppress(Ended, OSError):
            self.greeting(target)
            target.greet()
            target.exchange_keys()
            self._let_in(target)
            self.conversation(target)

    @staticmethod
    def _let_in(target: Wire) -> None:
        service = strings(target.receive()[1:])[0]
        target.send(bytes([SERVICE_ACCEPT]) + string(service))
        while True:
            user, _, method, *_ = strings_before(target.receive()[1:], 3)
            if user and method != b"none":
                target.send(bytes([SUCCESS]))
                return
            target.send(bytes([FAILURE]) + string("publickey,password") + b"\0")
