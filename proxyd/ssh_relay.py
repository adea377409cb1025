"""Moves the messages of one SSH session between its legs, and does what the gate decides.

The only executor of the gate's actions.

Theory of operation. Each leg's task feeds asyncssh, which calls `client_message` or `target_message` for every message
of the connection protocol; the gate turns it into actions, and at once the records go on the tape. What is to be sent
goes out when the batch that came together has been handled, with one call a leg. All of this is plain calls: nothing
waits, so the order of messages is the order of their coming. What a peer does not take stays with its leg, and beyond a
mark the reading from the other leg stops until it has gone. What the tape cannot take is not sent: the session ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from protocols.errors import ProtocolError
from proxyd.gates.ssh.actions import Choice, Dial
from proxyd.gates.ssh.gate import SshGate
from proxyd.metrics import Metrics, SessionOutcome
from proxyd.ssh_transport import Leg
from proxyd.tape.errors import TapeError
from proxyd.tape.ssh_taping import SshTape
from proxyd.telemetry import Log

HELD_TICK_S = 0.01
"""While detectors hold output back: how often it is looked whether it has been quiet for long enough."""
HIGH_WATER_BYTES = 1024 * 1024
LOW_WATER_BYTES = 256 * 1024
MAX_EARLY_MESSAGES = 1024
_OPEN, _CHANNEL_REQUEST = 90, 98
"""RFC 4254: messages below the first are about the connection, from the second on requests on a channel and answers."""
_KEEPALIVE = b"keepalive@"


class SshEnd(Exception):
    """Ends a session: how, why (for the log), and what the client is told ("" for nothing)."""

    def __init__(self, outcome: SessionOutcome, reason: str, farewell: str = "") -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason
        self.farewell = farewell


class SshRelay:
    """One session. `gate`, `tape` and `target` are set as it gets that far; until there is a gate, messages wait.

    `chosen` is set when somebody has chosen from the menu, `ended` with `end` when the session must be over. `moved_at`
    is when something was last done. `on_dial`, `on_streams`, `on_hang_up` and `on_client_room` are for the connections
    of jumps (`proxyd.ssh_jumps`).
    """

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self.client: Leg
        self.target: Leg | None = None
        self.gate: SshGate | None = None
        self.tape: SshTape | None = None
        self.choice: Choice | None = None
        self.chosen = trio.Event()
        self.ended = trio.Event()
        self.end: SshEnd | None = None
        self.moved_at = trio.current_time()
        self.on_dial: Callable[[Dial], None] = lambda dial: None
        self.on_streams: Callable[[list[tuple[int, bytes]]], None] = lambda streams: None
        self.on_hang_up: Callable[[int], None] = lambda number: None
        self.on_client_room: Callable[[], None] = lambda: None
        self._metrics = metrics
        self._log = log
        self._early: list[bytes] = []
        self._holding = trio.Event()

    def finish(self, end: SshEnd) -> None:
        """The session is over; the first reason counts."""
        if self.end is None:
            self.end = end
            self.ended.set()

    # Messages, as the legs' tasks bring them

    def client_message(self, payload: bytes) -> None:
        self._metrics.bytes_from_clients += len(payload)
        gate = self.gate
        if gate is None:
            if len(self._early) >= MAX_EARLY_MESSAGES:
                self.finish(
                    SshEnd(SessionOutcome.PROTOCOL, "the client does not wait", "too many messages at once")
                )
                return
            self._early.append(payload)
            self.client.pause_reading()
            return
        self._handle(gate.from_client, payload, "client")

    def target_message(self, payload: bytes) -> None:
        self._metrics.bytes_from_targets += len(payload)
        gate = self.gate
        if gate is not None:
            self._handle(gate.from_target, payload, "target")

    def begin(self, gate: SshGate) -> None:
        """There is a gate: handle what has come, and go on reading."""
        self.gate = gate
        early, self._early = self._early, []
        for payload in early:
            self._handle(gate.from_client, payload, "client")
        self.client.resume_reading()
        self.flush()

    def _handle(self, handle: Callable[[bytes], None], payload: bytes, side: str) -> None:
        if self.end is not None:
            return
        if _is_activity(payload, side):
            self.moved_at = trio.current_time()
        self._do(handle, payload, side)
        leg = self.client if side == "client" else self.target
        if leg is None or not leg.is_feeding:
            # Not part of a batch that a leg's task is feeding, which flushes at its end.
            self.flush()

    def _do(self, handle: Callable[[bytes], None], payload: bytes, side: str) -> None:
        """Let the gate work, and put on the tape what it says. Whatever goes wrong ends this session only."""
        try:
            handle(payload)
            self._record()
        except ProtocolError as fault:
            self.finish(
                SshEnd(
                    SessionOutcome.PROTOCOL,
                    f"{side} broke the protocol: {fault.message}",
                    f"protocol error: {fault.message}",
                )
            )
        except TapeError as fault:
            self._withhold()
            self.finish(tape_end(fault))
        except Exception:
            self._withhold()
            self._fail()

    def _fail(self) -> None:
        """In an `except` block: a fault of ours, which ends this session and no other."""
        self._metrics.session_crashes += 1
        self._log.exception("a session failed")
        self.finish(SshEnd(SessionOutcome.FAILED, "failed", "the gateway has failed; connect again"))

    async def guarded(self, task: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Runs a task of the session, whose faults end it."""
        try:
            await task(*arguments)
        except Exception:
            self._fail()

    def _withhold(self) -> None:
        """What may not be on the tape is not sent."""
        if self.gate is not None:
            self.gate.actions.drop()

    def act(self, change: Callable[[SshGate], None]) -> None:
        """Let the gate do something that no message has asked for, and carry it out."""
        gate = self.gate
        if gate is not None and self.end is None:
            self._do(lambda _: change(gate), b"", "the gateway")
            self.flush()

    async def show_held(self) -> None:
        """A task of the session: output that detectors hold back goes out when nothing more comes for a moment."""
        while True:
            await self._holding.wait()
            while self.gate is not None and self.gate.has_held and self.end is None:
                await trio.sleep(HELD_TICK_S)
                self.act(lambda gate: gate.tick())
            self._holding = trio.Event()

    def touch(self) -> None:
        """Something was done that is no message."""
        self.moved_at = trio.current_time()

    def say_farewell(self, end: SshEnd) -> None:
        """Put what is still open on the tape, and the last words on the channels of people."""
        gate = self.gate
        if gate is None:
            return
        self._record_or_withhold()
        if end.farewell:
            gate.farewell(f"proxyd: {end.farewell}")
        words = list(gate.actions.to_client)
        gate.record_open_channels()
        self._metrics.detected.update(gate.detected)
        self._record_or_withhold()
        self._send(self.client, words)

    def _record_or_withhold(self) -> None:
        try:
            self._record()
        except TapeError as fault:
            self._withhold()
            self._log.warning("the end of a session could not be recorded", reason=str(fault))
        except Exception:
            self._withhold()
            self._log.exception("the end of a session could not be recorded")

    # Actions

    def _record(self) -> None:
        if self.gate is None:
            return
        actions = self.gate.actions
        if actions.dials or actions.choice is not None:
            self._prepare()
        records = actions.records
        if records:
            tape = self.tape
            if tape is not None:
                for record in records:
                    record(tape)
            records.clear()

    def _prepare(self) -> None:
        """A menu or a jump leads somewhere: from here on there must be a tape."""
        actions = self.gate.actions if self.gate is not None else None
        if actions is None:
            return
        dials, choice = list(actions.dials), actions.choice
        actions.dials.clear()
        for dial in dials:
            self.on_dial(dial)
        if choice is not None and self.choice is None:
            self.choice = choice
            self.chosen.set()

    def flush(self) -> None:
        """Send what the gate has given out, and stop or resume reading by what the peers take."""
        gate = self.gate
        if gate is None or self.end is not None:
            return
        actions = gate.actions
        if actions.to_client:
            self._send(self.client, actions.to_client)
        target = self.target
        if actions.to_target and target is not None:
            self._send(target, actions.to_target)
        if actions.streams:
            self.on_streams(actions.streams)
            actions.streams.clear()
        for number in actions.hang_ups:
            self.on_hang_up(number)
        actions.hang_ups.clear()
        self._steer(target)
        self.on_client_room()
        if gate.has_held:
            self._holding.set()

    def _send(self, leg: Leg, payloads: list[bytes]) -> None:
        sent = 0
        with leg.corked():
            for payload in payloads:
                sent += len(payload)
                leg.send(payload)
        payloads.clear()
        if leg is self.client:
            self._metrics.bytes_to_clients += sent
        else:
            self._metrics.bytes_to_targets += sent

    def _steer(self, target: Leg | None) -> None:
        """A leg that does not take what it is sent stops the reading of the other, and, far beyond, its own."""
        client_backlog = self.client.backlog_bytes
        target_backlog = 0 if target is None else target.backlog_bytes
        _open_or_close(self.client, max(target_backlog, client_backlog // 4))
        if target is not None:
            _open_or_close(target, max(client_backlog, target_backlog // 4))


def _is_activity(payload: bytes, side: str) -> bool:
    """Does it keep the session from being idle? Not where a peer may only ask whether the other is there.

    sshd asks so on a channel, while one is open, and else on the connection.
    """
    if payload[0] < _CHANNEL_REQUEST:
        return payload[0] >= _OPEN
    return payload[0] == _CHANNEL_REQUEST and side == "client" and not payload.startswith(_KEEPALIVE, 9)


def _open_or_close(leg: Leg, backlog_bytes: int) -> None:
    if backlog_bytes > HIGH_WATER_BYTES:
        leg.pause_reading()
    elif backlog_bytes < LOW_WATER_BYTES:
        leg.resume_reading()


def tape_end(fault: TapeError) -> SshEnd:
    return SshEnd(
        SessionOutcome.TAPE,
        f"tape: {fault}",
        "the session can no longer be recorded, so it ends. Tell the operators of the gateway.",
    )
