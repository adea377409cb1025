"""The packets before the first message: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage, direct TLS.

`StartupReceiver` takes the client's bytes and gives at most one event a call. After a request for encryption
the caller answers one byte and says which by `refused()` or `tls_started()`; nothing may have come behind the
request, because what came in clear before the answer may have been injected (CVE-2021-23222 and its kin). The
builders are for the other side: the gateway is a client of its targets.

Limits and order follow the server's ProcessStartupPacket; where that is lenient without use (parameters given
twice, SSLRequest inside TLS) this is strict. Source: PostgreSQL documentation, "Start-up" and "Message
Formats".
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import Enum

import msgspec

from protocols.buffer import ReceiveBuffer
from protocols.errors import (
    InvalidEncoding,
    LimitExceeded,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
)

MAX_PACKET_BYTES = 10_004  # the server takes 10,000 behind the length
MAX_CANCEL_KEY_BYTES = 256
MAJOR = 3
NEWEST_MINOR = 2
TLS_HANDSHAKE = 0x16  # first byte of a TLS record that holds a ClientHello

CANCEL_REQUEST = 1234 << 16 | 5678
SSL_REQUEST = 1234 << 16 | 5679
GSSENC_REQUEST = 1234 << 16 | 5680

_head = struct.Struct(">II").unpack_from


class SslRequested(msgspec.Struct, frozen=True):
    """Answer b"S" and start TLS, then `tls_started()`; or answer b"N", then `refused()`."""


class GssencRequested(msgspec.Struct, frozen=True):
    """Answer b"N", then `refused()`: GSSAPI encryption is not spoken here."""


class DirectTlsStarted(msgspec.Struct, frozen=True):
    """The client opened with a TLS handshake. `data` is TLS's; ALPN must turn out to be "postgresql"."""

    data: bytes


class CancelRequested(msgspec.Struct, frozen=True):
    """The connection's only packet; it is never answered. `secret_key` has 1 to 256 bytes."""

    process_id: int
    secret_key: bytes


class StartupReceived(msgspec.Struct, frozen=True):
    """A session is asked for.

    minor: the protocol version asked for is 3.minor. parameters: as sent, `user` always among them, without
    the protocol options; `options` is left as it is. unsupported_options: names of the `_pq_.` options (all
    of them: none is known here). rest: bytes behind the packet, which belong to the message codec.
    """

    minor: int
    parameters: dict[str, str]
    unsupported_options: tuple[str, ...] = ()
    rest: bytes = b""

    @property
    def negotiated_minor(self) -> int:
        """The minor version that holds for the session."""
        return min(self.minor, NEWEST_MINOR)

    @property
    def needs_negotiation(self) -> bool:
        """Must NegotiateProtocolVersion be sent before anything else?"""
        return self.minor > NEWEST_MINOR or bool(self.unsupported_options)


StartupEvent = SslRequested | GssencRequested | DirectTlsStarted | CancelRequested | StartupReceived


class _State(Enum):
    OPEN = "open"  # not a byte yet: TLS may start directly
    PACKET = "packet"  # a packet is expected
    ASKED = "asked"  # encryption was asked for and not answered
    TLS_STARTING = "TLS starting"  # direct TLS was seen and not taken up
    DONE = "done"
    BROKEN = "broken"


