"""What is trusted and what is shown: TLS settings made into OpenSSL contexts, and made again when files
change.

Owns certificates, keys, CA bundles, revocation lists, protocol versions, ALPN and the choice of a
certificate by SNI. Never touches a connection after it has begun: a new context is for new handshakes.
Called by the listeners (server side) and by `proxyd.upstream` (client side), which get a `TlsEngine` for
each connection.

Sessions are never resumed. A resumed session skips the certificate checks: somebody whose certificate has
expired or been revoked would go on coming in on yesterday's ticket. So there are no stateless tickets
(SSL_OP_NO_TICKET) and no session cache. OpenSSL still sends TLS 1.3 tickets then (the call that sets their
number to zero cannot be reached from here), but they name a session that was never stored: whoever presents
one gets a full handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from OpenSSL import SSL

from proxyd.tls_engine import NoSharedProtocol, TlsEngine, Verdict
from proxyd.tls_files import (
    TlsKey,
    TlsSettingsError,
    certificates_in,
    check_authorities,
    describe_name,
    key_in,
    read_file,
    revocation_lists_in,
)
from proxyd.tls_standing import Standing
from proxyd.tls_verify import ascii_hostname, expect_host, ip_address, trust, verify

ClientCertificates = Literal["required", "optional", "none"]
MinimumVersion = Literal["1.2", "1.3"]
ClientTlsMode = Literal["disable", "require", "verify-ca", "verify-full"]

SYSTEM_AUTHORITIES: Final = "system"
MAX_CHAIN_DEPTH: Final = 8

_VERSIONS: Final = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
# For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 section 4.2). TLS 1.3 has nothing
# else.
_TLS12_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS: Final = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET


@dataclass(frozen=True, slots=True)
class ServerTlsSettings:
    """A listener's side. All files PEM; `certificate` holds the chain, the server's own certificate first.

    With `crl`, each CA of a client's chain needs a fresh list in it, or the client is refused.
    `more_certificates` are further (certificate, key) files, chosen when the client asks by SNI for a DNS
    name in one of them. An empty `alpn` ignores what clients offer; otherwise a client that offers
    something must offer one of these.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    client_certificates: ClientCertificates = "required"
    crl: Path | None = None
    minimum_version: MinimumVersion = "1.2"
    alpn: tuple[str, ...] = ()
    more_certificates: tuple[tuple[Path, Path], ...] = ()


@dataclass(frozen=True, slots=True)
class ClientTlsSettings:
    """The way to a target, in libpq's words: "require" encrypts and verifies nothing, "verify-ca" checks
    the chain, "verify-full" the host name too. `ca` is a PEM file, or "system" (verify-full only: a public
    CA signs for anyone).
    """

    mode: ClientTlsMode = "verify-full"
    ca: Path | Literal["system"] | None = None
    certificate: Path | None = None
    key: Path | None = None
    crl: Path | None = None
    minimum_version: MinimumVersion = "1.2"
    alpn: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Expiry:
    """Something that ends: `what` in `path`, at `at_s` (Unix seconds)."""

    what: str
    path: str
    at_s: float


class _Files:
    """The contents of the configured files, read once for one generation of contexts."""

    def __init__(self, paths: Sequence[Path | None]) -> None:
        self.contents = {path: read_file(path) for path in paths if path is not None}
        self.expiries: list[Expiry] = []

    def certificates(self, path: Path, what: str) -> list[x509.Certificate]:
        found = certificates_in(path, self.contents[path])
        for certificate in found:
            self._note(what, certificate.subject, path, certificate.not_valid_after_utc.timestamp())
        return found

    def revocation_lists(self, path: Path | None) -> list[x509.CertificateRevocationList]:
        if path is None:
            return []
        found = revocation_lists_in(path, self.contents[path])
        for crl in found:
            if crl.next_update_utc is not None:
                self._note("revocation list", crl.issuer, path, crl.next_update_utc.timestamp())
        return found

    def _note(self, what: str, name: x509.Name, path: Path, at_s: float) -> None:
        self.expiries.append(Expiry(f"{what} {describe_name(name)}", str(path), at_s))


