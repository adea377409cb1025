"""Windows of one end of a channel: what is sent, kept and granted, and what a peer may not do."""

from __future__ import annotations

import pytest

from protocols.errors import RemoteProtocolError
from protocols.ssh import messages as wire
from proxyd.gates.ssh.windows import (
    MAX_PACKET_BYTES,
    MAX_QUEUED_MESSAGES,
    MAX_QUEUED_PIECES,
    MIN_PACKET_BYTES,
    STDERR,
    STDOUT,
    End,
)
from tests.proxyd.gates.ssh.playbook import (
    CLIENT,
    TARGET,
    Playbook,
    adjust,
    confirmation_of,
    data,
    open_of,
    opening,
    stderr,
)

WINDOW = 1000
PEER = 5


def an_end(send_window: int = 100, max_packet: int = 1 << 20) -> End:
    end = End([], WINDOW)
    end.confirmed(PEER, send_window, max_packet)
    return end


def taken(end: End) -> list[wire.Message]:
    messages = [wire.parse(payload) for payload in end.out]
    end.out.clear()
    return messages


# --- what is sent ---


def test_data_goes_as_far_as_the_window() -> None:
    end = an_end(10)
    end.send(b"0123456")
    end.send(b"789abc")
    assert taken(end) == [wire.Data(PEER, b"0123456"), wire.Data(PEER, b"789")]
    assert (end.send_window, end.queued_bytes) == (0, 3)
    end.adjust(2)
    assert taken(end) == [wire.Data(PEER, b"ab")]
    end.adjust(5)
    assert taken(end) == [wire.Data(PEER, b"c")]
    assert (end.send_window, end.queued_bytes) == (4, 0)


def test_data_is_cut_to_the_peers_packets() -> None:
    end = an_end(10_000, MIN_PACKET_BYTES)
    end.send(b"x" * (MIN_PACKET_BYTES * 2 + 1))
    assert [len(message.data) for message in taken(end) if isinstance(message, wire.Data)] == [256, 256, 1]


def test_packets_are_never_larger_than_the_gateways_own_limit() -> None:
    end = an_end(1 << 30, 1 << 30)
    end.send(b"x" * (MAX_PACKET_BYTES + 1))
    assert [len(message.data) for message in taken(end) if isinstance(message, wire.Data)] == [
        MAX_PACKET_BYTES,
        1,
    ]


def test_nothing_is_sent_before_the_peer_has_a_number_for_it() -> None:
    end = End([], WINDOW)
    end.send(b"early")
    end.send_eof()
    assert taken(end) == []
    with pytest.raises(RemoteProtocolError):
        _ = end.number
    end.confirmed(PEER, 100, 1000)
    assert taken(end) == [wire.Data(PEER, b"early"), wire.Eof(PEER)]


def test_streams_and_messages_keep_their_order_while_they_wait() -> None:
    end = an_end(0)
    status = wire.channel_request(PEER, "exit-status", False, b"\0\0\0\0")
    end.send(b"a")
    end.send(b"b", STDERR)
    end.send(b"c")
    end.send_message(status)
    end.send_eof()
    end.send_close()
    assert taken(end) == []
    end.adjust(2)
    assert taken(end) == [wire.Data(PEER, b"a"), wire.ExtendedData(PEER, 1, b"b")]
    end.adjust(1)
    assert taken(end) == [
        wire.Data(PEER, b"c"),
        wire.ChannelRequest(PEER, "exit-status", False, b"\0\0\0\0"),
        wire.Eof(PEER),
        wire.Close(PEER),
    ]


def test_an_end_of_data_is_said_once() -> None:
    end = an_end()
    end.send_eof()
    end.send_eof()
    end.send(b"more")
    end.send_close()
    end.send_close()
    end.flush()
    assert taken(end) == [wire.Eof(PEER), wire.Close(PEER)]


def test_no_data_is_no_message() -> None:
    end = an_end()
    end.send(b"")
    assert taken(end) == []


def test_close_now_drops_what_waits() -> None:
    end = an_end(0)
    end.send(b"abc")
    end.send_message(b"\x63\0\0\0\5")
    end.close_now()
    assert taken(end) == [wire.Close(PEER)]
    assert end.queued_bytes == end.queued_messages == 0


# --- what is kept ---


def test_small_pieces_are_kept_together() -> None:
    end = an_end(0)
    for _ in range(MAX_PACKET_BYTES * 3):
        end.send(b"x")
    assert len(end.queue) == 3
    end.adjust(MAX_PACKET_BYTES * 4)
    assert b"".join(m.data for m in taken(end) if isinstance(m, wire.Data)) == b"x" * (MAX_PACKET_BYTES * 3)


def test_what_is_kept_is_not_changed_by_what_comes_behind() -> None:
    end = an_end(1)
    end.send(b"abc")
    end.send(b"def")
    end.adjust(3)
    end.send(b"ghi")
    end.adjust(100)
    assert b"".join(m.data for m in taken(end) if isinstance(m, wire.Data)) == b"abcdefghi"


def test_streams_that_take_turns_do_not_cost_a_piece_each() -> None:
    end = an_end(0)
    for number in range(20_000):
        end.send(b"%d," % (number % 10), STDERR if number % 2 else STDOUT)
    assert len(end.queue) <= MAX_QUEUED_PIECES + 2
    end.adjust(1 << 20)
    messages = taken(end)
    output = b"".join(m.data for m in messages if isinstance(m, wire.Data))
    errors = b"".join(m.data for m in messages if isinstance(m, wire.ExtendedData))
    assert output == b"0,2,4,6,8," * 2000
    assert errors == b"1,3,5,7,9," * 2000


