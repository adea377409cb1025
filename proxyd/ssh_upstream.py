"""Connects to an SSH target: dial, verify its host key, show the gateway's credential. Called by `ssh_session`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from proxyd.config import SshTarget, SshTargetLogin
from proxyd.credentials import CredentialError
from proxyd.dialling import dial, os_reason
from proxyd.ssh_credentials import SshAuthority, SshCredential, login_credential
from proxyd.ssh_host_keys import HostKeyCheck, HostKeyPolicy, HostKeyRefused
from proxyd.ssh_public_keys import SshSettingsError
from proxyd.ssh_transport import Leg, connect_target


class TargetUnavailable(Exception):
    """The target cannot be had. `text` is for the client, `reason` for the log."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(reason)
        self.text = text
        self.reason = reason


async def open_target(
    nursery: trio.Nursery,
    target: SshTarget,
    login: SshTargetLogin,
    authority: SshAuthority | None,
    *,
    subject: str,
    session: str,
    clock: Callable[[], float],
    version: str,
    on_message: Callable[[bytes], None],
    run: Callable[[Leg], Awaitable[None]],
) -> Leg:
    """A leg to the target, authenticated. Its task is started in `nursery` by `run`. Raises TargetUnavailable."""
    name = target.name
    try:
        # Keys and known hosts are read at each connection, and a slow disk must not hold up other sessions.
        credential, policy = await trio.to_thread.run_sync(
            lambda: (
                login_credential(login, authority, subject, session, clock()),
                HostKeyPolicy.from_config(target),
            )
        )
        host_key = policy.begin(clock)
    except HostKeyRefused as refused:
        raise _not_trusted(name, refused) from refused
    except (CredentialError, SshSettingsError) as fault:
        raise TargetUnavailable(
            f"proxyd: the gateway's credential for {name} cannot be used. Tell the operators of the gateway.",
            str(fault),
        ) from fault
    with trio.move_on_after(target.connect_timeout) as scope:
        try:
            stream = await dial(target.address)
        except OSError as fault:
            raise unreachable(name, os_reason(fault)) from fault
        leg = await _begin_leg(stream, target, credential, host_key, version, on_message)
        nursery.start_soon(run, leg)
        try:
            await leg.ready.wait()
        except trio.Cancelled:
            leg.close()
            raise
    if scope.cancelled_caught:
        raise unreachable(name, f"no answer within {target.connect_timeout:g} s")
    if host_key.refusal is not None:
        raise _not_trusted(name, host_key.refusal)
    if leg.lost is not None:
        reason = leg.lost.reason
        if not host_key.is_settled:
            reason += f" before it showed a host key; expected was one for {', '.join(host_key.algorithms)}"
        raise _refused(name, login.name, reason)
    return leg


async def _begin_leg(
    stream: trio.SocketStream,
    target: SshTarget,
    credential: SshCredential,
    host_key: HostKeyCheck,
    version: str,
    on_message: Callable[[bytes], None],
) -> Leg:
    try:
        return await connect_target(
            stream,
            on_message,
            host=target.address.host or target.name,
            port=target.address.port,
            username=credential.username,
            client_keys=credential.client_keys,
            password=None if credential.password is None else credential.password.reveal(),
            host_key=host_key,
            version=version,
        )
    except BaseException:
        stream.socket.close()
        raise


def unreachable(name: str, reason: str) -> TargetUnavailable:
    return TargetUnavailable(
        f"proxyd: {name} cannot be reached. Try again; if it stays so, tell the operators of the gateway.",
        reason,
    )


def _not_trusted(name: str, refused: HostKeyRefused) -> TargetUnavailable:
    return TargetUnavailable(
        f"proxyd: {name} shows a host key that the gateway does not know, so it is not trusted. "
        "Tell the operators of the gateway: the host was installed anew, or it is another.",
        str(refused),
    )


def _refused(name: str, login: str, reason: str) -> TargetUnavailable:
    if reason.startswith(("Permission denied", "disconnected: ")):
        return TargetUnavailable(
            f"proxyd: {name} does not let the gateway in as {login}. Tell the operators of the gateway.",
            reason,
        )
    return unreachable(name, reason)
