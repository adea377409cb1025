"""The leg of a target: asyncssh's client, with the host key judged by ours (`proxyd.ssh_host_keys`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import asyncssh
import trio
import trio_asyncio
from asyncssh.connection import SSHClientConnection, SSHConnection

from proxyd.ssh_host_keys import HostKeyCheck, HostKeyRefused
from proxyd.ssh_transport.algorithms import CIPHERS, MACS, REKEY_BYTES, REKEY_S, VERSION_PREFIX
from proxyd.ssh_transport.leg import Leg
from proxyd.ssh_transport.loop import Loop
from proxyd.ssh_transport.relayed import RELAYED, Relayed


class _ClientConnection(Relayed, SSHClientConnection):  # type: ignore[misc]
    """The leg of a target."""

    _packet_handlers = {**SSHConnection._packet_handlers, **RELAYED}  # noqa: RUF012

    def __init__(
        self,
        loop: Loop,
        options: Any,
        leg: Leg,
        on_message: Callable[[bytes], None],
        host_key: HostKeyCheck,
    ) -> None:
        super().__init__(loop, options)
        self._adopt(leg, on_message)
        self._host_key = host_key

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        """Ours decides (see `proxyd.ssh_host_keys` on what asyncssh's would let pass)."""
        try:
            key = self._host_key.check(key_data)
        except HostKeyRefused as refused:
            raise asyncssh.HostKeyNotVerifiable(refused.what) from refused
        self._server_host_key = key
        return key

    def _owner_of_nothing(self) -> object:
        return _Somebody(self.leg)


class _Somebody(asyncssh.SSHClient):
    def __init__(self, leg: Leg) -> None:
        self._leg = leg

    def auth_completed(self) -> None:
        self._leg.ready.set()


async def connect_target(
    stream: trio.SocketStream,
    on_message: Callable[[bytes], None],
    *,
    host: str,
    port: int,
    username: str,
    client_keys: Sequence[object],
    password: str | None,
    host_key: HostKeyCheck,
    version: str,
) -> Leg:
    """The leg of a target; `ready` is set once it has let us in or `lost` says why not. For a task of a session."""
    loop = trio_asyncio.current_loop.get()
    options = await trio_asyncio.aio_as_trio(asyncssh.SSHClientConnectionOptions.construct)(
        client_factory=asyncssh.SSHClient,
        host=host,
        port=port,
        username=username,
        client_keys=list(client_keys) or None,
        password=password,
        known_hosts=host_key.known_hosts,
        server_host_key_algs=host_key.algorithms,
        client_version=VERSION_PREFIX + version,
        preferred_auth=("publickey",) if password is None else ("password", "keyboard-interactive"),
        agent_path=None,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        rekey_bytes=REKEY_BYTES,
        rekey_seconds=REKEY_S,
        compression_algs=("none",),
        login_timeout=0,
        keepalive_interval=0,
        gss_host=None,
        config=None,
    )
    leg = Leg(stream)
    connection = _ClientConnection(loop, options, leg, on_message, host_key)
    connection.connection_made(leg)
    return leg
