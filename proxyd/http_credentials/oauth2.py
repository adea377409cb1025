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
from proxyd.tls_files import TlsSettingsError, certificates_in, read_file

# A token is renewed in the last tenth of its time, but not earlier than a minute before its end.
RENEWAL_SHARE: Final = 0.1
EARLIEST_RENEWAL_S: Final = 60.0
# What is in flight towards the target when the token ends would be refused there.
SPARE_S: Final = 2.0
AFTER_FAILURE_S: Final = 2.0
# A target that refuses every token would otherwise have each request fetch a new one.
YOUNGEST_DROPPED_S: Final = 10.0

_TOLD: Final = "The gateway could not get its own token for this target."
_HINT: Final = "Try again in a moment; if it stays so, tell the operators of the gateway."


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


@dataclass(slots=True)
class _State:
    """What belongs to one secret. A reload puts another in its place, in one step.

    `failure`: why nothing came of the last fetch, until `left_alone_until`.
    """

    settings: _Settings
    kept: _Kept | None = None
    failure: str = ""
    left_alone_until: float = 0.0

    def is_fresh(self, now: float) -> bool:
        return self.kept is not None and now < self.kept.renew_at

    def is_usable(self, now: float) -> bool:
        return self.kept is not None and now < self.kept.ends_at

    def is_left_alone(self, now: float) -> bool:
        return bool(self.failure) and now < self.left_alone_until


class OAuth2Injector:
    needs_body_hash = False

    def __init__(self, login: HttpOAuth2, removed: frozenset[str]) -> None:
        self._login = login
        self._removed = removed
        self._state = _State(_read(login))
        self._fetching = trio.Lock()

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        state, now = self._state, trio.current_time()
        if state.kept is None or not state.is_usable(now):
            return None
        # While one renews it, or could not, the others go on with what they have.
        is_good_enough = state.is_fresh(now) or state.is_left_alone(now) or self._fetching.locked()
        return state.kept.injected if is_good_enough else None

    async def prepare(self) -> None:
        async with self._fetching:
            state, now = self._state, trio.current_time()
            if state.is_fresh(now):
                return  # by who was here before
            if not state.is_left_alone(now):
                await self._fetch(state)
            # A reload in the meantime: whoever waits asks again.
            if state.failure and state is self._state and not state.is_usable(trio.current_time()):
                raise CredentialUnavailable(state.failure, _TOLD, _HINT)

    async def _fetch(self, state: _State) -> None:
        settings = state.settings
        try:
            token = await fetch_token(self._login, settings.client_secret, settings.trusted)
        except TokenEndpointError as error:
            state.failure = f"token endpoint {self._login.token_url}: {error}"
            state.left_alone_until = trio.current_time() + AFTER_FAILURE_S
        else:
            state.failure = ""
            state.kept = self._keep(token)

    def invalidate(self) -> None:
        kept = self._state.kept
        if kept is not None and trio.current_time() - kept.fetched_at >= YOUNGEST_DROPPED_S:
            self._state.kept = None

    def reload(self) -> bool:
        """In a worker thread. What was got with the old secret is not used any more."""
        settings = _read(self._login)
        if settings == self._state.settings:
            return False
        self._state = _State(settings)
        return True

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
    certificates_in(login.ca, content)  # with none in it the context would trust the system's authorities
    try:
        trusted = ssl.create_default_context(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        remedy = "name the file of the endpoint's authority, with certificates in PEM form alone"
        raise TlsSettingsError(login.ca, "cannot be used by TLS", remedy) from error
    return _Settings(secret, content, trusted)
