"""HTTP/2 (RFC 9113) for either end of a connection: bytes in, messages of streams out, and the way back.

Over h2, which keeps the protocol's state and its windows. Here: heads in the shape that HTTP/1.1 has too, nothing in a
head that a later hop could read otherwise, and a bound for every way in which a peer can make work without asking for
anything (resets, settings, pings, empty frames). Sans-IO; driven by `proxyd.http2_connection`. Raises ProtocolError:
the connection is over then, and `take` has the last words for the peer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, TypeAlias

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import msgspec

from protocols.errors import LimitExceeded, LocalProtocolError, RemoteProtocolError
from protocols.http.http1_fields import NOT_TRAILERS
from protocols.http.messages import Headers, MessageEnded, RequestHead, ResponseHead

# Resets that a client gets for nothing, and how many more for each answer it has let us finish (CVE-2023-44487).
FREE_RESETS: Final = 200
MAX_INTERIM: Final = 16
# Frames without content that may come between two that have some (CVE-2019-9512, 9515, 9518).
MAX_IDLE_FRAMES: Final = 1000

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9113, 8.2.2: these belong to HTTP/1.1's connections. h2 refuses the others of them itself.
_CONNECTION_FIELDS: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)
_GUARDED_FIELDS: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "authorization", "proxy-authorization", "cookie"),
        *("x-api-key", "api-key", "content-type", "content-encoding", "connection", "upgrade", "expect"),
    }
)
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")  # as in HTTP/1.1 here
_ODD_NAME = re.compile(r"[^a-z0-9-]")
_STATUS = re.compile(r"[1-5][0-9]{2}")
_NUMBER = re.compile(r"[0-9]{1,19}")


class Http2Limits(msgspec.Struct, frozen=True):
    """streams: of the peer, open at a time. Bytes of one head, of the target in it, and of what may come unread on one
    stream and on all.
    """

    streams: int = 100
    head_bytes: int = 65536
    target_bytes: int = 16384  # as in HTTP/1.1 here
    fields: int = 128
    stream_window: int = 256 * 1024
    connection_window: int = 1024 * 1024


class StreamReset(msgspec.Struct, frozen=True):
    """The peer gives a stream up. `code` is RFC 9113's error code."""

    code: int


class WindowOpened(msgspec.Struct, frozen=True):
    """More may be sent on this stream; on any, where the stream is 0."""


class ConnectionEnding(msgspec.Struct, frozen=True):
    """The peer takes no more streams; those above `last_stream` were not looked at."""

    last_stream: int
    code: int


class Received(msgspec.Struct, frozen=True):
    """A piece of a body. `flow_bytes` have to be given back by `acknowledge` once it has been passed on."""

    data: bytes
    flow_bytes: int


StreamEvent: TypeAlias = (
    RequestHead | ResponseHead | Received | MessageEnded | StreamReset | WindowOpened | ConnectionEnding
)


