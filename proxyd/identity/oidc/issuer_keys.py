"""The keys of one issuer, kept fresh in the background.

Owns when the issuer is asked, how long old keys are believed, and what the log and the metrics say about it. Must
never: let the tokens that clients send cause more than one question at a time or more than one in `MIN_INTERVAL_S`, or
believe keys older than the configured `stale`. Made and run by `verifier`.

Theory of operation. One task asks: at the start, every `refresh`, sooner after a failure, and when somebody waits
because a token names a key that is not known. Whoever waits shares the answer to the next question. Whether keys are
usable is decided when they are used, so an issuer that has died does no harm until its keys are stale, and then all.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from proxyd.config import Issuer
from proxyd.identity.oidc.documents import FetchError, fetch_keys
from proxyd.identity.oidc.jwks import KeySet
from proxyd.metrics import IssuerNumbers
from proxyd.telemetry import Log

MIN_INTERVAL_S: Final = 5.0
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """An issuer as configured, with what its file of authorities holds. Equal when nothing has changed."""

    issuer: Issuer
    authorities: bytes


class IssuerKeys:
    """See the module. `keys`: those in use; another object once they have changed; None while there are none."""

    def __init__(
        self,
        settings: IssuerSettings,
        context: ssl.SSLContext,
        *,
        numbers: IssuerNumbers,
        log: Log,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.numbers = numbers
        self._context = context
        self._log = log.bind(issuer=settings.issuer.name)
        self._clock = clock
        self._monotonic = monotonic
        self._keys: KeySet | None = None
        self._fetched_at = 0.0  # monotonic, as the two below
        self._asked_at = float("-inf")
        self._failures = 0
        self._is_asking = False
        self._wake = trio.Event()
        self._done = trio.Event()
        self.scope = trio.CancelScope()

    @property
    def issuer(self) -> Issuer:
        return self.settings.issuer

    @property
    def keys(self) -> KeySet | None:
        if self._keys is not None and self._monotonic() - self._fetched_at > self.issuer.stale:
            return None
        return self._keys

    def take_over(self, other: IssuerKeys) -> None:
        """Begin with the keys that `other` has: the same issuer, differently configured."""
        self._keys, self._fetched_at = other._keys, other._fetched_at

    def renew(self, other: IssuerKeys) -> None:
        """Go on as before, with the authorities as `other` has read them just now (the machine's may have changed)."""
        self._context = other._context

    def ask(self) -> bool:
        """Have the issuer asked soon, because its keys do not suffice; False when that was just done."""
        if self._is_asking:
            return True
        if self._monotonic() - self._asked_at < MIN_INTERVAL_S:
            return False
        self._wake.set()
        return True

    async def newer(self) -> None:
        """Wait until the issuer has been asked, for at most its `timeout`. Returns at once where `ask` is False."""
        if self.ask():
            with trio.move_on_after(self.issuer.timeout):
                await self._done.wait()

    async def run(self) -> None:
        """Until `scope` is cancelled. A fault of ours in here costs one question, not the refreshing."""
        with self.scope:
            while True:
                self._asked_at, self._is_asking = self._monotonic(), True
                try:
                    await self._refresh()
                finally:
                    self._is_asking = False
                    done, self._done = self._done, trio.Event()
                    done.set()
                self._wake = trio.Event()
                with trio.move_on_after(self._pause_s()):
                    await self._wake.wait()

    def _pause_s(self) -> float:
        if not self._failures:
            return self.issuer.refresh
        wait_s = FIRST_RETRY_S * float(2 ** min(self._failures - 1, 10))
        return min(LAST_RETRY_S, self.issuer.refresh, wait_s)

    async def _refresh(self) -> None:
        try:
            self._succeeded(await fetch_keys(self.issuer, self._context))
        except FetchError as error:
            self._failed(str(error))
        except Exception:
            self._log.exception("reading an issuer's keys crashed")
            self._failed("an error of ours, see the log")

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self.numbers.failures += 1
        self.numbers.is_up = False
        say = self._log.warning if self._failures == 1 else self._log.info
        say(
            "issuer does not give its keys",
            reason=reason,
            attempt=self._failures,
            has_keys=bool(self.keys and self.keys.keys),
        )

    def _succeeded(self, found: KeySet) -> None:
        if found.lack:
            # Withdrawn, and by the issuer itself: old keys are for issuers that do not answer.
            self._keys, self._fetched_at = found, self._monotonic()
            self.numbers.keys = 0
            self._failed(found.lack)
            return
        is_new = self._keys is None or not _are_same(self._keys, found)
        if is_new:
            self._keys = found
            self._log.info("issuer's keys loaded", keys=len(found.keys), ignored=list(found.ignored[:10]))
        elif self._failures:
            self._log.info("issuer answers again", after_failures=self._failures)
        self._fetched_at = self._monotonic()
        self._failures = 0
        numbers = self.numbers
        numbers.successes += 1
        numbers.is_up, numbers.keys, numbers.last_success = True, len(found.keys), self._clock()


def _are_same(one: KeySet, other: KeySet) -> bool:
    return [(key.id, key.algorithms, key.key) for key in one.keys] == [
        (key.id, key.algorithms, key.key) for key in other.keys
    ]
