"""HTTP/2 (RFC 9113) for either end of a connection: bytes in, messages of streams out, and the way back.

Over h2, which keeps the protocol's state and its windows. Here: heads as `http2_heads` reads them, a bound for every
way in which a peer can make work without asking for anything (resets, settings, pings, empty frames), and the two steps
in which a server takes its leave. Sans-IO; driven by `proxyd.http2_connection`. Raises ProtocolError: the connection is
over then, and `take` has the last words for the peer.
"""

from __future__ import annotations

from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from protocols.http.http2_events import (
    ConnectionEnding,
    FarewellHeard,
    Received,
    StreamEvent,
    StreamReset,
    WindowOpened,
)
from protocols.http.http2_heads import (
    HeadLimits,
    MalformedHead,
    RawFields,
    read_request,
    read_response,
    read_trailers,
    request_fields,
    response_fields,
    trailer_fields,
)
from protocols.http.messages import Headers, MessageEnded, RequestHead, ResponseHead

# Resets that a client gets for nothing, and how many more for each answer it has let us finish (CVE-2023-44487).
FREE_RESETS: Final = 200
MAX_INTERIM: Final = 16
# Frames without content that may come between two that have some (CVE-2019-9512, 9515, 9518).
MAX_IDLE_FRAMES: Final = 1000
# RFC 9113, 6.8: no stream has a higher number, so nobody who has asked already is turned away.
ANY_STREAM: Final = 2**31 - 1
_FAREWELL: Final = b"farewell"


class Http2Limits(HeadLimits, frozen=True):
    """streams: of the peer, open at a time. Windows: bytes that may come unread on one stream, and on all."""

    streams: int = 100
    stream_window: int = 256 * 1024
    connection_window: int = 1024 * 1024


class _StateMachine(h2.connection.H2ConnectionStateMachine):
    """h2's own takes a GOAWAY for the end. It is an announcement: what is under way goes on (RFC 9113, 6.8)."""

    def __init__(self) -> None:
        super().__init__()
        received = h2.connection.ConnectionInputs.RECV_GOAWAY
        states = h2.connection.ConnectionState
        open_states = (states.IDLE, states.CLIENT_OPEN, states.SERVER_OPEN)
        self._transitions = self._transitions | {(state, received): (None, state) for state in open_states}


