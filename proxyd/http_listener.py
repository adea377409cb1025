"""An HTTP listener while it runs: its TLS, whom it believes, by which names it is called, its authority for tunnels.

Made by the HTTP door when the daemon starts; the files behind it are read anew at each reload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from proxyd import config as configuration
from proxyd.gates.http.routing import OwnNames
from proxyd.gateway import Gateway
from proxyd.identity.certificate import CertificateRules
from proxyd.inspection import InspectionAuthority
from proxyd.listeners import ListenerRuntime, Side
from proxyd.postgres_listener import certificate_rules
from proxyd.tls_contexts import ServerTls, ServerTlsSettings


@dataclass(slots=True, eq=False, kw_only=True)
class HttpListenerRuntime(ListenerRuntime):
    """`tls` and `certificate_rules` change at a reload: read them once for each connection. `tls` None: in clear."""

    config: configuration.HttpListener
    tls: ServerTls | None
    certificate_rules: CertificateRules
    own: OwnNames
    inspection: InspectionAuthority | None

    @classmethod
    def open(cls, listener: configuration.HttpListener, gateway: Gateway) -> Self:
        """Raises SettingsError. Reads the TLS files."""
        identity = gateway.config.identity
        settings = server_tls_settings(listener)
        return cls(
            name=listener.name,
            protocol=listener.protocol,
            limits=listener.limits,
            identity=identity,
            config=listener,
            tls=None if settings is None else ServerTls(settings),
            certificate_rules=certificate_rules(identity),
            own=OwnNames(listener.domain or "", frozenset(listener.hosts)),
            inspection=None
            if listener.proxy is None
            else InspectionAuthority.from_config(listener.proxy, listener.protocols),
        )

    @property
    def http_limits(self) -> configuration.HttpListenerLimits:
        return self.config.limits

    def sides(self) -> tuple[Side, ...]:
        return tuple(side for side in (self.tls, self.inspection) if side is not None)

    def take_identity(self, identity: configuration.Identity) -> None:
        self.certificate_rules = certificate_rules(identity)


def server_tls_settings(listener: configuration.HttpListener) -> ServerTlsSettings | None:
    tls = listener.tls
    if tls is None:
        return None
    return ServerTlsSettings(
        certificate=tls.certificate,
        key=tls.key,
        client_ca=tls.client_ca,
        client_certificates=tls.client_certificates,
        crl=tls.crl,
        minimum_version=tls.minimum_version,
        alpn=tuple(listener.protocols),
    )
