"""The SSH gate between two peers that do whatever the protocol lets them, in any order; and between two that do not.

Each peer checks what it is sent as strictly as RFC 4254 allows: its windows and packets, what it was told after an end,
numbers that it does not know. What one side sends on a channel that runs arrives at the other in order, each byte once.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import ProtocolError
from protocols.ssh import messages as wire
from proxyd.gates.ssh.lobby import Lobby
from proxyd.gates.ssh.windows import End
from tests.proxyd.gates.ssh.playbook import Playbook, exec_of, exit_status, opening, pty, resize, shell
from tests.proxyd.gates.ssh.test_lobby import PLACES

PACKET = 300


@dataclass
class Side:
    """One peer's view of a channel. `number` is its own, `remote` the gateway's.

    sent, got: the bytes of each stream (0 output or input, 1 errors). room: what it may still send; granted: what the
    gateway may still send to it.
    """

    number: int
    remote: int
    room: int
    granted: int
    sent: dict[int, bytes] = field(default_factory=lambda: {0: b"", 1: b""})
    got: dict[int, bytes] = field(default_factory=lambda: {0: b"", 1: b""})
    has_sent_eof: bool = False
    has_sent_close: bool = False
    has_got_eof: bool = False
    has_got_close: bool = False
    owes: list[str] = field(default_factory=list)
    is_owed: list[str] = field(default_factory=list)
    is_running: bool = False
    is_refused: bool = False


class Peer:
    """One of the two. `say` collects its messages for the gateway."""

    def __init__(self, first: int) -> None:
        self.next = first
        self.sides: dict[int, Side] = {}
        self.opening: dict[int, int] = {}  # its own number: the window that it has granted
        self.asked: list[wire.ChannelOpen] = []
        self.said: list[bytes] = []
        self.done: list[Side] = []

    def say(self, payload: bytes) -> None:
        self.said.append(payload)

    # What it hears

    def hear(self, payload: bytes) -> None:
        message = wire.parse(payload)
        match message:
            case wire.ChannelOpen():
                self.asked.append(message)
            case wire.OpenConfirmation():
                granted = self.opening.pop(message.recipient)
                self.sides[message.recipient] = Side(
                    message.recipient, message.sender, message.window, granted
                )
            case wire.OpenFailure():
                del self.opening[message.recipient]
            case wire.Data(number, data):
                self._data(self.sides[number], 0, data)
            case wire.ExtendedData(number, code, data):
                self._data(self.sides[number], code, data)
            case wire.WindowAdjust(number, added):
                side = self._open(number)
                side.room += added
                assert side.room <= 0xFFFFFFFF
            case wire.Eof(number):
                side = self._open(number)
                assert not side.has_got_eof
                side.has_got_eof = True
            case wire.Close(number):
                side = self._open(number)
                side.has_got_close = True
                self._forget(side)
            case wire.ChannelRequest(number, name, want_reply, _):
                side = self._open(number)
                if want_reply:
                    side.owes.append(name)
            case wire.ChannelSuccess(number) | wire.ChannelFailure(number):
                side = self._open(number)
                name = side.is_owed.pop(0)
                if name == "exec" and isinstance(message, wire.ChannelSuccess):
                    side.is_running = True
            case _:
                raise AssertionError(message)

    def _open(self, number: int) -> Side:
        side = self.sides[number]
        assert not side.has_got_close
        return side

    def _data(self, side: Side, stream: int, data: bytes) -> None:
        assert not side.has_got_close
        assert not side.has_got_eof
        assert 0 < len(data) <= PACKET
        side.granted -= len(data)
        assert side.granted >= 0
        side.got[stream] += data

    # What it does

    def grant(self, side: Side, added: int) -> None:
        if not side.has_sent_close:
            side.granted += added
            self.say(wire.window_adjust(side.remote, added))

    def send(self, side: Side, stream: int, data: bytes) -> None:
        data = data[: side.room]
        if data and not side.has_sent_eof and not side.has_sent_close:
            side.room -= len(data)
            side.sent[stream] += data
            self.say(
                wire.extended_data(side.remote, 1, data) if stream else wire.channel_data(side.remote, data)
            )

    def end(self, side: Side) -> None:
        if not side.has_sent_eof and not side.has_sent_close:
            side.has_sent_eof = True
            self.say(wire.channel_eof(side.remote))

    def close(self, side: Side) -> None:
        if not side.has_sent_close:
            side.has_sent_close = True
            self.say(wire.channel_close(side.remote))
            self._forget(side)

    def _forget(self, side: Side) -> None:
        if side.has_sent_close and side.has_got_close:
            self.done.append(self.sides.pop(side.number))


class World:
    def __init__(self) -> None:
        self.play = Playbook()
        self.client = Peer(100)
        self.target = Peer(500)
        self.pairs: dict[int, tuple[Side, Side]] = {}  # by the gateway's number
        self.peak = 0

    # Steps; `pick` chooses among what there is, `size` is a small number

    def step(self, what: str, pick: int, size: int) -> None:
        getattr(self, f"_{what}")(pick, size)
        self.settle()

    def settle(self) -> None:
        gate, actions = self.play.gate, self.play.actions
        for payload in self.client.said:
            gate.from_client(payload)
        for payload in self.target.said:
            gate.from_target(payload)
        self.client.said.clear()
        self.target.said.clear()
        actions.records.clear()
        to_client, to_target = list(actions.to_client), list(actions.to_target)
        actions.to_client.clear()
        actions.to_target.clear()
        for payload in to_client:
            self.client.hear(payload)
        for payload in to_target:
            self.target.hear(payload)
        self._pair()
        for channel in gate._state.channels.values():
            for end in (channel.client, channel.target):
                assert _kept(end) == end.queued_bytes <= end.window * 3 // 2
                assert end.granted <= end.window
            assert len(channel.early) <= channel.client.window

    def _pair(self) -> None:
        near = {side.remote: side for side in self.client.sides.values()}
        for side in self.target.sides.values():
            if side.remote in near:
                self.pairs.setdefault(side.remote, (near[side.remote], side))

    def _open(self, pick: int, size: int) -> None:
        number, self.client.next = self.client.next, self.client.next + 1
        self.client.opening[number] = size * 7
        self.client.say(opening(sender=number, window=size * 7, max_packet=PACKET))

    def _answer_open(self, pick: int, size: int) -> None:
        if not self.target.asked:
            return
        asked = self.target.asked.pop(pick % len(self.target.asked))
        if pick % 5 == 0:
            self.target.say(wire.open_failure(asked.sender, 4, "no"))
            return
        number, self.target.next = self.target.next, self.target.next + 1
        self.target.sides[number] = Side(number, asked.sender, asked.window, size * 5)
        self.target.say(wire.open_confirmation(asked.sender, number, size * 5, PACKET))

    def _exec(self, pick: int, size: int) -> None:
        side = _one(self.client, pick)
        if side is not None and not side.has_sent_close and not side.is_owed and not side.is_running:
            side.is_owed.append("exec")
            side.is_refused = pick % 7 == 0
            self.client.say(exec_of("rm -r /" if side.is_refused else "ls /srv", side.remote))

    def _answer(self, pick: int, size: int) -> None:
        side = _one(self.target, pick)
        if side is not None and side.owes and not side.has_sent_close:
            side.owes.pop(0)
            is_yes = pick % 6 != 0
            side.is_running = is_yes
            answer = wire.channel_success if is_yes else wire.channel_failure
            self.target.say(answer(side.remote))

    def _client_data(self, pick: int, size: int) -> None:
        if (side := _one(self.client, pick)) is not None:
            self.client.send(side, 0, _bytes(side.sent[0], size * 11))

    def _target_data(self, pick: int, size: int) -> None:
        if (side := _one(self.target, pick)) is not None and side.is_running:
            stream = size % 2
            self.target.send(side, stream, _bytes(side.sent[stream], size * 13))

    def _client_grant(self, pick: int, size: int) -> None:
        if (side := _one(self.client, pick)) is not None:
            self.client.grant(side, size)

    def _target_grant(self, pick: int, size: int) -> None:
        if (side := _one(self.target, pick)) is not None:
            self.target.grant(side, size * 3)

    def _client_end(self, pick: int, size: int) -> None:
        if (side := _one(self.client, pick)) is not None:
            self.client.end(side)

    def _target_end(self, pick: int, size: int) -> None:
        if (side := _one(self.target, pick)) is not None:
            self.target.end(side)

    def _client_close(self, pick: int, size: int) -> None:
        if (side := _one(self.client, pick)) is not None:
            self.client.close(side)

    def _target_close(self, pick: int, size: int) -> None:
        if (side := _one(self.target, pick)) is not None:
            self.target.close(side)

    def _status(self, pick: int, size: int) -> None:
        side = _one(self.target, pick)
        if side is not None and side.is_running and not side.has_sent_close:
            self.target.say(exit_status(size, side.remote))

    # The end

    def finish(self) -> None:
        """Both take whatever there is."""
        for _ in range(4):
            for peer in (self.client, self.target):
                for side in list(peer.sides.values()):
                    peer.grant(side, 1 << 26)
            self.settle()
        for near, far in self.pairs.values():
            if near.is_refused:
                assert near.got[0] == far.sent[0] == far.got[0] == b""
                continue
            # What the client sends before anything runs is kept for what will.
            _check(near, far, [0], is_whole=far.is_running)
            _check(far, near, [0, 1], is_whole=True)


def _check(sender: Side, receiver: Side, streams: list[int], *, is_whole: bool) -> None:
    for stream in streams:
        sent, got = sender.sent[stream], receiver.got[stream]
        assert sent.startswith(got)
        if is_whole and not receiver.has_sent_close and not receiver.has_got_close:
            assert got == sent
            assert receiver.has_got_eof == sender.has_sent_eof or receiver.has_got_close


def _one(peer: Peer, pick: int) -> Side | None:
    sides = list(peer.sides.values())
    return sides[pick % len(sides)] if sides else None


def _bytes(sent: bytes, size: int) -> bytes:
    """What is sent says where it belongs."""
    return b"".join(b"%d " % (len(sent) + index) for index in range(size))[:size]


def _kept(end: End) -> int:
    return sum(len(piece[1]) for piece in end.queue if isinstance(piece, tuple))


STEPS = [name.removeprefix("_") for name in vars(World) if name.startswith("_") and name[1].isalpha()]
STEPS.remove("pair")
# Ends come seldom, or hardly anything would run.
WEIGHTED = [*STEPS, *["client_data", "target_data", "client_grant", "target_grant", "answer", "exec"] * 3]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 41), st.integers(0, 200)),
        max_size=150,
    )
)
def test_two_peers_that_keep_to_the_protocol(steps: list[tuple[str, int, int]]) -> None:
    world = World()
    for beginning in (("open", 1, 100), ("answer_open", 1, 50), ("exec", 1, 1), ("answer", 1, 1)):
        world.step(*beginning)
    for step in steps:
        world.step(*step)
    world.finish()


NUMBERS = st.integers(0, 3)
BODIES = st.binary(max_size=40)
NAMES = st.sampled_from(
    ["pty-req", "env", "shell", "exec", "subsystem", "signal", "window-change", "exit-status", "x11-req", "x"]
)
KINDS = st.sampled_from(["session", "direct-tcpip", "forwarded-tcpip", "x11", "auth-agent@openssh.com", "x"])
GLOBALS = st.sampled_from(["tcpip-forward", "cancel-tcpip-forward", "keepalive@openssh.com", "x"])
WINDOWS = st.sampled_from([0, 1, 1000, 0x7FFFFFFF, 0xFFFFFFFF])
MESSAGES = st.one_of(
    st.builds(wire.channel_open, KINDS, NUMBERS, WINDOWS, WINDOWS, BODIES),
    st.builds(wire.open_confirmation, NUMBERS, NUMBERS, WINDOWS, WINDOWS),
    st.builds(wire.open_failure, NUMBERS, NUMBERS, st.just("no")),
    st.builds(wire.channel_data, NUMBERS, BODIES),
    st.builds(wire.extended_data, NUMBERS, NUMBERS, BODIES),
    st.builds(wire.window_adjust, NUMBERS, WINDOWS),
    st.builds(wire.channel_eof, NUMBERS),
    st.builds(wire.channel_close, NUMBERS),
    st.builds(wire.channel_success, NUMBERS),
    st.builds(wire.channel_failure, NUMBERS),
    st.builds(wire.channel_request, NUMBERS, NAMES, st.booleans(), BODIES),
    st.builds(wire.global_request, GLOBALS, st.booleans(), BODIES),
    st.builds(wire.request_success, BODIES),
    st.just(wire.request_failure()),
    st.sampled_from(
        [opening(), pty(), shell(), exec_of("ls /srv"), exec_of("rm -r /"), exec_of("scp -t /"), resize(1, 1)]
    ),
    st.binary(max_size=60),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), MESSAGES), max_size=60), st.booleans())
def test_two_peers_that_do_not(said: list[tuple[bool, bytes]], has_menu: bool) -> None:
    """Nothing but ProtocolError, and one fault changes nothing for what comes behind it."""
    play = Playbook(lobby=Lobby(PLACES) if has_menu else None)
    for is_client, payload in [(True, opening()), (False, wire.open_confirmation(0, 40, 100, 1000)), *said]:
        with contextlib.suppress(ProtocolError):
            (play.gate.from_client if is_client else play.gate.from_target)(payload)
        play.taped()
    play.gate.farewell("proxyd: enough")
    play.gate.record_open_channels()
    play.taped()
    for outgoing in (*play.actions.to_client, *play.actions.to_target):
        wire.parse(outgoing)
