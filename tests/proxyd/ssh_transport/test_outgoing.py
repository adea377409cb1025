"""What is written to a socket: in order and whole, whatever the kernel takes at a time."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from proxyd.ssh_transport.outgoing import MAX_PIECES, Outgoing


@dataclass
class Wire:
    """Both ends of a connection, the writing one behind an `Outgoing`."""

    near: socket.socket
    far: socket.socket
    outgoing: Outgoing = field(init=False)
    waits: int = 0
    faults: list[OSError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.outgoing = Outgoing(self.near, self._wait, self.faults.append)

    def _wait(self) -> None:
        self.waits += 1

    def read(self) -> bytes:
        """What has come up to now."""
        found = bytearray()
        try:
            while data := self.far.recv(1 << 20):
                found += data
        except BlockingIOError:
            pass
        return bytes(found)

    def read_all(self) -> bytes:
        """What has come, and what waits, as a task would send it."""
        found = self.read()
        while self.outgoing:
            self.outgoing.send_waiting()
            found += self.read()
        return found


@pytest.fixture
def wire() -> Iterator[Wire]:
    near, far = socket.socketpair()
    with near, far:
        yield Wire(near, far)


def pattern(count: int) -> bytes:
    return bytes(index * 7 % 251 for index in range(count))


def test_it_is_sent_at_once(wire: Wire) -> None:
    wire.outgoing.write(b"one")
    wire.outgoing.write(b"two")
    assert wire.read() == b"onetwo"
    assert (wire.outgoing.waiting_bytes, wire.waits) == (0, 0)


def test_what_the_kernel_does_not_take_waits_in_its_order(wire: Wire) -> None:
    pieces = [pattern(300_000), b"behind", pattern(500_001), b"last"]
    for piece in pieces:
        wire.outgoing.write(piece)
    assert wire.outgoing
    assert wire.waits
    first = wire.read()
    assert len(first) + wire.outgoing.waiting_bytes == sum(map(len, pieces))
    # What comes now may not overtake what waits, though the kernel would take it.
    wire.outgoing.write(b"later")
    assert first + wire.read_all() == b"".join(pieces) + b"later"
    assert (wire.outgoing.waiting_bytes, bool(wire.outgoing)) == (0, False)


def test_gathered_pieces_go_out_together_at_the_end_of_the_block(wire: Wire) -> None:
    with wire.outgoing.corked():
        wire.outgoing.write(b"one ")
        with wire.outgoing.corked():
            wire.outgoing.write(b"two ")
        wire.outgoing.write(b"three")
        assert wire.read() == b""
    assert wire.read() == b"one two three"


def test_gathered_pieces_wait_behind_what_waits(wire: Wire) -> None:
    wire.outgoing.write(pattern(1_000_000))
    first = wire.read()
    with wire.outgoing.corked():
        wire.outgoing.write(b"one")
        wire.outgoing.write(b"two")
    assert first + wire.read_all() == pattern(1_000_000) + b"onetwo"


def test_more_pieces_than_one_call_takes(wire: Wire) -> None:
    pieces = [b"%d;" % index for index in range(MAX_PIECES * 2 + 3)]
    with wire.outgoing.corked():
        for piece in pieces:
            wire.outgoing.write(piece)
    assert wire.read_all() == b"".join(pieces)


def test_a_block_that_fails_sends_what_was_written_in_it(wire: Wire) -> None:
    with pytest.raises(KeyError), wire.outgoing.corked():
        wire.outgoing.write(b"said")
        raise KeyError
    assert wire.read() == b"said"


@pytest.mark.parametrize("is_corked", [False, True])
def test_a_broken_connection_is_told_and_raises_nothing(wire: Wire, is_corked: bool) -> None:
    wire.far.close()
    if is_corked:
        with wire.outgoing.corked():
            wire.outgoing.write(b"one")
            wire.outgoing.write(b"two")
    else:
        wire.outgoing.write(b"one")
    assert [type(fault) for fault in wire.faults] == [BrokenPipeError]
    assert not wire.outgoing


def test_a_connection_that_breaks_while_something_waits(wire: Wire) -> None:
    wire.outgoing.write(pattern(1_000_000))
    wire.far.close()
    with pytest.raises(OSError, match=r"."):
        wire.outgoing.send_waiting()
