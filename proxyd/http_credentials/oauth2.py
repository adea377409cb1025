"""Tokens that the gateway gets for itself by OAuth 2's client credentials, and gets again before they end.

Theory of operation. One token is kept. `ready` gives it while it has time left; from some way before its end it says
that `prepare` is wanted. There one task fetches and the others wait for it; whoever waits is served by what it brings.
When the endpoint fails, the old token goes on being used until its own end, and the endpoint is left alone for a
moment, so that a crowd of requests is not a crowd of fetches. Made by `proxyd.http_credentials.choosing`.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from protocols.http.messages import RequestHead
from proxyd.config import HttpOAuth2
from proxyd.http_credentials.injecting import CredentialUnavailable, Injected
from proxyd.http_credentials.secrets import read_target_secret
from proxyd.http_credentials.token_endpoint import Token, TokenEndpointError, fetch_token
from proxyd.tls_files import TlsSettingsError, certificates_in, check_authorities, read_file

# A token is renewed in the last tenth of its time, but not earlier than a minute before its end.
RENEWAL_SHARE: Final = 0.1
EARLIEST_RENEWAL_S: Final = 60.0
# What is in flight towards the target when the token ends would be refused there.
SPARE_S: Final = 2.0
AFTER_FAILURE_S: Final = 2.0
# A target that refuses every token would otherwise have each request fetch a new one.
YOUNGEST_DROPPED_S: Final = 10.0

_TOLD: Final = (
    "the gateway could not get its own token for this target; try again in a moment, or ask the operators"
)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What is read from files, of one moment."""

    client_secret: str = field(repr=False)
    authorities: bytes = field(repr=False)
    trusted: ssl.SSLContext | None = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Kept:
    """`renew_at`, `ends_at` and `fetched_at` in trio's time, which no correction of the clock moves."""

    injected: Injected
    fetched_at: float
    renew_at: float
    ends_at: float


class OAuth2Injector:
    needs_body_hash = False

    def __init__(self, login: HttpOAuth2, removed: frozenset[str]) -> None:
        self._login = login
        self._removed = removed
        self._settings = _read(login)
        self._fetching = trio.Lock()
        self._kept: _Kept | None = None
        self._failed: tuple[float, CredentialUnavailable] | None = None

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        kept, now = self._kept, trio.current_time()
        if kept is None or now >= kept.ends_at:
            return None
        return kept.injected if now < kept.renew_at or self._is_left_alone(now) else None

    async def prepare(self) -> None:
        async with self._fetching:
            now = trio.current_time()
            if self._kept is not None and now < self._kept.renew_at:
                return  # by who was here before
            if self._is_left_alone(now):
                self._refuse_or_go_on(now)
                return
            settings = self._settings
            try:
                token = await fetch_token(self._login, settings.client_secret, settings.trusted)
            except TokenEndpointError as error:
                now = trio.current_time()
                failure = CredentialUnavailable(f"token endpoint {self._login.token_url}: {error}", _TOLD)
                self._failed = (now + AFTER_FAILURE_S, failure)
                self._refuse_or_go_on(now)
                return
            self._failed = None
            if settings is self._settings:
                self._kept = self._keep(token)

    def invalidate(self) -> None:
        kept = self._kept
        if kept is not None and trio.current_time() - kept.fetched_at >= YOUNGEST_DROPPED_S:
            self._kept = None

    def reload(self) -> bool:
        """In a worker thread. What was got with the old secret is dropped with it."""
        settings = _read(self._login)
        if settings == self._settings:
            return False
        self._settings = settings
        self._kept = None
        self._failed = None
        return True

    def _is_left_alone(self, now: float) -> bool:
        return self._failed is not None and now < self._failed[0]

    def _refuse_or_go_on(self, now: float) -> None:
        has_token = self._kept is not None and now < self._kept.ends_at
        if self._failed is not None and not has_token:
            # A new one for each who is told: an exception that is raised twice grows its traceback.
            raise CredentialUnavailable(self._failed[1].reason, self._failed[1].told)

    def _keep(self, token: Token) -> _Kept:
        now = trio.current_time()
        early_s = min(token.lifetime_s * RENEWAL_SHARE, EARLIEST_RENEWAL_S)
        ends_at = now + token.lifetime_s - min(SPARE_S, early_s)
        injected = Injected((("authorization", f"Bearer {token.value}"),), self._removed)
        return _Kept(injected, now, min(now + token.lifetime_s - early_s, ends_at), ends_at)


def _read(login: HttpOAuth2) -> _Settings:
    """Raises SettingsError. Blocks on the disk."""
    secret = read_target_secret(login.client_secret)
    if not login.token_url.is_tls:
        return _Settings(secret, b"", None)
    if not isinstance(login.ca, Path):
        return _Settings(secret, b"", ssl.create_default_context())
    content = read_file(login.ca)
    check_authorities(login.ca, certificates_in(login.ca, content))
    try:
        trusted = ssl.create_default_context(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        remedy = "name the file of the endpoint's authority, with certificates in PEM form alone"
        raise TlsSettingsError(login.ca, "cannot be used by TLS", remedy) from error
    return _Settings(secret, content, trusted)
