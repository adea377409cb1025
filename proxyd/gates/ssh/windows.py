"""One end of a channel: the windows both ways, what waits for the peer's window, and how the end comes.

The gateway ends the windows of both legs: it grants its own to each peer, keeps what the other peer has no room for
yet, and grants more only once that has gone. So a slow reader slows its writer, what a peer makes the gateway keep is
bounded by what the gateway granted, and the gateway's own words fit in without upsetting anybody's count (RFC 4254,
5.2).
"""

from __future__ import annotations

from collections import deque

from protocols.errors import RemoteProtocolError
from protocols.ssh.messages import (
    EXTENDED_DATA_STDERR,
    channel_close,
    channel_data,
    channel_eof,
    extended_data,
    window_adjust,
)

WINDOW_BYTES = 2 * 1024 * 1024
"""What OpenSSH grants for a session."""
SMALL_WINDOW_BYTES = 128 * 1024
LARGE_WINDOWS = 8
"""So many channels of a connection get the large window, the others the small one, which bounds what is kept."""
MAX_PACKET_BYTES = 64 * 1024
MIN_PACKET_BYTES = 256
"""Who takes only a few bytes at a time makes the gateway encrypt a packet for each."""
MAX_WINDOW_BYTES = 0xFFFFFFFF
MAX_QUEUED_PIECES = 1024
"""Pieces of data that wait in exactly the order of their coming; beyond, output and errors may change places."""
MAX_QUEUED_MESSAGES = 256
"""Requests and replies of a channel that wait behind its data."""

STDOUT = 0
STDERR = EXTENDED_DATA_STDERR


