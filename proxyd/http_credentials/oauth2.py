"""Tokens that the gateway gets for itself by OAuth 2's client credentials, and gets again before they end.

Theory of operation. One token is kept. The first request of all fetches it (`prepare`), and from then on one task in
the background (`keep_fresh`) fetches the next one some time before the end, at a moment that differs from token to
token, so that no request waits and many gateways do not ask at once. It goes on for as long as the token is used: one
that nobody needs is left to end. While the endpoint fails the old token is used to its own end, and the pauses between
questions grow.

Where that task does not run, or the token has ended, requests fetch: one of them asks, and whoever waits is served by
what it brings. An endpoint that has failed is left alone for a moment, so that a crowd of requests is not a crowd of
fetches. Made by `proxyd.http_credentials.choosing`.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from protocols.http.messages import RequestHead
from proxyd.config import HttpOAuth2
from proxyd.http_credentials.injecting import CredentialUnavailable, Injected
from proxyd.http_credentials.secrets import read_target_secret
from proxyd.http_credentials.token_endpoint import Token, TokenEndpointError, fetch_token
from proxyd.metrics import TokenNumbers
from proxyd.telemetry import Log
from proxyd.tls_files import TlsSettingsError, certificates_in, read_file

# A token is renewed in the last tenth of its time, but not earlier than a minute before its end.
RENEWAL_SHARE: Final = 0.1
EARLIEST_RENEWAL_S: Final = 60.0
# What is in flight towards the target when the token ends would be refused there.
SPARE_S: Final = 2.0
AFTER_FAILURE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 30.0
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
    """All in trio's time, which no correction of the clock moves. In the background a token is renewed at some moment
    from `earliest_renewal` to `renew_at`, by requests from `renew_at` on."""

    injected: Injected
    fetched_at: float
    earliest_renewal: float
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
    """`chance` gives numbers from 0 up to 1. `clock`: Unix seconds, for `numbers` alone."""

    needs_body_hash = False

    def __init__(
        self,
        login: HttpOAuth2,
        removed: frozenset[str],
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.numbers = TokenNumbers()
        self._login = login
        self._removed = removed
        self._clock = clock
        self._chance = chance
        self._state = _State(_read(login))
        self._fetching = trio.Lock()
        self._is_kept_fresh = False
        self._was_used = False  # the token that is kept now
        self._news = trio.Event()  # another token is there, or this one is used for the first time

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        state, now = self._state, trio.current_time()
        if state.kept is None or not state.is_usable(now):
            return None
        # While one renews it, or could not, the others go on with what they have.
        is_good_enough = (
            self._is_kept_fresh or state.is_fresh(now) or state.is_left_alone(now) or self._fetching.locked()
        )
        if not is_good_enough:
            return None
        if not self._was_used:
            self._was_used = True
            self._tell()
        return state.kept.injected

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

    async def keep_fresh(self, log: Log) -> None:
        self._is_kept_fresh = True
        failures = 0
        try:
            while True:
                await self._due()
                failure = await self._renew(log)
                if failure:
                    failures += 1
                    say = log.warning if failures == 1 else log.info
                    say("the token for a target is not renewed", reason=failure, attempt=failures)
                    pause_s = min(LONGEST_PAUSE_S, AFTER_FAILURE_S * float(2 ** min(failures - 1, 10)))
                    await trio.sleep(pause_s * (0.5 + self._chance() / 2))
                elif failures:
                    log.info("the token for a target is renewed again", after_failures=failures)
                    failures = 0
        finally:
            self._is_kept_fresh = False

    async def _due(self) -> None:
        """Wait until the token that is kept, and used, should be renewed."""
        chance = self._chance()
        while True:
            kept, news, now = self._state.kept, self._news, trio.current_time()
            if kept is None or now >= kept.ends_at or not self._was_used:
                await news.wait()
                continue
            due_at = kept.renew_at - chance * (kept.renew_at - kept.earliest_renewal)
            if now >= due_at:
                return
            with trio.move_on_at(due_at):
                await news.wait()

    async def _renew(self, log: Log) -> str:
        """Why there is no new token; "" when there is one."""
        async with self._fetching:
            state, now = self._state, trio.current_time()
            if state.kept is None or now < state.kept.earliest_renewal:
                return ""  # dropped, or fetched by a request meanwhile
            try:
                await self._fetch(state)
            except Exception:
                log.exception("renewing a token crashed")
                return "an error of ours, see the log"
            return state.failure

    async def _fetch(self, state: _State) -> None:
        """A failure leaves the token that is kept as it is."""
        settings = state.settings
        try:
            token = await fetch_token(self._login, settings.client_secret, settings.trusted)
        except TokenEndpointError as error:
            state.failure = f"token endpoint {self._login.token_url}: {error}"
            state.left_alone_until = trio.current_time() + AFTER_FAILURE_S
            self.numbers.failures += 1
            return
        state.failure = ""
        state.kept = self._keep(token)
        self.numbers.successes += 1
        self.numbers.ends_at = self._clock() + token.lifetime_s
        self._was_used = False
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

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
        renew_at = min(now + token.lifetime_s - early_s, ends_at)
        injected = Injected((("authorization", f"Bearer {token.value}"),), self._removed)
        return _Kept(injected, now, renew_at - early_s, renew_at, ends_at)


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
