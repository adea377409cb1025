from __future__ import annotations

import struct
import zlib

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.tape import format as tape_format
from proxyd.tape.format import (
    END_KIND,
    HEAD_BYTES,
    HEADER_KIND,
    MAGIC,
    MAX_FRAME_BYTES,
    Frame,
    FrameDecoder,
    FrameEncoder,
    Tampered,
    Torn,
    Verdict,
    Whole,
    find_frame,
    last_frame,
)

PAYLOADS = [
    [HEADER_KIND, 0, {"session": "s"}],
    [1, 10, 0, "select 1", [], [], "p1"],
    [2, 20, 1, [0], b"Q" * 50],
    [3, 30, 1, b"T" * 100],
    [99, 40, "of a later version", {"x": 1}],
    [END_KIND, 50, "done", 1, 0],
]


def build(payloads: list[list[object]]) -> tuple[bytes, list[int]]:
    """A tape's bytes and where each frame begins, its end included."""
    encoder = FrameEncoder()
    data, starts = MAGIC, []
    for payload in payloads:
        starts.append(len(data))
        data += encoder.frame(msgpack.packb(payload))
    return data, [*starts, len(data)]


TAPE, STARTS = build(PAYLOADS)


def decode(data: bytes, step: int = 1 << 20) -> tuple[list[Frame], Verdict]:
    decoder = FrameDecoder()
    frames = []
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
        while (frame := decoder.next_frame()) is not None:
            frames.append(frame)
    return frames, decoder.finish()


@pytest.mark.parametrize("step", [1, 7, 64, 1 << 20])
def test_round_trip(step: int) -> None:
    frames, verdict = decode(TAPE, step)
    assert [[frame.kind, frame.at_us, *frame.fields] for frame in frames] == PAYLOADS
    assert [frame.position for frame in frames] == STARTS[:-1]
    assert [frame.position + frame.size for frame in frames] == STARTS[1:]
    assert verdict == Whole(len(PAYLOADS), TAPE[STARTS[-2] + 8 : STARTS[-2] + HEAD_BYTES])


def test_parts_give_the_same_frame_as_the_whole() -> None:
    payload = msgpack.packb([3, 1, 2, b"x" * 1000])
    whole, parts = FrameEncoder(), FrameEncoder()
    joined = parts.head(payload[:20], memoryview(payload)[20:]) + payload
    assert joined == whole.frame(payload)
    assert parts.chain == whole.chain


def test_cut_at_every_byte_is_torn_there_and_plays_what_is_before() -> None:
    for cut in range(len(TAPE)):
        frames, verdict = decode(TAPE[:cut])
        whole = sum(end <= cut for end in STARTS[1:])
        assert len(frames) == whole
        assert isinstance(verdict, Torn), cut
        assert verdict.frames == whole
        last_good = STARTS[whole] if cut >= len(MAGIC) else 0
        assert verdict.offset == last_good


def test_any_flipped_bit_is_found() -> None:
    last = STARTS[-2]
    for byte in range(len(TAPE)):
        for bit in range(8):
            data = bytearray(TAPE)
            data[byte] ^= 1 << bit
            frames, verdict = decode(bytes(data))
            # In the last frame a flipped bit looks like a torn write; before it nothing looks like one.
            expected = Tampered if byte < last else (Torn, Tampered)
            assert isinstance(verdict, expected), (byte, bit, verdict)
            assert verdict.offset <= byte
            assert frames == decode(TAPE)[0][: len(frames)]


@given(garbage=st.binary(min_size=1, max_size=200))
def test_garbage_behind_the_end_is_found(garbage: bytes) -> None:
    frames, verdict = decode(TAPE + garbage)
    assert len(frames) == len(PAYLOADS)
    assert isinstance(verdict, Tampered)
    assert verdict.offset == len(TAPE)


@given(garbage=st.binary(min_size=1, max_size=200))
def test_garbage_instead_of_the_end_is_torn(garbage: bytes) -> None:
    frames, verdict = decode(TAPE[: STARTS[-2]] + garbage)
    assert len(frames) == len(PAYLOADS) - 1
    assert isinstance(verdict, Torn)
    assert verdict.offset == STARTS[-2]


@given(st.data())
def test_swapped_frames_are_found(data: st.DataObject) -> None:
    count = len(PAYLOADS)
    one, two = sorted(data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True)))
    pieces = [TAPE[STARTS[i] : STARTS[i + 1]] for i in range(count)]
    pieces[one], pieces[two] = pieces[two], pieces[one]
    frames, verdict = decode(MAGIC + b"".join(pieces))
    assert verdict == Tampered(STARTS[one], verdict.reason, one, verdict.chain)
    assert len(frames) == one


@pytest.mark.parametrize("missing", range(len(PAYLOADS) - 1))
def test_a_removed_frame_is_found(missing: int) -> None:
    _, verdict = decode(TAPE[: STARTS[missing]] + TAPE[STARTS[missing + 1] :])
    assert isinstance(verdict, Tampered)
    assert verdict.offset == STARTS[missing]


@pytest.mark.parametrize("twice", range(len(PAYLOADS)))
def test_a_repeated_frame_is_found(twice: int) -> None:
    _, verdict = decode(TAPE[: STARTS[twice + 1]] + TAPE[STARTS[twice] :])
    assert isinstance(verdict, Tampered)
    assert verdict.offset == STARTS[twice + 1]


