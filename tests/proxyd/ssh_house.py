"""A gateway's SSH door in this process, before targets that tests play, message by message.

    async with ssh_house(tmp_path) as house:
        client = await house.client()               # logged in as deploy+web1
        target = await house.target()               # the connection that the gateway has made for it
        number = await open_session(client, target)

A `Peer` is one end of a real SSH connection (by the gateway's own transport); what it hears is waited for with `hears`.
The clock is trio's, so that tests may jump it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncssh
import trio
import yaml

from protocols.ssh import messages as wire
from proxyd.gateway import Gateway
from proxyd.identity.ssh import Step
from proxyd.listeners import Reception
from proxyd.metrics import Metrics
from proxyd.references import Material
from proxyd.ssh_door import SSH_DOOR
from proxyd.ssh_host_keys import Destination, HostKeyCheck
from proxyd.ssh_known_hosts import KnownKeys
from proxyd.ssh_listener import SshListenerRuntime
from proxyd.ssh_public_keys import public_key
from proxyd.ssh_transport import Leg, connect_target, serve_client, server_options, use_loop
from proxyd.telemetry import Telemetry
from tests.proxyd.documents import write_secret
from tests.proxyd.gates.ssh.playbook import PEER_PACKET, PEER_WINDOW, POLICY
from tests.ssh_pki import Key

HOST = "127.0.0.1"
USER = "deploy+web1"
WAIT_S = 60.0

Document = dict[str, Any]
MessageT = TypeVar("MessageT", bound=wire.Message)


def host_key_of(key: Key) -> HostKeyCheck:
    known = KnownKeys(keys=(public_key(key.line),))
    return HostKeyCheck(Destination("gateway", HOST, 22, "the test"), known, time.time)


class Anybody:
    """Lets everybody in who signs with a key or answers a question. `names`: who came."""

    notice = ""

    def __init__(self, steps: Sequence[Step] = (Step.DONE,)) -> None:
        self.names: list[str] = []
        self.calls: list[str] = []
        self._steps = deque(steps)

    def methods(self, user: str) -> tuple[str, ...]:
        return ("publickey", "keyboard-interactive") if self._steps else ()

    def offer(self, user: str, algorithm: bytes, key_blob: bytes) -> bool:
        self.calls.append("offer")
        return True

    def verify_key(self, user: str, key_blob: bytes, signed: bytes, signature: bytes) -> Step:
        return self._next(user, "key")

    def prompts(self, user: str) -> tuple[tuple[str, bool], ...] | None:
        self.calls.append("prompts")
        return (("Code: ", False),)

    def further_prompts(self) -> tuple[tuple[str, bool], ...]:
        return (("More: ", False),)

    def answer(self, user: str, responses: Sequence[str]) -> Step:
        return self._next(user, f"answer {list(responses)}")

    def _next(self, user: str, call: str) -> Step:
        self.names.append(user)
        self.calls.append(call)
        return self._steps.popleft()


class Peer:
    """One end of a connection, played by the test."""

    def __init__(self) -> None:
        self.leg: Leg
        self._in, self._out = trio.open_memory_channel[wire.Message](math.inf)
        self.ended = trio.Event()

    def take(self, payload: bytes) -> None:
        self._in.send_nowait(wire.parse(payload))

    def says(self, *payloads: bytes) -> None:
        with self.leg.corked():
            for payload in payloads:
                self.leg.send(payload)

    async def hears(self, kind: type[MessageT]) -> MessageT:
        """The next message, which has to be of this kind."""
        message = await self._out.receive()
        assert isinstance(message, kind), message
        return message

    async def until(self, kind: type[MessageT]) -> MessageT:
        """The next message of this kind, whatever comes before it."""
        while not isinstance(message := await self._out.receive(), kind):
            pass
        return message

    def heard(self) -> list[wire.Message]:
        """What came up to now and was not waited for."""
        found: list[wire.Message] = []
        with contextlib.suppress(trio.WouldBlock):
            while True:
                found.append(self._out.receive_nowait())
        return found

    async def run(self) -> None:
        try:
            await self.leg.run()
        finally:
            self.leg.close_socket()
            self.ended.set()

    @property
    def last_words(self) -> str:
        """With what the gateway has ended the connection."""
        return "" if self.leg.lost is None else self.leg.lost.reason


class SshHouse:
    """`policy` and `config` are read when the house is opened; later a test swaps the policy by `gateway`."""

    def __init__(self, directory: Path, nursery: trio.Nursery) -> None:
        self.directory = directory
        self.nursery = nursery
        self.stream = io.StringIO()
        self.keys = {name: Key.new() for name in ("host", "target_host", "login", "alice", "bob")}
        self.gateway: Gateway
        self.runtime: SshListenerRuntime
        self.port = 0
        self.target_port = 0
        self.targets_in, self._targets = trio.open_memory_channel[Peer](math.inf)
        self.target_guests = Anybody([Step.DONE] * 1000)

    # What is known of it

    @property
    def lines(self) -> list[Document]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    def logged(self, event: str) -> list[Document]:
        return [line for line in self.lines if line["event"] == event]

    async def until_logged(self, event: str, count: int = 1) -> Document:
        with trio.fail_after(WAIT_S):
            while len(self.logged(event)) < count:
                await trio.lowlevel.checkpoint()
                await trio.to_thread.run_sync(time.sleep, 0.001)
        return self.logged(event)[count - 1]

    @property
    def metrics(self) -> Metrics:
        return self.gateway.metrics

    @property
    def tapes(self) -> list[Path]:
        return sorted((path for path in (self.directory / "tapes").rglob("*.tape")), key=lambda p: p.name)

    # Peers

    async def client(self, user: str = USER, person: str = "alice") -> Peer:
        """Logged in; a gateway that did not let it in is an error."""
        peer = await self.stranger(user, person)
        assert peer.leg.lost is None, peer.last_words
        return peer

    async def stranger(self, user: str = USER, person: str = "alice", **options: Any) -> Peer:
        """Has tried to log in."""
        peer = Peer()
        stream = await trio.open_tcp_stream(HOST, self.port)
        peer.leg = await connect_target(
            stream,
            peer.take,
            host=HOST,
            port=self.port,
            username=user,
            client_keys=asyncssh.load_keypairs([self.keys[person].key]),
            password=None,
            host_key=host_key_of(self.keys["host"]),
            version="test",
            **options,
        )
        self.nursery.start_soon(peer.run)
        await peer.leg.ready.wait()
        return peer

    async def target(self) -> Peer:
        """The next connection that the gateway has made, once it is logged in."""
        peer = await self._targets.receive()
        await peer.leg.ready.wait()
        return peer

    async def serve_target(self, stream: trio.SocketStream) -> None:
        peer = Peer()
        loop = self.gateway.ssh_loop
        assert loop is not None
        options = await server_options(asyncssh.load_keypairs([self.keys["target_host"].key]), "target")
        peer.leg = serve_client(loop, options, stream, self.target_guests, peer.take)
        self.targets_in.send_nowait(peer)
        await peer.run()

    # Documents

    def write(self, policy: str, adjust: Callable[[Document], None]) -> Path:
        directory = self.directory
        for name in ("ssh", "secrets", "tapes"):
            (directory / name).mkdir()
        self.keys["host"].write(directory / "ssh/host")
        self.keys["login"].write(directory / "ssh/login")
        write_secret(directory / "secrets/bob.totp", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
        (directory / "policy.yaml").write_text(policy)
        config = self._config()
        adjust(config)
        path = directory / "proxyd.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return path

    def _config(self) -> Document:
        return {
            "version": 1,
            "listeners": [
                {
                    "name": "ssh",
                    "protocol": "ssh",
                    "address": f"{HOST}:0",
                    "host_keys": ["ssh/host"],
                    "factors": [["public_key"]],
                    "limits": {"connections": 20, "connections_per_subject": 10, "handshake_timeout": "5s"},
                }
            ],
            "identity": {
                "people": [
                    {"name": f"{name}@example.com", "groups": [group], "keys": [self.keys[name].line]}
                    for name, group in (("alice", "operators"), ("bob", "guests"))
                ]
            },
            "targets": [
                {
                    "name": "web1",
                    "protocol": "ssh",
                    "address": f"{HOST}:{self.target_port}",
                    "host_keys": {"keys": [self.keys["target_host"].line]},
                    "environment": ["LANG"],
                    "logins": [{"name": "deploy", "user": "deploy", "key": {"file": "ssh/login"}}],
                    "connect_timeout": "3s",
                }
            ],
            "policy": "policy.yaml",
            "tapes": {"directory": "tapes"},
            "log": {"level": "info"},
        }


@contextlib.asynccontextmanager
async def ssh_house(
    directory: Path,
    *,
    policy: str = POLICY,
    adjust: Callable[[Document], None] = lambda config: None,
) -> AsyncIterator[SshHouse]:
    """A house whose door is open. What still lives in it ends with the block."""
    async with trio.open_nursery() as nursery:
        house = SshHouse(directory, nursery)
        (listener,) = await trio.open_tcp_listeners(0, host=HOST)
        house.target_port = listener.socket.getsockname()[1]
        material = Material.read(house.write(policy, adjust), time.time())
        telemetry = Telemetry(stream=house.stream)
        gateway = house.gateway = Gateway.from_config(material.config, material.policy, telemetry=telemetry)
        assert SSH_DOOR.background is not None
        await nursery.start(SSH_DOOR.background, gateway)
        assert gateway.ssh_loop is not None
        use_loop(gateway.ssh_loop)  # for the peers
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.serve_listeners, house.serve_target, [listener])
            await _open_door(house, inner)
            house.nursery = inner
            yield house
            inner.cancel_scope.cancel()
        nursery.cancel_scope.cancel()


async def _open_door(house: SshHouse, nursery: trio.Nursery) -> None:
    gateway = house.gateway
    (config,) = gateway.config.listeners
    assert config.protocol == "ssh"
    house.runtime = SSH_DOOR.open(config, gateway)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    house.port = listener.socket.getsockname()[1]

    async def serve(stream: trio.SocketStream, runtime: object) -> None:
        await SSH_DOOR.serve(stream, house.runtime, gateway)

    reception = Reception(
        serve, lambda runtime: SSH_DOOR.full_notice(house.runtime), nursery, gateway.metrics, gateway.log
    )
    nursery.start_soon(reception.serve, house.runtime, listener)


# What most conversations begin with


async def open_session(client: Peer, target: Peer, sender: int = 10, theirs: int = 40) -> int:
    """A session's channel, open at both; the gateway's number for it."""
    client.says(wire.channel_open("session", sender, PEER_WINDOW, PEER_PACKET))
    asked = await target.hears(wire.ChannelOpen)
    target.says(wire.open_confirmation(asked.sender, theirs, PEER_WINDOW, PEER_PACKET))
    confirmed = await client.hears(wire.OpenConfirmation)
    assert confirmed.sender == asked.sender
    return asked.sender


async def run_command(client: Peer, target: Peer, command: str = "ls /srv", **numbers: int) -> int:
    """The same with a command that runs."""
    number = await open_session(client, target, **numbers)
    body = len(command).to_bytes(4, "big") + command.encode()
    client.says(wire.channel_request(number, "exec", True, body))
    assert (await target.hears(wire.ChannelRequest)).name == "exec"
    target.says(wire.channel_success(number))
    await client.hears(wire.ChannelSuccess)
    return number
