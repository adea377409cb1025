"""What listeners of every protocol have: a name, a socket, limits; and the TLS of those that use it.

Used by the modules of this package that describe one protocol's listeners.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from policy.located_yaml import Duration, Name, Section, refusal
from proxyd.config.fields import FilePath, SocketAddress


class ListenerLimits(Section):
    connections: int = Field(default=1000, ge=1, le=1_000_000)
    connections_per_subject: int = Field(default=100, ge=1, le=1_000_000)
    handshake_timeout: Duration = 10.0


class ListenerBase(Section):
    """One door. `address` opens a socket; `socket` takes one from systemd by its FileDescriptorName."""

    name: Name = Field(examples=["postgres"])
    address: SocketAddress | None = None
    socket: Name | None = None
    limits: ListenerLimits = ListenerLimits()

    @model_validator(mode="after")
    def _one_socket(self) -> Self:
        if (self.address is None) == (self.socket is None):
            raise refusal(
                "a listener needs one socket",
                "give either `address` (HOST:PORT or unix:/PATH) or `socket` (systemd's FileDescriptorName)",
            )
        return self


class ListenerTls(Section):
    certificate: FilePath = Field(examples=["pki/server.crt"])
    key: FilePath = Field(examples=["pki/server.key"])
    client_ca: FilePath | None = None
    client_certificates: Literal["required", "optional", "none"] = "required"
    crl: FilePath | None = None
    minimum_version: Literal["1.2", "1.3"] = "1.2"

    @model_validator(mode="after")
    def _clients_have_an_issuer(self) -> Self:
        if self.client_certificates != "none" and self.client_ca is None:
            raise refusal(
                f"client certificates are {self.client_certificates}, but nobody is trusted to issue them",
                "add `client_ca`, the file of the authority that issues them",
            )
        return self
