"""Connections that a jump (`ssh -J`) asks for: dialled to a target's address, and moved both ways. Bytes, not messages.

What goes through is encrypted between client and target; the gateway sees how much it is. Used by `ssh_session`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

from proxyd.dialling import dial, os_reason
from proxyd.gates.ssh.actions import Dial
from proxyd.gateway import SshTargetRuntime
from proxyd.ssh_relay import SshRelay

READ_BYTES = 64 * 1024
MAX_WAITING_BYTES = 512 * 1024


class _Jump:
    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.outgoing: deque[bytes] = deque()
        self.has_outgoing = trio.Event()
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

    def dial(self, asked: Dial) -> None:
        target = self._target_of(asked)
        jump = self._open[asked.channel] = _Jump()
        self._nursery.start_soon(self._run, asked.channel, jump, target)

    def send(self, streams: list[tuple[int, bytes]]) -> None:
        for number, data in streams:
            jump = self._open.get(number)
            if jump is not None:
                jump.outgoing.append(data)
                jump.has_outgoing.set()

    def hang_up(self, number: int) -> None:
        jump = self._open.get(number)
        if jump is not None:
            jump.scope.cancel()

    def client_has_room(self) -> None:
        for jump in self._open.values():
            jump.client_has_room.set()

    async def _run(self, number: int, jump: _Jump, target: SshTargetRuntime | None) -> None:
        try:
            with jump.scope:
                await self._connect(number, jump, target)
        finally:
            self._open.pop(number, None)

    async def _connect(self, number: int, jump: _Jump, target: SshTargetRuntime | None) -> None:
        if target is None:
            self._relay.act(lambda gate: gate.not_dialled(number, "the target is not there any more"))
            return
        try:
            with trio.fail_after(target.config.connect_timeout):
                stream = await dial(target.config.address)
        except (OSError, trio.TooSlowError) as fault:
            why = os_reason(fault) if isinstance(fault, OSError) else "no answer in time"
            self._relay.act(
                lambda gate: gate.not_dialled(number, f"{target.facts.name} cannot be reached: {why}")
            )
            return
        async with stream:
            self._relay.act(lambda gate: gate.dialled(number))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, number, jump, stream)
                await self._read(number, jump, stream)
                nursery.cancel_scope.cancel()

    async def _read(self, number: int, jump: _Jump, stream: trio.SocketStream) -> None:
        while True:
            try:
                data = await stream.receive_some(READ_BYTES)
            except trio.BrokenResourceError:
                data = b""
            self._pass_on(number, bytes(data))
            if not data:
                return
            while self._is_full(number):
                jump.client_has_room = trio.Event()
                await jump.client_has_room.wait()

    def _pass_on(self, number: int, data: bytes) -> None:
        self._relay.act(lambda gate: gate.from_stream(number, data))

    def _is_full(self, number: int) -> bool:
        gate = self._relay.gate
        return gate is not None and gate.waiting_for_client(number) > MAX_WAITING_BYTES

    async def _write(self, number: int, jump: _Jump, stream: trio.SocketStream) -> None:
        while True:
            await jump.has_outgoing.wait()
            while jump.outgoing:
                data = jump.outgoing.popleft()
                try:
                    await (stream.send_all(data) if data else stream.send_eof())
                except trio.BrokenResourceError:
                    return
            jump.has_outgoing = trio.Event()
            self._relay.act(lambda gate: gate.stream_taken(number))
