"""An SSH listener while it runs: who may log in, and the host keys that it shows.

Made by the SSH door when the daemon starts; the files behind it are read anew at each reload.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

from proxyd import config as configuration
from proxyd.gateway import Gateway
from proxyd.identity.ssh import SshAuthenticator
from proxyd.listeners import ListenerRuntime, Side
from proxyd.ssh_server_keys import ListenerKeys, ServerKeys
from proxyd.ssh_transport import server_options


@dataclass(slots=True, eq=False, kw_only=True)
class SshListenerRuntime(ListenerRuntime):
    """`authenticator` and `keys` change at a reload: read them once for each connection."""

    config: configuration.SshListener
    authenticator: SshAuthenticator
    keys: ListenerKeys
    gateway: Gateway
    _options: tuple[ServerKeys, Any] | None = None

    @classmethod
    def open(cls, listener: configuration.SshListener, gateway: Gateway) -> Self:
        """Raises SshSettingsError. Reads the files of keys."""
        identity = gateway.config.identity
        return cls(
            name=listener.name,
            protocol=listener.protocol,
            limits=listener.limits,
            identity=identity,
            config=listener,
            authenticator=SshAuthenticator.from_config(
                listener, identity, gateway.clock, gateway.totp, gateway.tokens
            ),
            keys=ListenerKeys(listener),
            gateway=gateway,
        )

    def sides(self) -> tuple[Side, ...]:
        return (self.authenticator, self.keys)

    def take_identity(self, identity: configuration.Identity) -> None:
        self.authenticator = SshAuthenticator.from_config(
            self.config, identity, self.gateway.clock, self.gateway.totp, self.gateway.tokens
        )

    async def options(self) -> Any:
        """asyncssh's settings for the host keys in use now; made anew only when those have changed."""
        keys = self.keys.current
        if self._options is None or self._options[0] is not keys:
            self._options = (keys, await server_options(keys.pairs, version("proxyd")))
        return self._options[1]