class End:
    """The end of a channel at one leg. `out` collects payloads for that leg's peer.

    peer: the peer's number for the channel, None until it is known. is_awaited: the peer has been asked to open it and
    has not answered. is_open: it was confirmed, by whichever side was asked, so that the peer may send.
    """

    __slots__ = (
        "close_received",
        "close_sent",
        "close_wanted",
        "consumed",
        "eof_received",
        "eof_sent",
        "eof_wanted",
        "granted",
        "is_awaited",
        "is_open",
        "max_packet",
        "out",
        "peer",
        "queue",
        "queued_bytes",
        "queued_messages",
        "send_window",
        "unreleased",
        "window",
    )

    def __init__(self, out: list[bytes], window: int) -> None:
        self.out = out
        self.peer: int | None = None
        self.is_awaited = self.is_open = False
        self.window = window
        self.granted = window
        self.consumed = 0
        self.unreleased = 0
        self.send_window = 0
        self.max_packet = 0
        self.queue: deque[tuple[int, bytes | bytearray] | bytes] = deque()
        self.queued_bytes = self.queued_messages = 0
        self.eof_wanted = self.eof_sent = self.eof_received = False
        self.close_wanted = self.close_sent = self.close_received = False

    def asked(self, peer: int, window: int, max_packet: int) -> None:
        """The peer asks to open the channel. Raises RemoteProtocolError."""
        if max_packet < MIN_PACKET_BYTES:
            raise RemoteProtocolError(
                f"a channel with packets of {max_packet} bytes, where {MIN_PACKET_BYTES} are the least"
            )
        self.peer = peer
        self.send_window = window
        self.max_packet = min(max_packet, MAX_PACKET_BYTES)

    def confirmed(self, peer: int, window: int, max_packet: int) -> None:
        """The peer has opened the channel as it was asked. Raises RemoteProtocolError."""
        self.is_awaited = False
        self.asked(peer, window, max_packet)
        self.is_open = True
        self.flush()

    def leave_out(self) -> None:
        """There is no such end: the gateway itself, or a connection that it has dialled, stands at its place."""
        self.is_awaited = False
        self.close_sent = self.close_received = True

    @property
    def number(self) -> int:
        if self.peer is None:
            raise RemoteProtocolError("a message for a channel that is not open yet")
        return self.peer

    # What the peer sends

    def take(self, length: int) -> None:
        """Count data that has come. Raises RemoteProtocolError when it goes beyond what was granted."""
        if self.eof_received or self.close_received:
            raise RemoteProtocolError("data on a channel after its end")
        if length > MAX_PACKET_BYTES:
            raise RemoteProtocolError(
                f"a packet of {length} bytes where at most {MAX_PACKET_BYTES} were allowed"
            )
        self.granted -= length
        if self.granted < 0:
            raise RemoteProtocolError("more data than the window allowed")
        self.unreleased += length

    def take_eof(self) -> bool:
        """The peer's data has ended; False when it has said so before, which some do.

        Raises RemoteProtocolError when it has closed the channel already.
        """
        if self.close_received:
            raise RemoteProtocolError("the end of the data of a channel that is closed")
        is_first, self.eof_received = not self.eof_received, True
        return is_first

    def release(self) -> None:
        """What has come so far has found its place: grant as much again, in large steps."""
        self.consumed += self.unreleased
        self.unreleased = 0
        if self.consumed * 2 >= self.window and self.peer is not None and self.takes_data:
            self.out.append(window_adjust(self.peer, self.consumed))
            self.granted += self.consumed
            self.consumed = 0

    # What the peer is sent

    @property
    def takes_data(self) -> bool:
        """Is there anybody who would read it? Who has closed still takes requests, such as the exit status."""
        return not (self.close_wanted or self.close_received)

    @property
    def has_room(self) -> bool:
        """May the other side send more, going by what already waits for this one?"""
        return self.queued_bytes < self.window // 2

    def adjust(self, added: int) -> None:
        if self.send_window + added > MAX_WINDOW_BYTES:
            raise RemoteProtocolError("a window adjustment beyond what a window can be")
        self.send_window += added
        if self.queue:
            self.flush()

    def send(self, data: bytes, stream: int = STDOUT) -> None:
        """Send data as far as the window goes, keep the rest. Nothing goes out after an end that was asked for."""
        if self.eof_wanted or not self.takes_data or not data:
            return
        if (
            not self.queue
            and len(data) <= self.send_window
            and len(data) <= self.max_packet
            and self.peer is not None
        ):
            self.send_window -= len(data)
            self.out.append(_message(self.peer, stream, data))
            return
        self._keep(stream, data)
        self.flush()

    def _keep(self, stream: int, data: bytes) -> None:
        """Small pieces are put together: kept one by one they would cost many times their size."""
        self.queued_bytes += len(data)
        for index in range(1, 2 + (len(self.queue) >= MAX_QUEUED_PIECES)):
            if len(self.queue) >= index and self._extend(-index, stream, data):
                return
        self.queue.append((stream, data))

    def _extend(self, index: int, stream: int, data: bytes) -> bool:
        last = self.queue[index]
        if isinstance(last, bytes) or last[0] != stream or len(last[1]) + len(data) > MAX_PACKET_BYTES:
            return False
        if isinstance(last[1], bytearray):
            last[1].extend(data)
        else:
            self.queue[index] = (stream, bytearray(last[1] + data))
        return True

    def answer(self, payload: bytes) -> None:
        """Send a reply, which does not have to wait for data that waits."""
        if not self.close_wanted:
            self.out.append(payload)

    def send_message(self, payload: bytes) -> None:
        """Send a request or reply of this channel in its place behind the data that waits.

        Raises RemoteProtocolError when so many wait that somebody must be making them up.
        """
        if self.close_wanted:
            return
        if not self.queue:
            self.out.append(payload)
        elif self.queued_messages >= MAX_QUEUED_MESSAGES:
            raise RemoteProtocolError("too many requests while data waits for a window")
        else:
            self.queued_messages += 1
            self.queue.append(payload)

    def send_eof(self) -> None:
        self.eof_wanted = True
        self.flush()

    def send_close(self) -> None:
        self.close_wanted = True
        self.flush()

    def close_now(self) -> None:
        """Close without what still waits."""
        self.drop_waiting()
        self.send_close()

    def drop_waiting(self) -> None:
        self.queue.clear()
        self.queued_bytes = self.queued_messages = 0

    def flush(self) -> None:
        if self.peer is None or self.close_sent:
            return
        queue = self.queue
        while queue:
            head = queue[0]
            if isinstance(head, bytes):
                self.out.append(head)
                self.queued_messages -= 1
                queue.popleft()
            elif not self._send_piece(self.peer, *head):
                return
        if self.eof_wanted and not self.eof_sent and not self.close_received:
            self.eof_sent = True
            self.out.append(channel_eof(self.peer))
        if self.close_wanted:
            self.close_sent = True
            self.out.append(channel_close(self.peer))

    def _send_piece(self, peer: int, stream: int, data: bytes | bytearray) -> bool:
        """As much of the head of the queue as goes into one packet; False when the window is closed."""
        room = min(self.send_window, self.max_packet)
        if room == 0:
            return False
        piece = bytes(data[:room])
        self.send_window -= len(piece)
        self.queued_bytes -= len(piece)
        self.out.append(_message(peer, stream, piece))
        if len(piece) == len(data):
            self.queue.popleft()
        else:
            self.queue[0] = (stream, data[room:])
        return True

    @property
    def is_finished(self) -> bool:
        """Both sides have said that the channel is closed (RFC 4254, 5.3): its number is free again."""
        return self.close_sent and self.close_received


def _message(peer: int, stream: int, data: bytes) -> bytes:
    return channel_data(peer, data) if stream == STDOUT else extended_data(peer, stream, data)
