"""WebSocket frames, both ends: sound ones whole and byte by byte, broken ones, and whatever comes."""

from __future__ import annotations

import random
import struct

import pytest

from protocols.errors import LocalProtocolError, ProtocolError
from protocols.http.websocket import Closed, Piece, Pinged, Ponged, WebSocket, WsEvent

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(kind: int, data: bytes = b"", *, ends: bool = True, masks: bool = True, reserved: int = 0) -> bytes:
    first = (0x80 if ends else 0) | reserved << 4 | kind
    length = len(data)
    if length < 126:
        size = bytes([length])
    elif length < 65536:
        size = b"\x7e" + struct.pack("!H", length)
    else:
        size = b"\x7f" + struct.pack("!Q", length)
    if not masks:
        return bytes([first]) + size + data
    key = b"\x01\x02\x03\x04"
    masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
    return bytes([first, size[0] | 0x80]) + size[1:] + key + masked


def joined(events: list[WsEvent]) -> list[WsEvent]:
    """Pieces of one message as one."""
    found: list[WsEvent] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, Piece) and isinstance(last, Piece) and not last.ends:
            found[-1] = Piece(last.data + event.data, event.ends)  # type: ignore[operator]
        else:
            found.append(event)
    return found


SOUND: dict[str, tuple[list[tuple[int, bytes, bool]], list[WsEvent]]] = {
    "a text": ([(TEXT, "grüezi".encode(), True)], [Piece("grüezi", True)]),
    "bytes": ([(BINARY, b"\0\xff", True)], [Piece(b"\0\xff", True)]),
    "an empty text": ([(TEXT, b"", True)], [Piece("", True)]),
    "a character cut in two": (
        [(TEXT, "ü".encode()[:1], False), (0, "ü".encode()[1:], True)],
        [Piece("ü", True)],
    ),
    "a ping within a message": (
        [(TEXT, b"a", False), (PING, b"p", True), (0, b"b", True)],
        [Piece("a", False), Pinged(b"p"), Piece("b", True)],
    ),
    "a pong": ([(PONG, b"p", True)], [Ponged(b"p")]),
    "a close": ([(CLOSE, struct.pack("!H", 4000) + b"why", True)], [Closed(4000, "why")]),
    "a close without a word": ([(CLOSE, b"", True)], [Closed(1005, "")]),
    "a long one": ([(BINARY, b"x" * 70000, True)], [Piece(b"x" * 70000, True)]),
}


@pytest.mark.parametrize("is_server", [True, False])
@pytest.mark.parametrize("size", [0, 1, 3])
@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound(name: str, size: int, is_server: bool) -> None:
    frames, expected = SOUND[name]
    data = b"".join(frame(kind, body, ends=ends, masks=is_server) for kind, body, ends in frames)
    if size == 1 and len(data) > 1000:
        size = 999
    codec, found = WebSocket(is_server=is_server), []
    for at in range(0, len(data), size or len(data)):
        found += codec.receive(data[at : at + (size or len(data))])
    assert [event for event in joined(found) if event != Piece("", False)] == expected


BROKEN = {
    "not masked": frame(TEXT, b"a", masks=False),
    "a reserved bit": frame(TEXT, b"a", reserved=4),
    "an unknown kind": frame(3, b"a"),
    "an unknown control": frame(11, b"a"),
    "a ping in pieces": frame(PING, b"a", ends=False),
    "a long ping": frame(PING, b"a" * 126),
    "more of nothing": frame(0, b"a"),
    "a message within one": frame(TEXT, b"a", ends=False) + frame(TEXT, b"b"),
    "no UTF-8": frame(TEXT, b"\xff\xfe"),
    "half a character at the end": frame(TEXT, "ü".encode()[:1]),
    "half of a pair": frame(TEXT, b"\xed\xa0\x80"),
    "a close of one byte": frame(CLOSE, b"\x03"),
    "a close by a number that is none": frame(CLOSE, struct.pack("!H", 999)),
    "a close by a number that nobody sends": frame(CLOSE, struct.pack("!H", 1006)),
    "a close with no UTF-8": frame(CLOSE, struct.pack("!H", 1000) + b"\xff"),
    "a length with the first bit": b"\x82\xff" + b"\xff" * 8 + bytes(4),
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not(name: str) -> None:
    codec = WebSocket(is_server=True)
    with pytest.raises(ProtocolError):
        codec.receive(BROKEN[name])


@pytest.mark.parametrize("size", [2, 10, 1000])
def test_what_is_cut_off_is_no_message(size: int) -> None:
    codec = WebSocket(is_server=True)
    data = frame(TEXT, b"x" * 2000)[:size]
    assert not any(isinstance(event, Piece) and event.ends for event in codec.receive(data))


def test_after_a_close_nothing_is_sent() -> None:
    codec = WebSocket(is_server=True)
    assert codec.is_open
    codec.receive(frame(CLOSE, struct.pack("!H", 1000)))
    assert not codec.is_open
    assert codec.may_close
    codec.send(Closed(1000, ""))
    assert not codec.may_close
    with pytest.raises(LocalProtocolError):
        codec.send(Piece("late", True))


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1005, ""), (1006, "x"), (4999, "é" * 500), (1008, "proxyd: " + "x" * 500)],
)
def test_closes_that_are_sent_can_be_read(code: int, reason: str) -> None:
    sent = WebSocket(is_server=True).send(Closed(code, reason))
    (event,) = WebSocket(is_server=False).receive(sent)
    assert isinstance(event, Closed)
    assert event.code == (1000 if code in (1005, 1006) else code)
    assert reason.startswith(event.reason)


@pytest.mark.parametrize("event", [Closed(70000, ""), Pinged(b"x" * 200), Piece("\ud800", True)])
def test_what_cannot_be_said(event: WsEvent) -> None:
    with pytest.raises(LocalProtocolError):
        WebSocket(is_server=True).send(event)


def test_changed_bytes_raise_nothing_else() -> None:
    """What one end has taken the other end can send on, whatever it was."""
    chance = random.Random(6455)  # noqa: S311  (the same mutations each time)
    samples = [
        b"".join(frame(kind, body[:300], ends=ends) for kind, body, ends in frames)
        for frames, _ in SOUND.values()
    ]
    refused = 0
    for _ in range(2000):
        changed = bytearray(chance.choice(samples) + chance.choice(samples))
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        ours, theirs = WebSocket(is_server=True), WebSocket(is_server=False)
        try:
            for event in ours.receive(bytes(changed)):
                if theirs.is_open:
                    theirs.send(event)
        except LocalProtocolError:
            raise
        except ProtocolError:
            refused += 1
    assert refused > 200