class ServerTls:
    """The server side of one listener. Raises TlsSettingsError when the settings or files cannot work."""

    def __init__(self, settings: ServerTlsSettings) -> None:
        _check_server_settings(settings)
        self.settings = settings
        self._files = self._read()
        self._default, self._by_name = self._build(self._files)
        self._standing = self._believed(self._files)

    def reload(self) -> bool:
        """Read all files again; True when something changed and new handshakes now use it.

        On TlsSettingsError nothing has changed: the old files stay in use, and an old revocation list ends
        at its own date. Blocks on the disk, so call it from a worker thread; the swap itself is one step.
        """
        files = self._read()
        if files.contents == self._files.contents:
            return False
        built, standing = self._build(files), self._believed(files)
        self._files = files
        self._default, self._by_name = built
        self._standing = standing
        return True

    def problem_with(self, chain: Sequence[x509.Certificate]) -> str:
        """Why a client that has shown this chain would not be believed now; "" when it would."""
        if self._standing is None:
            return "no client certificates are asked for"
        return self._standing.problem_with(chain)

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """When each certificate and revocation list in use ends, for `proxyd check` and metrics."""
        return tuple(self._files.expiries)

    def engine(self) -> TlsEngine:
        """A connection that waits for a client's handshake, under the files as they are now."""
        return accepting_engine(self._default)

    def _read(self) -> _Files:
        s = self.settings
        more = [path for pair in s.more_certificates for path in pair]
        return _Files([s.certificate, s.key, s.client_ca, s.crl, *more])

    def _build(self, files: _Files) -> tuple[SSL.Context, dict[str, SSL.Context]]:
        by_name: dict[str, SSL.Context] = {}
        default = self._context(files, self.settings.certificate, self.settings.key, by_name)
        for certificate, key in self.settings.more_certificates:
            context = self._context(files, certificate, key, by_name)
            for name in _dns_names(certificates_in(certificate, files.contents[certificate])[0]):
                by_name.setdefault(name, context)
        return default, by_name

    def _believed(self, files: _Files) -> Standing | None:
        ca = self.settings.client_ca
        if ca is None or self.settings.client_certificates == "none":
            return None
        crl = self.settings.crl
        lists = [] if crl is None else revocation_lists_in(crl, files.contents[crl])
        return Standing(certificates_in(ca, files.contents[ca]), lists)

    def _context(
        self, files: _Files, certificate: Path, key: Path, by_name: dict[str, SSL.Context]
    ) -> SSL.Context:
        s = self.settings
        context = _new_context(SSL.TLS_SERVER_METHOD, s.minimum_version)
        context.set_cipher_list(_TLS12_CIPHERS)
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
        _show_certificate(context, files, certificate, key, "server certificate")
        if s.client_ca is not None and s.client_certificates != "none":
            authorities = files.certificates(s.client_ca, "client CA")
            check_authorities(s.client_ca, authorities)
            trust(context, authorities, files.revocation_lists(s.crl))
            for authority in authorities:
                context.add_client_ca(authority)
            required = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if s.client_certificates == "required" else 0
            context.set_verify(SSL.VERIFY_PEER | required, verify)
        if s.alpn:
            context.set_alpn_select_callback(_protocol_chooser(s.alpn))
        context.set_tlsext_servername_callback(_certificate_chooser(by_name))
        return context


def minted_context(
    chain: Sequence[x509.Certificate],
    key: TlsKey,
    alpn: tuple[str, ...],
    minimum_version: MinimumVersion = "1.2",
) -> SSL.Context:
    """For a server whose certificate, first in `chain`, was made by ourselves. Clients are asked for none."""
    context = _new_context(SSL.TLS_SERVER_METHOD, minimum_version)
    context.set_cipher_list(_TLS12_CIPHERS)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.use_certificate(chain[0])
    for issuer in chain[1:]:
        context.add_extra_chain_cert(issuer)
    context.use_privatekey(key)
    context.check_privatekey()
    if alpn:
        context.set_alpn_select_callback(_protocol_chooser(alpn))
    return context


def accepting_engine(context: SSL.Context) -> TlsEngine:
    """A connection that waits for a client's handshake under `context`."""
    connection, verdict = _connection(context)
    connection.set_accept_state()
    return TlsEngine(connection, verdict, is_server=True)


def _check_server_settings(s: ServerTlsSettings) -> None:
    if s.client_certificates not in ("required", "optional", "none"):
        raise TlsSettingsError(
            "", f"client_certificates: {s.client_certificates!r} is unknown", "say required, optional or none"
        )
    if s.client_certificates != "none" and s.client_ca is None:
        raise TlsSettingsError(
            "", f"client certificates are {s.client_certificates}, but no CA is named", "set client_ca"
        )
    if s.crl is not None and (s.client_ca is None or s.client_certificates == "none"):
        raise TlsSettingsError(
            s.crl, "is never used, since no client certificates are asked for", "remove crl, or set client_ca"
        )


