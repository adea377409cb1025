"""The leg of a client: asyncssh's server, with every decision about who the client is made by an `Authenticator`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import asyncssh
import trio
import trio_asyncio
from asyncssh.connection import SSHConnection, SSHServerConnection
from asyncssh.packet import String

from proxyd.identity.ssh import Step
from proxyd.ssh_transport.algorithms import (
    AES_GCM,
    CIPHERS,
    MACS,
    REKEY_BYTES,
    REKEY_S,
    SIGNATURES,
    VERSION_PREFIX,
    known_key_exchanges,
)
from proxyd.ssh_transport.leg import Leg
from proxyd.ssh_transport.loop import Loop
from proxyd.ssh_transport.relayed import RELAYED, Relayed

MAX_REFUSALS = 100
"""Requests of a client to be let in that are answered with a no, whatever they were."""


class Authenticator(Protocol):
    """What decides about a client's attempts (`proxyd.identity.ssh.SshLogin`)."""

    def methods(self, user: str) -> tuple[str, ...]: ...

    def offer(self, user: str, algorithm: bytes, key_blob: bytes) -> bool: ...

    def verify_key(self, user: str, key_blob: bytes, signed: bytes, signature: bytes) -> Step: ...

    @property
    def notice(self) -> str: ...

    def prompts(self, user: str) -> tuple[tuple[str, bool], ...] | None: ...

    def further_prompts(self) -> tuple[tuple[str, bool], ...]: ...

    def answer(self, user: str, responses: Sequence[str]) -> Step: ...


class _ServerConnection(Relayed, SSHServerConnection):  # type: ignore[misc]
    """The leg of a client. Who it is, is decided by `authenticator` alone."""

    _packet_handlers = {**SSHConnection._packet_handlers, **RELAYED}  # noqa: RUF012

    def __init__(
        self,
        loop: Loop,
        options: Any,
        leg: Leg,
        on_message: Callable[[bytes], None],
        authenticator: Authenticator,
    ) -> None:
        super().__init__(loop, options)
        self._adopt(leg, on_message)
        self._authenticator = authenticator
        self._step = Step.FAILED
        self._refusals = 0

    def _owner_of_nothing(self) -> object:
        return _Nobody()

    def _send_kexinit(self) -> None:
        if self._client_version.startswith(b"SSH-2.0-OpenSSH_"):
            self._enc_algs = [name.encode() for name in AES_GCM]
        super()._send_kexinit()

    async def reload_config(self) -> None:
        """There is no configuration of asyncssh's own."""

    def send_server_host_keys(self) -> None:
        """Host keys are not rolled over through this."""

    def public_key_auth_supported(self) -> bool:
        return "publickey" in self._authenticator.methods(self._username)

    def kbdint_auth_supported(self) -> bool:
        return "keyboard-interactive" in self._authenticator.methods(self._username)

    def password_auth_supported(self) -> bool:
        return False

    def host_based_auth_supported(self) -> bool:
        return False

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        self._step = Step.FAILED
        if not msg:
            return self._authenticator.offer(username, b"", key_data)
        signed = String(self._session_id) + msg
        self._step = self._authenticator.verify_key(username, key_data, signed, signature)
        return self._step is not Step.FAILED

    async def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        self._step = Step.FAILED
        return self._challenge(username)

    def _challenge(self, username: str) -> Any:
        prompts = self._authenticator.prompts(username)
        return False if prompts is None else ("", self._authenticator.notice, "", prompts)

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Any:
        self._step = self._authenticator.answer(username, responses)
        if self._step is Step.UNFINISHED:
            return ("", "", "", self._authenticator.further_prompts())
        return self._step is not Step.FAILED

    async def send_userauth_success(self) -> None:
        """Only what the attempt under way has proved counts, and only once."""
        step, self._step = self._step, Step.FAILED
        if step is Step.DONE:
            await super().send_userauth_success()
            self.leg.ready.set()
        else:
            self.send_userauth_failure(step is Step.PARTIAL)

    def send_userauth_failure(self, partial_success: bool) -> None:
        self._refusals += 1
        if self._refusals > MAX_REFUSALS or not self._authenticator.methods(self._username):
            raise asyncssh.DisconnectError(
                asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
            )
        super().send_userauth_failure(partial_success)


class _Nobody(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True


async def server_options(host_keys: Sequence[object], version: str) -> Any:
    """asyncssh's settings for the leg of clients; the same for all connections of a listener.

    `host_keys`: asyncssh key pairs, or (key, certificate) pairs.
    """
    return await trio_asyncio.aio_as_trio(asyncssh.SSHServerConnectionOptions.construct)(
        server_factory=_Nobody,
        server_host_keys=list(host_keys),
        server_version=VERSION_PREFIX + version,
        kex_algs=known_key_exchanges(),
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        signature_algs=SIGNATURES,
        rekey_bytes=REKEY_BYTES,
        rekey_seconds=REKEY_S,
        compression_algs=("none",),
        login_timeout=0,
        keepalive_interval=0,
        gss_host=None,
        config=None,
    )


def serve_client(
    loop: Loop,
    options: Any,
    stream: trio.SocketStream,
    authenticator: Authenticator,
    on_message: Callable[[bytes], None],
) -> Leg:
    """The leg of a client that has just connected; it speaks once `run` is running."""
    leg = Leg(stream)
    connection = _ServerConnection(loop, options, leg, on_message, authenticator)
    connection.connection_made(leg)
    return leg