def test_messages_that_wait_are_counted() -> None:
    end = an_end(0)
    end.send(b"x")
    for _ in range(MAX_QUEUED_MESSAGES):
        end.send_message(b"\x63\0\0\0\5")
    with pytest.raises(RemoteProtocolError, match="too many requests"):
        end.send_message(b"\x63\0\0\0\5")
    end.adjust(1)
    assert len(taken(end)) == MAX_QUEUED_MESSAGES + 1
    assert end.queued_messages == 0


# --- what the peer may send ---


def test_a_peer_that_sends_more_than_its_window() -> None:
    end = an_end()
    end.take(WINDOW)
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        end.take(1)


def test_a_packet_larger_than_what_was_agreed() -> None:
    end = End([], 1 << 20)
    end.confirmed(PEER, 100, 1000)
    end.take(MAX_PACKET_BYTES)
    with pytest.raises(RemoteProtocolError, match="at most 65536"):
        end.take(MAX_PACKET_BYTES + 1)


def test_grants_come_in_large_steps_and_never_beyond_the_window() -> None:
    end = an_end()
    end.take(499)
    end.release()
    assert taken(end) == []
    end.take(1)
    end.release()
    assert taken(end) == [wire.WindowAdjust(PEER, 500)]
    assert end.granted == WINDOW
    end.take(WINDOW)
    end.release()
    assert taken(end) == [wire.WindowAdjust(PEER, WINDOW)]


def test_what_is_not_released_is_not_granted() -> None:
    end = an_end()
    end.take(WINDOW)
    assert taken(end) == []
    with pytest.raises(RemoteProtocolError):
        end.take(1)


def test_nothing_is_granted_after_the_close() -> None:
    end = an_end()
    end.take(WINDOW)
    end.send_close()
    end.release()
    assert taken(end) == [wire.Close(PEER)]


# --- adjustments ---


def test_a_window_beyond_what_a_window_can_be() -> None:
    end = an_end(0xFFFFFFFE)
    end.adjust(1)
    with pytest.raises(RemoteProtocolError, match="beyond what a window can be"):
        end.adjust(1)


def test_an_adjustment_by_nothing_is_no_fault() -> None:
    end = an_end(0)
    end.send(b"x")
    end.adjust(0)
    assert taken(end) == []


# --- through the gate ---


def test_windows_of_the_two_legs_never_meet() -> None:
    play = Playbook().running("cat /srv/x", window=3, client_window=5)
    play.client(data(b"abcde"), to_target=[data(b"abc", TARGET)], tape=[("input", 0, b"abcde")])
    play.target(data(b"12345678"), to_client=[data(b"12345", CLIENT)], tape=[("output", 0, 1, b"12345678")])
    play.target(adjust(1), to_target=[data(b"d", TARGET)])
    play.client(adjust(100), to_client=[data(b"678", CLIENT)])


def test_a_slow_target_slows_the_client() -> None:
    play = Playbook().running("cat /srv/x", window=0)
    piece = data(b"x" * 65536)
    for _ in range(32):
        play.client(piece, tape=[("input", 0, b"x" * 65536)])
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        play.client(piece)


def test_a_client_is_granted_more_when_half_of_what_waits_has_gone() -> None:
    play = Playbook().running("cat /srv/x", window=0)
    for _ in range(32):
        play.after_client(data(b"x" * 65536))
    play.gate.from_target(adjust(1024 * 1024))
    assert not play.actions.to_client
    play.gate.from_target(adjust(1))
    assert play.actions.to_client == [adjust(2 * 1024 * 1024, CLIENT)]


def test_a_slow_client_slows_the_target() -> None:
    play = Playbook().running(client_window=0)
    for _ in range(32):
        play.after_target(data(b"x" * 65536))
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        play.target(stderr(b"x"))


def test_many_channels_have_small_windows() -> None:
    play = Playbook()
    for number in range(8):
        play.client(opening(sender=number), to_target=[open_of(number)], tape=[("opened", number, "session")])
    small = 128 * 1024
    play.client(opening(sender=8), to_target=[open_of(8, window=small)], tape=[("opened", 8, "session")])
    play.target(wire.open_confirmation(8, TARGET, 0, 32768), to_client=[confirmation_of(8, 8, window=small)])
    play.after_client(wire.channel_request(8, "shell", False))
    for _ in range(2):
        play.after_client(data(b"x" * 65536, 8))
    with pytest.raises(RemoteProtocolError, match="more data than the window allowed"):
        play.client(data(b"x", 8))


@pytest.mark.parametrize("side", ["client", "target"])
def test_an_adjustment_too_many_ends_the_session(side: str) -> None:
    play = Playbook().running()
    with pytest.raises(RemoteProtocolError, match="beyond what a window can be"):
        getattr(play.gate, f"from_{side}")(adjust(0xFFFFFFFF))


def test_data_of_a_stream_that_nobody_has_defined_is_dropped_and_its_window_given_back() -> None:
    play = Playbook().running()
    for _ in range(15):
        play.target(wire.extended_data(0, 2, b"x" * 65536))
    play.target(wire.extended_data(0, 2, b"x" * 65536), to_target=[adjust(1024 * 1024, TARGET)])