class ClientTls:
    """The client side towards one target. Raises TlsSettingsError when the settings or files cannot work."""

    def __init__(self, settings: ClientTlsSettings) -> None:
        _check_client_settings(settings)
        self.settings = settings
        self._files = self._read()
        self._context = self._build(self._files)

    def reload(self) -> bool:
        """As `ServerTls.reload`."""
        files = self._read()
        if files.contents == self._files.contents:
            return False
        self._context = self._build(files)
        self._files = files
        return True

    @property
    def is_enabled(self) -> bool:
        return self.settings.mode != "disable"

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        return tuple(self._files.expiries)

    def engine(self, server_hostname: str) -> TlsEngine:
        """A connection that is about to greet `server_hostname`: a DNS name or an IP address.

        Under verify-full the server's certificate must be for exactly that (subject alternative names; the
        common name counts only when there are none, as in libpq). A DNS name is also sent as SNI.
        """
        if not self.is_enabled:
            raise TlsSettingsError("", "TLS to this target is disabled", "set tls.mode")
        connection, verdict = _connection(self._context)
        address = ip_address(server_hostname)
        if address is None:
            connection.set_tlsext_host_name(ascii_hostname(server_hostname))
        if self.settings.mode == "verify-full":
            expect_host(connection, server_hostname, address)
        connection.set_connect_state()
        return TlsEngine(connection, verdict, is_server=False)

    def _read(self) -> _Files:
        s = self.settings
        return _Files([s.ca if isinstance(s.ca, Path) else None, s.certificate, s.key, s.crl])

    def _build(self, files: _Files) -> SSL.Context:
        s = self.settings
        context = _new_context(SSL.TLS_CLIENT_METHOD, s.minimum_version)
        if s.certificate is not None and s.key is not None:
            _show_certificate(context, files, s.certificate, s.key, "client certificate")
        if s.mode in ("verify-ca", "verify-full"):
            if isinstance(s.ca, Path):
                trust(context, files.certificates(s.ca, "target CA"), files.revocation_lists(s.crl))
            else:
                context.set_default_verify_paths()
            context.set_verify(SSL.VERIFY_PEER, verify)
        if s.alpn:
            context.set_alpn_protos([protocol.encode("ascii") for protocol in s.alpn])
        return context


def _check_client_settings(s: ClientTlsSettings) -> None:
    verifies = s.mode in ("verify-ca", "verify-full")
    if not verifies and s.mode not in ("disable", "require"):
        raise TlsSettingsError(
            "", f"TLS mode {s.mode!r} is unknown", "say disable, require, verify-ca or verify-full"
        )
    if (s.certificate is None) != (s.key is None):
        raise TlsSettingsError("", "a client certificate needs its key and the reverse", "set both or none")
    if verifies and s.ca is None:
        raise TlsSettingsError("", f"mode {s.mode} needs to know whom to trust", "set ca")
    if not verifies and (s.ca is not None or s.crl is not None):
        raise TlsSettingsError(
            "", f"mode {s.mode} verifies nothing, so ca and crl are not used", "use verify-full"
        )
    if s.ca == SYSTEM_AUTHORITIES and s.mode != "verify-full":
        raise TlsSettingsError("", "with the system's CAs anyone can get a certificate", "use verify-full")
    if s.ca == SYSTEM_AUTHORITIES and s.crl is not None:
        raise TlsSettingsError("", "crl does not go with the system's CAs", "name a ca file, or remove crl")


def _new_context(method: int, minimum_version: str) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(_VERSIONS[minimum_version])
    context.set_options(_OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_verify_depth(MAX_CHAIN_DEPTH)
    # An idle connection gives its record buffers back: a third less memory, and no time that could be measured.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def _connection(context: SSL.Context) -> tuple[SSL.Connection, Verdict]:
    connection = SSL.Connection(context)
    # OpenSSL calls back into functions that the context owns, also after SNI chose another context: keep it
    # alive.
    verdict = Verdict(context=context)
    connection.set_app_data(verdict)
    return connection, verdict


def _show_certificate(context: SSL.Context, files: _Files, certificate: Path, key: Path, what: str) -> None:
    chain = files.certificates(certificate, what)
    try:
        context.use_certificate(chain[0])
        for intermediate in chain[1:]:
            context.add_extra_chain_cert(intermediate)
        context.use_privatekey(key_in(key, files.contents[key]))
        context.check_privatekey()
    except SSL.Error as exc:
        raise TlsSettingsError(
            certificate,
            f"does not go with the key {key}",
            "put the certificate of that key first in the file",
        ) from exc


def _protocol_chooser(ours: tuple[str, ...]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    preferred = tuple(protocol.encode("ascii") for protocol in ours)

    def choose(connection: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in preferred:
            if protocol in theirs:
                return protocol
        # RFC 7301 section 3.2; going on without one invites confusion of protocols across ports.
        raise NoSharedProtocol("no application protocol (ALPN) in common")

    return choose


def _certificate_chooser(by_name: dict[str, SSL.Context]) -> Callable[[SSL.Connection], None]:
    def choose(connection: SSL.Connection) -> None:
        name = connection.get_servername()
        if name is not None and (context := by_name.get(name.decode("ascii", "replace").lower())):
            connection.set_context(context)

    return choose


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]
