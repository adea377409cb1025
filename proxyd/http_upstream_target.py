"""How an HTTP target is reached by one login: address, host name, TLS with the certificate of that login.

Made once for each login when the daemon starts; the TLS files behind it are read anew at each reload. Opens nothing:
`engine` is for a connection that somebody else has dialled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from proxyd.addresses import Address
from proxyd.config import HttpTarget, HttpTargetLogin, HttpVersion
from proxyd.target_tls import client_tls_settings
from proxyd.tls_contexts import ClientTls, Expiry
from proxyd.tls_engine import TlsEngine


@dataclass(frozen=True, slots=True)
class HttpUpstreamTarget:
    """`server_name`: whom TLS has to meet. `authority`: for the Host field. `base_path`: put before every path.

    tls: None for a connection in clear. protocols: offered by ALPN, in this order; in clear there is one. upgrade_tls:
    as tls, but with HTTP/1.1 alone, where protocols have both.
    """

    name: str
    login: str
    address: Address
    server_name: str
    scheme: str
    authority: str
    base_path: str
    protocols: tuple[HttpVersion, ...]
    tls: ClientTls | None
    upgrade_tls: ClientTls | None
    connect_timeout_s: float

    @classmethod
    def from_config(cls, target: HttpTarget, login: HttpTargetLogin) -> Self:
        """Raises TlsSettingsError. Reads the TLS files."""
        url = target.url
        tls = upgrade_tls = None
        if target.tls is not None:
            own = login.certificate
            certificate, key = (None, None) if own is None else (own.certificate, own.key)
            tls = ClientTls(client_tls_settings(target.tls, target.protocols, certificate, key))
            if len(target.protocols) > 1:
                upgrade_tls = ClientTls(client_tls_settings(target.tls, ("http/1.1",), certificate, key))
        return cls(
            name=target.name,
            login=login.name,
            address=url.address,
            server_name=url.host,
            scheme=url.scheme,
            authority=url.authority,
            base_path=url.path,
            protocols=target.protocols,
            tls=tls,
            upgrade_tls=upgrade_tls,
            connect_timeout_s=target.connect_timeout,
        )

    @property
    def origin(self) -> str:
        """As the target calls itself in redirects."""
        return f"{self.scheme}://{self.authority}"

    def engine(self, *, is_upgrade: bool = False) -> TlsEngine | None:
        """For a new connection; None when it stays in clear. `is_upgrade`: for HTTP/1.1, if that is one of several."""
        tls = (self.upgrade_tls or self.tls) if is_upgrade else self.tls
        return None if tls is None else tls.engine(self.server_name)

    def version_after(self, alpn: str | None) -> HttpVersion | None:
        """What is spoken once TLS has settled on `alpn` (None: on nothing, or there is no TLS). None: nothing of ours.

        Servers that know no ALPN speak HTTP/1.1 (RFC 9113 section 3.2 wants `h2` to be agreed upon).
        """
        if self.tls is None:
            return self.protocols[0]
        if alpn:
            return next((protocol for protocol in self.protocols if protocol == alpn), None)
        return "http/1.1" if "http/1.1" in self.protocols else None

    def reload(self) -> bool:
        """True when the TLS files have changed. Raises TlsSettingsError and keeps what it has."""
        if self.upgrade_tls is not None:
            self.upgrade_tls.reload()
        return False if self.tls is None else self.tls.reload()

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        return () if self.tls is None else self.tls.expiries