def test_a_replaced_header_is_found() -> None:
    forged, starts = build([[HEADER_KIND, 0, {"session": "other"}]])
    _, verdict = decode(forged + TAPE[STARTS[1] :])
    assert isinstance(verdict, Tampered)
    assert verdict.offset == starts[1]
    assert verdict.reason == "the frame does not belong behind the one before it"


@settings(max_examples=300)
@given(
    at=st.integers(0, len(TAPE)),
    cut=st.integers(0, 60),
    instead=st.binary(max_size=60),
    step=st.sampled_from([1, 33, 4096]),
)
def test_any_change_is_found(at: int, cut: int, instead: bytes, step: int) -> None:
    changed = TAPE[:at] + instead + TAPE[at + cut :]
    frames, verdict = decode(changed, step)
    if changed == TAPE:
        assert isinstance(verdict, Whole)
    else:
        assert not isinstance(verdict, Whole)
        assert frames == decode(TAPE)[0][: len(frames)]


@given(data=st.binary(max_size=500), step=st.sampled_from([1, 50, 500]))
def test_anything_gets_a_verdict(data: bytes, step: int) -> None:
    for head in (b"", MAGIC, TAPE[: STARTS[1]]):
        _, verdict = decode(head + data, step)
        assert not isinstance(verdict, Whole)


def test_a_length_over_the_limit_is_refused_before_it_is_waited_for() -> None:
    decoder = FrameDecoder()
    decoder.feed(TAPE[: STARTS[1]] + struct.pack(">II", MAX_FRAME_BYTES + 1, 0) + bytes(32))
    assert decoder.next_frame() is not None
    assert decoder.next_frame() is None
    verdict = decoder.finish()
    assert isinstance(verdict, Torn)
    assert "claims" in verdict.reason


def test_a_damaged_tape_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tape_format, "RESYNC_BYTES", 1000)
    decoder = FrameDecoder()
    decoder.feed(TAPE[: STARTS[1]] + b"\xff" * HEAD_BYTES)
    decoder.next_frame()
    decoder.next_frame()
    fed = 0
    while not decoder.is_done:
        decoder.feed(b"\xff" * 100)
        fed += 100
        assert fed <= 1000
    assert isinstance(decoder.finish(), Torn)


def test_another_tape_inside_a_torn_frame_is_not_mistaken_for_this_one() -> None:
    carrying, starts = build([PAYLOADS[0], [2, 5, 1, [], TAPE]])
    verdict = decode(carrying[:-1])[1]
    assert isinstance(verdict, Torn)
    assert verdict.offset == starts[1]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"PXDTAPE\x02", "format version 2 is not known"),
        (b"\x7fELF....", "this is not a tape"),
        (b"P\0", "this is not a tape"),
    ],
)
def test_other_files(head: bytes, reason: str) -> None:
    frames, verdict = decode(head + TAPE[8:])
    assert frames == []
    assert verdict == Tampered(0, reason, 0, b"")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01",
        b"\x91\x02",
        b"\x93\xa1x\x00\x00",
        b"\x92\x02\xc3",
        b"\x92\xc2\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000,
        b"\x93\x02\x00\x81\x90\x00",
        b"\x92\x02\x00\x00",
    ],
)
def test_a_frame_that_is_no_frame_is_found(payload: bytes) -> None:
    encoder = FrameEncoder()
    data = MAGIC + encoder.frame(msgpack.packb(PAYLOADS[0])) + encoder.frame(payload)
    frames, verdict = decode(data)
    assert len(frames) == 1
    assert isinstance(verdict, Tampered)


@pytest.mark.parametrize("first", [1, END_KIND, 99])
def test_the_first_frame_is_the_header(first: int) -> None:
    assert decode(build([[first, 0, {}]])[0])[1] == Tampered(8, "the first frame is no header", 0, b"")


def test_there_is_one_header() -> None:
    verdict = decode(build([PAYLOADS[0], PAYLOADS[0]])[0])[1]
    assert isinstance(verdict, Tampered)
    assert verdict.reason == "there is a second header"


def test_nothing_follows_the_end_even_in_chain() -> None:
    verdict = decode(build([PAYLOADS[0], PAYLOADS[-1], PAYLOADS[1]])[0])[1]
    assert isinstance(verdict, Tampered)


def test_a_search_for_frames_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    length = 900
    bait = struct.pack(">II", length, 0) + bytes(32) + b"\x92\x01"
    data = bait * 100 + TAPE[STARTS[1] :]
    assert find_frame(data, 1) == len(bait) * 100
    monkeypatch.setattr(tape_format, "RESYNC_CHECK_BYTES", 10_000)
    assert find_frame(data, 1) is None


def test_the_last_frame_is_found_from_the_tail() -> None:
    for start in (0, STARTS[2], STARTS[-2]):
        assert last_frame(TAPE[start:]) == (END_KIND, 50, ("done", 1, 0))
    assert last_frame(TAPE[STARTS[-2] + 1 :]) is None
    assert last_frame(TAPE + b"x") is None
    assert last_frame(b"") is None


def test_the_checksum_covers_chain_and_payload() -> None:
    length, checksum = struct.unpack_from(">II", TAPE, STARTS[1])
    assert checksum == zlib.crc32(TAPE[STARTS[1] + 8 : STARTS[2]])
    assert length == STARTS[2] - STARTS[1] - HEAD_BYTES