class MalformedMessage(Exception):
    """A message of one stream is not what it should be; the connection is sound."""

    def __init__(self, stream: int, why: str) -> None:
        super().__init__(why)
        self.stream = stream


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
        self._resets = 0
        self._finished = 0
        self._idle_frames = 0
        self._began = False
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
            del settings[codes.ENABLE_PUSH]
        self._h2.local_settings = h2.settings.Settings(client=not self._is_server, initial_values=settings)
        # What is a little over the limit costs its stream, see `_split`; what is far over it, the connection.
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
            except MalformedMessage as fault:
                self.malformed.append((fault.stream, str(fault)))
        return found

    def _take_event(self, event: h2.events.Event, found: list[tuple[int, StreamEvent]]) -> None:
        match event:
            case h2.events.RequestReceived():
                self._idle_frames = 0
                found.append((event.stream_id, self._request(event)))
                if event.stream_ended is not None:
                    found.append((event.stream_id, MessageEnded()))
            case h2.events.ResponseReceived() | h2.events.InformationalResponseReceived():
                self._idle_frames = 0
                found.append((event.stream_id, self._response(event)))
                if getattr(event, "stream_ended", None) is not None:
                    found.append((event.stream_id, MessageEnded()))
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
                found.append(
                    (event.stream_id, MessageEnded(self._trailers(event.stream_id, event.headers or [])))
                )
            case h2.events.StreamReset():
                # Also those that h2 makes itself for what the peer has done: a stream is a stream.
                self._count_reset()
                self._interim.pop(event.stream_id, None)
                found.append((event.stream_id, StreamReset(int(event.error_code or 0))))
            case h2.events.WindowUpdated():
                self._idle()
                found.append((event.stream_id, WindowOpened()))
            case h2.events.RemoteSettingsChanged():
                self._idle()
                found.append((0, WindowOpened()))
            case h2.events.ConnectionTerminated():
                last = event.last_stream_id if event.last_stream_id is not None else 0
                found.append((0, ConnectionEnding(last, int(event.error_code or 0))))
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

    # Heads

    def _request(self, event: h2.events.RequestReceived) -> RequestHead:
        stream = event.stream_id
        pseudo, headers = self._split(stream, event.headers or [])
        method, authority = pseudo.get(":method", ""), pseudo.get(":authority", "")
        if len(pseudo.get(":path", "")) > self._limits.target_bytes:
            raise MalformedMessage(stream, f"a target of more than {self._limits.target_bytes} bytes")
        if _METHOD.fullmatch(method) is None:
            raise MalformedMessage(stream, "a method that is not in upper case")
        if pseudo.get(":scheme", self._scheme) not in ("http", "https"):
            raise MalformedMessage(stream, "a scheme that is neither http nor https")
        if ":protocol" in pseudo:
            raise MalformedMessage(stream, "an extended CONNECT, which was not offered")
        length, headers = self._length(stream, headers)
        host = [value for name, value in headers if name == "host"]
        if host:
            if len(host) > 1 or (authority and host[0] != authority):
                raise MalformedMessage(stream, "Host and :authority differ")
            authority = host[0]
            headers = tuple(field for field in headers if field[0] != "host")
        ended = event.stream_ended is not None
        if ended and length not in (None, 0):
            raise MalformedMessage(stream, "a length, and no body")
        expects = any(name == "expect" and value.lower() == "100-continue" for name, value in headers)
        return RequestHead(
            method,
            pseudo.get(":path", ""),
            pseudo.get(":scheme", self._scheme),
            authority,
            tuple(field for field in headers if field[0] != "expect"),
            "2",
            0 if ended else length,
            expects,
        )

    def _response(
        self, event: h2.events.ResponseReceived | h2.events.InformationalResponseReceived
    ) -> ResponseHead:
        stream = event.stream_id
        pseudo, headers = self._split(stream, event.headers or [])
        status = pseudo.get(":status", "")
        if _STATUS.fullmatch(status) is None:
            raise MalformedMessage(stream, "a status that is none")
        if status == "101":
            raise MalformedMessage(stream, "a change of protocol, which HTTP/2 does not know")
        length, headers = self._length(stream, headers)
        ended = getattr(event, "stream_ended", None) is not None
        if status[0] != "1":
            self._interim.pop(stream, None)
        else:
            self._interim[stream] = self._interim.get(stream, 0) + 1
            if self._interim[stream] > MAX_INTERIM or length:
                raise MalformedMessage(
                    stream, f"more than {MAX_INTERIM} interim responses, or one with a body"
                )
        # With its head alone come the answers to HEAD and 304s too: they say what the body would have been.
        return ResponseHead(int(status), headers, 0 if ended and length is None else length)

    def _split(self, stream: int, raw: Iterable[tuple[bytes, bytes]]) -> tuple[dict[str, str], Headers]:
        pseudo: dict[str, str] = {}
        headers: list[tuple[str, str]] = []
        cookies: list[str] = []
        size = 0
        for raw_name, raw_value in raw:
            size += len(raw_name) + len(raw_value)
            if size > self._limits.head_bytes:
                raise MalformedMessage(stream, f"a head of more than {self._limits.head_bytes} bytes")
            name, value = bytes(raw_name).decode("latin-1"), bytes(raw_value).decode("latin-1").strip(" \t")
            if _BAD_VALUE.search(value) is not None:
                raise MalformedMessage(stream, "a control character in a field")
            if name.startswith(":"):
                pseudo[name] = value
            elif _TOKEN.fullmatch(name) is None or name in _CONNECTION_FIELDS:
                raise MalformedMessage(stream, "a field that does not belong in HTTP/2")
            elif self._is_server and _ODD_NAME.search(name) is not None:
                # As in HTTP/1.1 here: CGI and its heirs would take `content_type` for `content-type`.
                if _ODD_NAME.sub("-", name) in _GUARDED_FIELDS:
                    raise MalformedMessage(stream, "a field whose name looks like another one's")
            elif name == "cookie":
                cookies.append(value)  # RFC 9113, 8.2.3: in pieces here, one field everywhere else
            else:
                headers.append((name, value))
        if len(headers) + len(cookies) > self._limits.fields:
            raise MalformedMessage(stream, f"more than {self._limits.fields} fields")
        if cookies:
            headers.append(("cookie", "; ".join(cookies)))
        return pseudo, tuple(headers)

    @staticmethod
    def _length(stream: int, headers: Headers) -> tuple[int | None, Headers]:
        found = [value for name, value in headers if name == "content-length"]
        if not found:
            return None, headers
        if len(found) > 1 or _NUMBER.fullmatch(found[0]) is None:
            raise MalformedMessage(stream, "a length that is no number, or several")
        return int(found[0]), tuple(field for field in headers if field[0] != "content-length")

    def _trailers(self, stream: int, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
        pseudo, headers = self._split(stream, raw)
        if pseudo:
            raise MalformedMessage(stream, "a pseudo field among the trailers")
        for name, _ in headers:
            if name in NOT_TRAILERS:
                raise MalformedMessage(stream, f"the field {name}, which may not stand in a trailer")
        return headers

    # Sending

    def next_stream(self) -> int:
        """Raises LocalProtocolError when the connection has had all of its streams."""
        try:
            return self._h2.get_next_available_stream_id()
        except h2.exceptions.ProtocolError as error:
            raise LocalProtocolError("HTTP/2: no more streams on this connection") from error

    def send_request(self, stream: int, head: RequestHead, *, ends: bool) -> None:
        """`target` and `authority` of the head are sent as they are."""
        fields = [(":method", head.method), (":scheme", head.scheme), (":authority", head.authority)]
        fields.append((":path", head.target))
        self._send_head(stream, fields, head.headers, head.body_bytes, ends=ends, method=head.method)

    def send_response(self, stream: int, head: ResponseHead, *, ends: bool) -> None:
        self._send_head(stream, [(":status", str(head.status))], head.headers, head.body_bytes, ends=ends)

    def _send_head(
        self,
        stream: int,
        fields: list[tuple[str, str]],
        headers: Headers,
        length: int | None,
        *,
        ends: bool,
        method: str = "",
    ) -> None:
        fields.extend(headers)
        if length is not None and (length or (method in {"POST", "PUT", "PATCH"} and ends)):
            fields.append(("content-length", str(length)))
        try:
            encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
            self._h2.send_headers(stream, encoded, end_stream=ends)
        except (h2.exceptions.ProtocolError, UnicodeEncodeError) as error:
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

    def send_trailers(self, stream: int, trailers: Headers) -> None:
        try:
            encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in trailers]
            self._h2.send_headers(stream, encoded, end_stream=True)
        except (h2.exceptions.ProtocolError, UnicodeEncodeError) as error:
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

    def close(self, code: int = h2.errors.ErrorCodes.NO_ERROR) -> None:
        """Say that no more streams are taken."""
        try:
            self._h2.close_connection(code)
        except h2.exceptions.ProtocolError:
            return