class Http2:
    """One connection. `is_server`: the peer is the client."""

    def __init__(self, limits: Http2Limits, *, is_server: bool, scheme: str = "https") -> None:
        self._limits = limits
        self._is_server = is_server
        self._scheme = scheme
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=not is_server, header_encoding=False)
        )
        self._h2.state_machine = _StateMachine()
        self._unsent = bytearray()
        self._interim: dict[int, int] = {}
        # Extended CONNECTs of ours that are not answered yet, with their protocols.
        self._asked: dict[int, str] = {}
        self._resets = 0
        self._finished = 0
        self._idle_frames = 0
        self._farewell_stream = ANY_STREAM
        self._is_closed = False
        self.has_peer_settings = False
        self.malformed: list[tuple[int, str]] = []

    def begin(self) -> None:
        """Say who we are. What must be sent is in `take` from now on."""
        codes = h2.settings.SettingCodes
        limits = self._limits
        settings: dict[h2.settings.SettingCodes, int] = {
            codes.INITIAL_WINDOW_SIZE: limits.stream_window,
            codes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
            codes.ENABLE_PUSH: 0,
        }
        if self._is_server:
            settings[codes.MAX_CONCURRENT_STREAMS] = limits.streams
            settings[codes.ENABLE_CONNECT_PROTOCOL] = 1  # RFC 8441, 3
            del settings[codes.ENABLE_PUSH]
        self._h2.local_settings = h2.settings.Settings(client=not self._is_server, initial_values=settings)
        # What is a little over the limit costs its stream, see `http2_heads`; what is far over it, the connection.
        self._h2.decoder.max_header_list_size = 2 * limits.head_bytes + 32 * limits.fields
        self._h2.initiate_connection()
        more = limits.connection_window - 65535
        if more > 0:
            self._h2.increment_flow_control_window(more)

    def take(self) -> bytes:
        """Bytes for the peer."""
        data = self._h2.data_to_send()
        if self._unsent:
            data, self._unsent = bytes(self._unsent) + data, bytearray()
        return data

    @property
    def unsent(self) -> int:
        """How many bytes `take` would give."""
        self._unsent += self._h2.data_to_send()
        return len(self._unsent)

    @property
    def open_streams(self) -> int:
        return self._h2.open_inbound_streams if self._is_server else self._h2.open_outbound_streams

    @property
    def peer_streams(self) -> int:
        """How many streams the peer lets us have open."""
        return self._h2.remote_settings.max_concurrent_streams

    @property
    def takes_upgrades(self) -> bool:
        """Has the peer, a server, said that it knows the extended CONNECT? Not before `has_peer_settings`."""
        return bool(self._h2.remote_settings.enable_connect_protocol)

    # Receiving

    def receive(self, data: bytes) -> list[tuple[int, StreamEvent]]:
        """What has happened, each with its stream's number (0: the connection). `malformed` names streams to reset."""
        # A GOAWAY makes h2 throw away what it has for the peer, heads among it that the next ones are packed against.
        self._unsent += self._h2.data_to_send()
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.DenialOfServiceError as error:
            raise LimitExceeded("a head over the limit", "431") from error
        except h2.exceptions.ProtocolError as error:
            raise RemoteProtocolError(f"HTTP/2: {error}"[:300], "400") from error
        # h2 looks at the size of a frame when it is there whole, and a frame may say that it has 16 MiB.
        begun = self._h2.incoming_buffer._data[:3]
        if len(begun) == 3 and int.from_bytes(begun, "big") > self._h2.max_inbound_frame_size:
            raise RemoteProtocolError("HTTP/2: a frame that is too long", "400")
        found: list[tuple[int, StreamEvent]] = []
        for event in events:
            try:
                self._take_event(event, found)
            except MalformedHead as fault:
                self.malformed.append((getattr(event, "stream_id", 0), str(fault)))
        return found

    def _take_event(self, event: h2.events.Event, found: list[tuple[int, StreamEvent]]) -> None:
        match event:
            case h2.events.RequestReceived():
                self._idle_frames = 0
                is_ended = event.stream_ended is not None
                head = read_request(
                    event.headers or (),
                    scheme=self._scheme,
                    limits=self._limits,
                    is_ended=is_ended,
                )
                found.append((event.stream_id, head))
                if is_ended:
                    found.append((event.stream_id, MessageEnded()))
            case h2.events.ResponseReceived():
                self._idle_frames = 0
                is_ended = event.stream_ended is not None
                found.append(
                    (event.stream_id, self._response(event.stream_id, event.headers, is_ended=is_ended))
                )
                if is_ended:
                    found.append((event.stream_id, MessageEnded()))
            case h2.events.InformationalResponseReceived():
                self._idle_frames = 0
                found.append(
                    (event.stream_id, self._response(event.stream_id, event.headers, is_ended=False))
                )
            case h2.events.DataReceived():
                size = event.flow_controlled_length or 0
                if event.data:
                    self._idle_frames = 0
                    found.append((event.stream_id, Received(event.data, size)))
                else:
                    self._idle()
                    self.acknowledge(event.stream_id, size)
                if event.stream_ended is not None:
                    found.append((event.stream_id, MessageEnded()))
            case h2.events.TrailersReceived():
                trailers = read_trailers(event.headers or (), limits=self._limits, is_request=self._is_server)
                found.append((event.stream_id, MessageEnded(trailers)))
            case h2.events.StreamReset():
                # Also those that h2 makes itself for what the peer has done: a stream is a stream.
                self._count_reset()
                self._interim.pop(event.stream_id, None)
                self._asked.pop(event.stream_id, None)
                found.append((event.stream_id, StreamReset(int(event.error_code or 0))))
            case h2.events.WindowUpdated():
                self._idle()
                found.append((event.stream_id, WindowOpened()))
            case h2.events.RemoteSettingsChanged():
                self._idle()
                self.has_peer_settings = True
                found.append((0, WindowOpened()))
            case h2.events.ConnectionTerminated():
                last = event.last_stream_id if event.last_stream_id is not None else 0
                found.append((0, ConnectionEnding(last, int(event.error_code or 0))))
            case h2.events.PingAckReceived(ping_data=data) if data == _FAREWELL:
                self._idle()
                found.append((0, FarewellHeard()))
            case h2.events.StreamEnded() | h2.events.SettingsAcknowledged():
                pass
            case _:
                self._idle()

    def _idle(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > MAX_IDLE_FRAMES:
            self._refuse(f"more than {MAX_IDLE_FRAMES} frames without content")

    def _count_reset(self) -> None:
        self._resets += 1
        if self._is_server and self._resets > FREE_RESETS + self._finished:
            self._refuse("too many streams were reset")

    def _refuse(self, why: str) -> None:
        self.close(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        raise LimitExceeded(f"HTTP/2: {why}", "429")

    def _response(self, stream: int, raw: RawFields | None, *, is_ended: bool) -> ResponseHead:
        upgrade = self._asked.get(stream, "")
        head = read_response(raw or (), limits=self._limits, is_ended=is_ended, upgrade=upgrade)
        if head.status >= 200 or head.upgrade:
            self._interim.pop(stream, None)
            self._asked.pop(stream, None)
        else:
            self._interim[stream] = self._interim.get(stream, 0) + 1
            if self._interim[stream] > MAX_INTERIM:
                raise MalformedHead(f"more than {MAX_INTERIM} interim responses")
        return head

    # Sending

    def next_stream(self) -> int:
        """Raises LocalProtocolError when the connection has had all of its streams."""
        try:
            return self._h2.get_next_available_stream_id()
        except h2.exceptions.ProtocolError as error:
            raise LocalProtocolError("HTTP/2: no more streams on this connection") from error

    def send_request(self, stream: int, head: RequestHead, *, ends: bool) -> None:
        """`target` and `authority` of the head are sent as they are."""
        if head.upgrade:
            self._asked[stream] = head.upgrade
        self._send_fields(stream, request_fields(head, ends=ends), ends=ends)

    def send_response(self, stream: int, head: ResponseHead, *, ends: bool) -> None:
        self._send_fields(stream, response_fields(head), ends=ends)

    def send_trailers(self, stream: int, trailers: Headers) -> None:
        self._send_fields(stream, trailer_fields(trailers), ends=True)

    def _send_fields(self, stream: int, fields: list[tuple[bytes, bytes]], *, ends: bool) -> None:
        try:
            self._h2.send_headers(stream, fields, end_stream=ends)
        except h2.exceptions.ProtocolError as error:
            raise LocalProtocolError(f"HTTP/2: {error}"[:300]) from error

    def window(self, stream: int) -> int:
        """Bytes that may be sent on `stream` now. Raises LocalProtocolError when it is gone."""
        try:
            return max(0, self._h2.local_flow_control_window(stream))
        except h2.exceptions.ProtocolError as error:
            raise LocalProtocolError("HTTP/2: the stream is closed") from error

    def send_data(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        """At most `window` bytes."""
        self._idle_frames = 0  # the peer's window updates are for this
        size = self._h2.max_outbound_frame_size
        try:
            for at in range(0, len(data), size):
                piece = data[at : at + size]
                self._h2.send_data(stream, piece, end_stream=ends and at + size >= len(data))
            if ends and not data:
                self._h2.end_stream(stream)
        except h2.exceptions.ProtocolError as error:
            raise LocalProtocolError(f"HTTP/2: {error}"[:300]) from error

    def acknowledge(self, stream: int, flow_bytes: int) -> None:
        """What came has been passed on: the peer may send as much again."""
        if not flow_bytes:
            return
        try:
            self._h2.acknowledge_received_data(flow_bytes, stream)
        except h2.exceptions.ProtocolError:
            return  # the stream or the connection has ended meanwhile

    def finished(self) -> None:
        """An answer has been sent whole."""
        self._finished += 1

    def reset(self, stream: int, code: int = h2.errors.ErrorCodes.INTERNAL_ERROR) -> None:
        try:
            self._h2.reset_stream(stream, code)
        except h2.exceptions.ProtocolError:
            return  # it has ended by itself

    # Taking leave

    def say_farewell(self) -> None:
        """As a server: no more streams will be taken soon. What the client sends before it hears of this still is.

        RFC 9113, 6.8. `FarewellHeard` comes when it has heard.
        """
        self._say_goodbye(ANY_STREAM)
        try:
            self._h2.ping(_FAREWELL)
        except h2.exceptions.ProtocolError:
            return  # it is over

    def refuse_more(self) -> None:
        """As a server: no stream is taken that has not begun by now."""
        self._farewell_stream = min(self._farewell_stream, self._h2.highest_inbound_stream_id)
        self._say_goodbye(self._farewell_stream)

    def _say_goodbye(self, last_stream: int) -> None:
        """Not by h2, for which a GOAWAY of ours is the end."""
        self._unsent += self._h2.data_to_send()
        self._unsent += GoAwayFrame(0, last_stream_id=last_stream).serialize()

    def close(self, code: int = h2.errors.ErrorCodes.NO_ERROR) -> None:
        """Say that this is the end, once."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._h2.close_connection(
                code, last_stream_id=min(self._farewell_stream, self._h2.highest_inbound_stream_id)
            )
        except h2.exceptions.ProtocolError:
            return
