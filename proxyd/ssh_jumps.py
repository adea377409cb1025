"""Connections that a jump (`ssh -J`) asks for: dialled to a target's address, and moved both ways. Bytes, not messages.

What goes through is encrypted between client and target; the gateway sees how much it is. Used by `ssh_session`.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from proxyd.dialling import dial, os_reason
from proxyd.gates.ssh.actions import Dial
from proxyd.gateway import SshTargetRuntime
from proxyd.ssh_relay import HIGH_WATER_BYTES, SshRelay

READ_BYTES = 64 * 1024
MAX_WAITING_BYTES = 512 * 1024
HANG_UP_TIMEOUT_S = 10.0
"""How long what the client has sent before it closed its channel may take to get to the target."""


class _Jump:
    """One connection. `outgoing` is what the client has sent and the target not taken; the client's window bounds it.

    has_ended: the client sends no more. is_left: it has closed the channel.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.outgoing = bytearray()
        self.has_ended = False
        self.is_left = False
        self.has_news = trio.Event()
        self.client_has_room = trio.Event()


class Jumps:
    """All jumps of one session. `target_of` finds the target of a dial, and sees to the tape (raises TapeError)."""

    def __init__(
        self, nursery: trio.Nursery, relay: SshRelay, target_of: Callable[[Dial], SshTargetRuntime | None]
    ) -> None:
        self._nursery = nursery
        self._relay = relay
        self._target_of = target_of
        self._open: dict[int, _Jump] = {}
        relay.on_dial = self.dial
        relay.on_streams = self.send
        relay.on_hang_up = self.hang_up
        relay.on_client_room = self.client_has_room

    def __len__(self) -> int:
        return len(self._open)

    def dial(self, asked: Dial) -> None:
        target = self._target_of(asked)
        jump = self._open[asked.channel] = _Jump()
        self._nursery.start_soon(self._relay.guarded, self._run, asked.channel, jump, target)

    def send(self, streams: list[tuple[int, bytes]]) -> None:
        for number, data in streams:
            jump = self._open.get(number)
            if jump is not None:
                jump.outgoing += data
                jump.has_ended = jump.has_ended or not data
                jump.has_news.set()

    def hang_up(self, number: int) -> None:
        """The client has closed the channel: what it has sent still goes out, what comes is for nobody."""
        jump = self._open.get(number)
        if jump is not None:
            jump.is_left = True
            jump.scope.deadline = trio.current_time() + HANG_UP_TIMEOUT_S
            jump.has_news.set()
            jump.client_has_room.set()

    def client_has_room(self) -> None:
        for jump in self._open.values():
            jump.client_has_room.set()

    async def _run(self, number: int, jump: _Jump, target: SshTargetRuntime | None) -> None:
        try:
            with jump.scope:
                stream = await self._connect(number, target)
                if stream is not None:
                    async with stream:
                        await self._move(number, jump, stream)
            self._relay.act(lambda gate: gate.stream_over(number))
        finally:
            self._open.pop(number, None)

    async def _connect(self, number: int, target: SshTargetRuntime | None) -> trio.SocketStream | None:
        if target is None:
            self._relay.act(lambda gate: gate.not_dialled(number, "the target is not there any more"))
            return None
        try:
            with trio.fail_after(target.config.connect_timeout):
                stream = await dial(target.config.address)
        except (OSError, trio.TooSlowError) as fault:
            why = os_reason(fault) if isinstance(fault, OSError) else "no answer in time"
            self._relay.act(
                lambda gate: gate.not_dialled(number, f"{target.facts.name} cannot be reached: {why}")
            )
            return None
        self._relay.act(lambda gate: gate.dialled(number))
        return stream

    async def _move(self, number: int, jump: _Jump, stream: trio.SocketStream) -> None:
        """Both ways, until both are at their end, one is broken, or the client has left."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, number, jump, stream, nursery.cancel_scope)
            if not await self._read(number, jump, stream):
                nursery.cancel_scope.cancel()

    async def _read(self, number: int, jump: _Jump, stream: trio.SocketStream) -> bool:
        """False when the connection is broken."""
        while True:
            try:
                data = bytes(await stream.receive_some(READ_BYTES))
            except trio.BrokenResourceError:
                return False
            self._relay.touch()
            self._relay.act(lambda gate, data=data: gate.from_stream(number, data))  # type: ignore[misc]
            if not data:
                return True
            while not jump.is_left and self._is_full(number):
                jump.client_has_room = trio.Event()
                await jump.client_has_room.wait()

    def _is_full(self, number: int) -> bool:
        gate = self._relay.gate
        if gate is None:
            return False
        return (
            gate.waiting_for_client(number) > MAX_WAITING_BYTES
            or self._relay.client.backlog_bytes > HIGH_WATER_BYTES
        )

    async def _write(
        self, number: int, jump: _Jump, stream: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        try:
            while True:
                await jump.has_news.wait()
                while jump.outgoing:
                    data, jump.outgoing = jump.outgoing, bytearray()
                    await stream.send_all(data)
                if jump.is_left:
                    break
                if jump.has_ended:
                    await stream.send_eof()
                    return
                jump.has_news = trio.Event()
                self._relay.act(lambda gate: gate.stream_taken(number))
        except trio.BrokenResourceError:
            pass
        both.cancel()