class StartupReceiver:
    """The server's side of the startup phase.

    Give `encrypted=True` for a connection that is encrypted before its first byte here.
    """

    def __init__(self, *, encrypted: bool = False) -> None:
        self._state = _State.PACKET if encrypted else _State.OPEN
        self._buffer = ReceiveBuffer(MAX_PACKET_BYTES)
        self._ssl_done = encrypted
        self._gss_done = encrypted
        self._fault: ProtocolError | None = None

    @property
    def buffered_bytes(self) -> int:
        """Bytes of an incomplete packet."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[StartupEvent]:
        """The event that `data` completes, if any.

        Raises RemoteProtocolError or LimitExceeded for what the client did, and from then on for ever;
        LocalProtocolError when called before an answer that is due, or after the phase is over.
        """
        if self._fault is not None:
            raise self._fault
        if self._state not in (_State.OPEN, _State.PACKET):
            raise LocalProtocolError(f"startup bytes given while the state is {self._state.value}")
        if not data:
            return []
        try:
            return self._receive(data)
        except ProtocolError as fault:
            self._fault = fault
            self._state = _State.BROKEN
            raise

    def refused(self) -> None:
        """The request for encryption was answered with N."""
        self._leave(_State.ASKED)

    def tls_started(self) -> None:
        """TLS has been agreed on: what `receive` gets from now on was encrypted."""
        self._leave(_State.ASKED, _State.TLS_STARTING)
        self._ssl_done = True
        self._gss_done = True

    def _leave(self, *states: _State) -> None:
        if self._state not in states:
            raise LocalProtocolError(f"no answer is due while the state is {self._state.value}")
        self._state = _State.PACKET

    def _receive(self, data: bytes) -> list[StartupEvent]:
        if self._state is _State.OPEN:
            if data[0] == TLS_HANDSHAKE:
                self._state = _State.TLS_STARTING
                return [DirectTlsStarted(data)]
            self._state = _State.PACKET
        data = self._buffer.join(data)
        if len(data) < 4:
            if data:
                self._buffer.keep(data, 4)
            return []
        length = int.from_bytes(data[:4])
        if length < 8:
            raise RemoteProtocolError("invalid length of startup packet")
        if length > MAX_PACKET_BYTES:
            raise LimitExceeded(f"startup packet is longer than the {MAX_PACKET_BYTES} bytes allowed")
        if len(data) < length:
            self._buffer.keep(data, length)
            return []
        return [self._packet(data[:length], data[length:])]

    def _packet(self, packet: bytes, rest: bytes) -> StartupEvent:
        _, code = _head(packet, 0)
        if code == CANCEL_REQUEST:
            self._state = _State.DONE
            return _cancel(packet, rest)
        if code == SSL_REQUEST and not self._ssl_done:
            self._ssl_done = True
            self._ask(packet, rest, "SSL")
            return SslRequested()
        if code == GSSENC_REQUEST and not self._gss_done:
            self._gss_done = True
            self._ask(packet, rest, "GSSAPI encryption")
            return GssencRequested()
        self._state = _State.DONE
        return _startup(packet, code, rest)

    def _ask(self, packet: bytes, rest: bytes, name: str) -> None:
        if len(packet) != 8:
            raise RemoteProtocolError(f"invalid length of {name} request")
        if rest:
            raise RemoteProtocolError(f"received unencrypted data after {name} request")
        self._state = _State.ASKED


def _cancel(packet: bytes, rest: bytes) -> CancelRequested:
    key = packet[12:]
    if len(packet) < 12 or not 1 <= len(key) <= MAX_CANCEL_KEY_BYTES or rest:
        raise RemoteProtocolError("invalid length of cancel request packet")
    return CancelRequested(int.from_bytes(packet[8:12], signed=True), key)


def _startup(packet: bytes, code: int, rest: bytes) -> StartupReceived:
    major, minor = code >> 16, code & 0xFFFF
    if major != MAJOR:
        supported = f"{MAJOR}.0 to {MAJOR}.{NEWEST_MINOR}"
        raise RemoteProtocolError(
            f"unsupported frontend protocol {major}.{minor}: proxyd supports {supported}", "0A000"
        )
    parameters = _parameters(packet)
    options = tuple(name for name in parameters if name.startswith("_pq_."))
    for name in options:
        del parameters[name]
    if not parameters.get("user"):
        raise RemoteProtocolError("no PostgreSQL user name specified in startup packet", "28000")
    return StartupReceived(minor, parameters, options, rest)


def _parameters(packet: bytes) -> dict[str, str]:
    """Name and value pairs, each ended by NUL, and one NUL as the very last byte."""
    if packet[-1] or (len(packet) > 9 and packet[-2]):
        raise RemoteProtocolError("invalid startup packet layout: expected terminator as last byte")
    words = packet[8:-1].split(b"\0")[:-1] if len(packet) > 9 else []
    if len(words) % 2 or len(packet) < 9:
        raise RemoteProtocolError("invalid startup packet layout: a parameter has no value")
    try:
        texts = [word.decode() for word in words]
    except UnicodeDecodeError as fault:
        raise InvalidEncoding("startup packet is not valid UTF-8", "22021") from fault
    parameters: dict[str, str] = {}
    for name, value in zip(texts[::2], texts[1::2], strict=True):
        if not name or name in parameters:
            raise RemoteProtocolError("invalid startup packet layout: a parameter is empty or given twice")
        parameters[name] = value
    return parameters


def build_startup(parameters: Mapping[str, str], minor: int = 0) -> bytes:
    """A StartupMessage for protocol 3.`minor`; `parameters` must have `user`."""
    if not parameters.get("user"):
        raise LocalProtocolError("a startup packet needs a user")
    if "" in parameters:
        raise LocalProtocolError("a startup parameter needs a name")  # an empty one would end the packet
    body = b"".join(_cstring(name) + _cstring(value) for name, value in parameters.items()) + b"\0"
    packet = struct.pack(">II", len(body) + 8, MAJOR << 16 | minor) + body
    if len(packet) > MAX_PACKET_BYTES:
        raise LocalProtocolError(f"startup packet is longer than the {MAX_PACKET_BYTES} bytes allowed")
    return packet


def build_ssl_request() -> bytes:
    return struct.pack(">II", 8, SSL_REQUEST)


def build_gssenc_request() -> bytes:
    return struct.pack(">II", 8, GSSENC_REQUEST)


def build_cancel_request(process_id: int, secret_key: bytes) -> bytes:
    if not 1 <= len(secret_key) <= MAX_CANCEL_KEY_BYTES:
        raise LocalProtocolError("a cancel key has 1 to 256 bytes")
    return struct.pack(">IIi", 12 + len(secret_key), CANCEL_REQUEST, process_id) + secret_key


def _cstring(text: str) -> bytes:
    value = text.encode()
    if b"\0" in value:
        raise LocalProtocolError("a startup parameter cannot hold a NUL")
    return value + b"\0"
