"""What both kinds of asyncssh's connections get from us, by inheritance before theirs.

Owns taking every message of the connection protocol out of asyncssh's hands, and keeping count of what asyncssh keeps.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_DISCONNECT,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
)
from asyncssh.misc import DisconnectError
from asyncssh.packet import PacketDecodeError, SSHPacket

from proxyd.gates.refusals import printable
from proxyd.ssh_transport.leg import MAX_DISCONNECT_CHARACTERS, Leg, TransportLost


class _AnyChannel(dict[int, Any]):
    """asyncssh asks its table of channels who takes a message; the answer is always the relay."""

    def __init__(self, taker: _ChannelMessages) -> None:
        super().__init__()
        self._taker = taker

    def __missing__(self, number: int) -> _ChannelMessages:
        return self._taker


class _ChannelMessages:
    """Stands where asyncssh expects a channel."""

    def __init__(self, take: Callable[[SSHPacket], None]) -> None:
        self._take = take

    def log_received_packet(self, *_: object) -> None:
        return

    def process_packet(self, _kind: int, _number: int, packet: SSHPacket) -> bool:
        self._take(packet)
        return True


class Relayed:
    """What both kinds of asyncssh's connections get from us, by inheritance before theirs."""

    leg: Leg
    on_message: Callable[[bytes], None]
    _deferred_bytes = 0
    if TYPE_CHECKING:  # of asyncssh's connections
        _deferred_packets: list[tuple[int, Sequence[bytes]]]
        _kexinit_sent: bool
        _kex: object | None
        _username: str
        _server_version: bytes
        _client_version: bytes
        _server_kexinit: bytes
        _client_kexinit: bytes
        _ignore_first_kex: bool
        _inpbuf: bytes
        _transport: object | None

        def is_client(self) -> bool: ...
        def _send_disconnect(self, code: int, reason: str, lang: str) -> None: ...
        def disconnect(self, code: int, reason: str) -> None: ...
        def _process_disconnect(self, kind: int, number: int, packet: SSHPacket) -> None: ...
        async def _process_kexinit(self, kind: int, number: int, packet: SSHPacket) -> None: ...
        def connection_lost(self, exc: Exception | None) -> None: ...

    def _adopt(self, leg: Leg, on_message: Callable[[bytes], None]) -> None:
        self.leg = leg
        self.on_message = on_message
        self._channels = _AnyChannel(_ChannelMessages(self._take))
        self._protocol_factory = self._owner_of_nothing
        leg.connection = self

    def _owner_of_nothing(self) -> object:
        raise NotImplementedError

    def _take(self, packet: SSHPacket) -> None:
        self.on_message(packet.get_full_payload())

    def _take_message(self, _kind: int, _number: int, packet: SSHPacket) -> None:
        self.on_message(packet.get_full_payload())

    async def _hear_kexinit(self, kind: int, number: int, packet: SSHPacket) -> None:
        """asyncssh takes a guess for right that only names what was agreed upon, as Dropbear's does not."""
        await self._process_kexinit(kind, number, packet)
        ours = self._client_kexinit if self.is_client() else self._server_kexinit
        self._ignore_first_kex = is_wrong_guess(ours, packet.get_full_payload())

    def _hear_disconnect(self, kind: int, number: int, packet: SSHPacket) -> None:
        """For the log: of the words with which a peer leaves, asyncssh keeps only those that tell of a fault."""
        heard = SSHPacket(packet.get_full_payload())
        with contextlib.suppress(PacketDecodeError):
            heard.get_byte()
            is_refusal = heard.get_uint32() != asyncssh.DISC_BY_APPLICATION
            words = printable(heard.get_string()[:MAX_DISCONNECT_CHARACTERS].decode(errors="replace"))
            if self.leg.lost is None:
                self.leg.lost = TransportLost(f"disconnected: {words}", is_refusal=is_refusal)
        self._process_disconnect(kind, number, packet)

    def relay(self, payload: bytes) -> None:
        self.send_packet(payload[0], payload[1:])

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            super().data_received(data)  # type: ignore[misc]

    def _recv_data(self) -> None:
        super()._recv_data()  # type: ignore[misc]
        self.leg.leave_unread(len(self._inpbuf))

    def deferred_bytes(self) -> int:
        return self._deferred_bytes if self._deferred_packets else 0

    def is_exchanging_keys(self) -> bool:
        return bool(self._kexinit_sent or self._kex)

    def user_name(self) -> str:
        return str(self._username)

    def peer_version(self) -> str:
        version = self._server_version if self.is_client() else self._client_version
        return version.decode(errors="replace")

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        # asyncssh puts a message to be ignored before each one, against an attack on CBC, which is not offered here.
        if pkttype == MSG_IGNORE:
            return
        deferred = self._deferred_packets
        count = len(deferred)
        super().send_packet(pkttype, *args, handler=handler)  # type: ignore[misc]
        if self._deferred_packets is deferred and len(deferred) > count:
            self._deferred_bytes += sum(map(len, args))

    def _send_deferred_packets(self) -> None:
        self._deferred_bytes = 0
        super()._send_deferred_packets()  # type: ignore[misc]

    def _log_packet(self, *_: object) -> None:
        """asyncssh formats a line for every packet before it asks whether anybody wants it."""

    def internal_error(self, exc_info: Any = None, error_logger: object = None) -> None:
        """asyncssh comes here with whatever it did not expect of a message: a field too short, a text that is none."""
        fault = (exc_info or sys.exc_info())[1]
        refused = asyncssh.ProtocolError(
            f"a message that cannot be handled ({str(fault) or type(fault).__name__})"
        )
        self._send_disconnect(refused.code, "a message that cannot be handled", "en")
        self._force_close(refused)

    def _force_close(self, exc: Exception | None) -> None:
        if exc is not None and self.leg.lost is None:
            self.leg.lost = _reason(exc)
        super()._force_close(exc)  # type: ignore[misc]
        # Nothing that came with the message that ended it counts any more.
        self._inpbuf = b""


RELAYED: dict[int, Callable[..., Awaitable[None] | None]] = {
    number: Relayed._take_message
    for number in (
        MSG_GLOBAL_REQUEST,
        MSG_REQUEST_SUCCESS,
        MSG_REQUEST_FAILURE,
        MSG_CHANNEL_OPEN,
        MSG_CHANNEL_OPEN_CONFIRMATION,
        MSG_CHANNEL_OPEN_FAILURE,
    )
}
RELAYED[MSG_DISCONNECT] = Relayed._hear_disconnect
RELAYED[MSG_KEXINIT] = Relayed._hear_kexinit


def _reason(error: Exception) -> TransportLost:
    if isinstance(error, DisconnectError):
        return TransportLost(error.reason, is_refusal=True)
    return TransportLost(str(error) or type(error).__name__)


def is_wrong_guess(ours: bytes, theirs: bytes) -> bool:
    """Of two KEXINIT: does theirs announce a packet that is to be passed over?

    RFC 4253, 7.1: it is, unless both sides prefer the same key exchange and the same kind of host key. Raises
    PacketDecodeError.
    """
    packet = SSHPacket(theirs)
    packet.get_bytes(17)
    lists = [packet.get_namelist() for _ in range(10)]
    return packet.get_boolean() and _preferred(ours) != tuple(names[:1] for names in lists[:2])


def _preferred(kexinit: bytes) -> tuple[Sequence[bytes], ...]:
    packet = SSHPacket(kexinit)
    packet.get_bytes(17)
    return tuple(packet.get_namelist()[:1] for _ in range(2))
