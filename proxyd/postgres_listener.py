"""A PostgreSQL listener while it runs: its TLS, what it asks of clients, and how that becomes a subject.

Made by the PostgreSQL door when the daemon starts; the files behind it are read anew at each reload.
`proxyd.references` makes the same settings to check them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from proxyd import config as configuration
from proxyd.gateway import Gateway
from proxyd.identity.certificate import CertificateRules
from proxyd.listeners import ListenerRuntime, Side
from proxyd.postgres_handshake import Asked
from proxyd.tls_contexts import ServerTls, ServerTlsSettings

ALPN = ("postgresql",)


@dataclass(slots=True, eq=False, kw_only=True)
class PostgresListenerRuntime(ListenerRuntime):
    """`tls` and `certificate_rules` change at a reload: read them once for each connection."""

    tls: ServerTls
    certificate_rules: CertificateRules
    asked: Asked

    @classmethod
    def open(cls, listener: configuration.PostgresListener, gateway: Gateway) -> Self:
        """Raises TlsSettingsError. Reads the TLS files."""
        identity = gateway.config.identity
        return cls(
            name=listener.name,
            protocol=listener.protocol,
            limits=listener.limits,
            identity=identity,
            tls=ServerTls(server_tls_settings(listener)),
            certificate_rules=certificate_rules(identity),
            asked=Asked(listener.factors, listener.token_method, gateway.tokens),
        )

    def sides(self) -> tuple[Side, ...]:
        return (self.tls,)

    def take_identity(self, identity: configuration.Identity) -> None:
        self.certificate_rules = certificate_rules(identity)


def server_tls_settings(listener: configuration.PostgresListener) -> ServerTlsSettings:
    tls = listener.tls
    return ServerTlsSettings(
        certificate=tls.certificate,
        key=tls.key,
        client_ca=tls.client_ca,
        client_certificates=tls.client_certificates,
        crl=tls.crl,
        minimum_version=tls.minimum_version,
        alpn=ALPN,
    )


def certificate_rules(identity: configuration.Identity) -> CertificateRules:
    rules = identity.certificates
    return CertificateRules(tuple(rules.name), tuple(rules.groups.sources), dict(rules.groups.map))
