"""Opens connections to targets: TCP with keepalive, or a Unix socket. Called by everything that goes to a target."""

from __future__ import annotations

import socket

import trio

from proxyd.addresses import Address

KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


async def dial(address: Address) -> trio.SocketStream:
    if address.is_unix:
        return await trio.open_unix_socket(address.path)
    stream = await trio.open_tcp_stream(address.host, address.port)
    _tune(stream.socket)
    return stream


async def dial_again(transport: trio.abc.Stream) -> trio.SocketStream:
    """A new connection to the very address that `transport` has reached."""
    if not isinstance(transport, trio.SocketStream):
        raise OSError("not a socket")
    peer = transport.socket.getpeername()
    new = trio.socket.socket(transport.socket.family, socket.SOCK_STREAM)
    try:
        await new.connect(peer)
        if transport.socket.family != socket.AF_UNIX:
            _tune(new)
        return trio.SocketStream(new)
    except BaseException:
        new.close()
        raise


def _tune(sock: trio.socket.SocketType) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def os_reason(error: OSError) -> str:
    """trio puts the attempts on each address of a name under the error's cause."""
    attempts = error.__cause__
    if isinstance(attempts, BaseExceptionGroup):
        return "; ".join([str(error), *(str(attempt) for attempt in attempts.exceptions)])
    return f"{error}; {attempts}" if attempts is not None else str(error)
