"""Whose token it is: the one place where tokens become subjects, for every door.

Owns which issuer is asked about a token, which tokens were verified before, and the tasks that keep issuers' keys.
Must never: believe anything of a token before its signature holds, or put a token anywhere but through a hash. One
for each gateway, made by `proxyd.gateway`, run by `proxyd.daemon`.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from policy.facts import Subject
from policy.shown_text import shown
from proxyd.config import Issuer
from proxyd.identity.oidc.claims import METHOD, subject_from_claims
from proxyd.identity.oidc.documents import tls_context
from proxyd.identity.oidc.issuer_keys import IssuerKeys, IssuerSettings
from proxyd.identity.oidc.jwks import KeySet
from proxyd.identity.oidc.refusal import ASK_OPERATORS, TokenRefused, refused
from proxyd.identity.oidc.token import UnverifiedToken, read_token, verified_claims
from proxyd.metrics import Metrics
from proxyd.telemetry import Log

MAX_KNOWN: Final = 4096

Prepared = tuple[IssuerKeys, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """A token that has been verified: by which keys, and what came of it."""

    source: IssuerKeys
    keys: KeySet
    subject: Subject
    expires_at: float


class Tokens:
    """See the module. Raises SettingsError when an issuer's file of authorities is no good."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        log: Log,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: Unix seconds, for the times in tokens. `monotonic`: for the age of keys."""
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic
        self._nursery: trio.Nursery | None = None
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._sources: dict[str, IssuerKeys] = {}
        self.take(self.prepare(issuers))

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        return tuple(source.issuer for source in self._sources.values())

    # --- tokens -------------------------------------------------------------------------------------------

    def known(self, token: str) -> Subject | None:
        """The subject of a token that was verified before, by keys that still count, and has not ended."""
        return self._remembered(_digest(token))

    def issuer_of(self, subject: Subject) -> Issuer | None:
        """Who vouches for somebody who has come with a token; None for nobody, or for nobody any more."""
        name = subject.claims.get("issuer") if subject.method == METHOD else None
        source = self._sources.get(name) if isinstance(name, str) else None
        return None if source is None else source.issuer

    def is_of_issuer(self, token: str) -> bool:
        """Does it say that one of our issuers has made it? Whether it still counts does not matter: it is a secret."""
        try:
            return read_token(token).issuer in self._sources
        except TokenRefused:
            return False

    def _remembered(self, digest: bytes) -> Subject | None:
        found = self._known.get(digest)
        if found is None:
            return None
        if found.expires_at <= self._clock() or found.source.keys is not found.keys:
            del self._known[digest]
            return None
        self._known.move_to_end(digest)
        return found.subject

    def check(self, token: str) -> Subject:
        """The subject of `token`, by the keys that are here now; others are asked for. Raises TokenRefused.

        For callers that cannot wait: where keys are missing, the refusal says `may_pass`.
        """
        digest = _digest(token)
        subject = self._remembered(digest)
        if subject is not None:
            return subject
        unverified, source = self._read(token)
        subject = self._verify(digest, unverified, source)
        if subject is None:
            source.ask()
            raise self._counted(source, _no_key(source))
        return subject

    async def subject_of(self, token: str) -> Subject:
        """As `check`, but where keys are missing it waits for the issuer, within its `timeout`. Raises TokenRefused."""
        digest = _digest(token)
        subject = self._remembered(digest)
        if subject is not None:
            return subject
        unverified, source = self._read(token)
        subject = self._verify(digest, unverified, source)
        if subject is None:
            await source.newer()
            unverified, source = self._read(token)  # a reload may have brought other issuers meanwhile
            subject = self._verify(digest, unverified, source)
        if subject is None:
            raise self._counted(source, _no_key(source))
        return subject

    def _read(self, token: str) -> tuple[UnverifiedToken, IssuerKeys]:
        try:
            unverified = read_token(token)
            source = self._sources.get(unverified.issuer)
            if source is None:
                raise refused(
                    "is of an issuer that is not known here (`iss`)", f"get one from {self._asked()}"
                )
            if unverified.algorithm not in source.issuer.algorithms:
                raise refused(
                    "is signed in a way that is not accepted here (`alg`)",
                    f"have it signed by {', '.join(source.issuer.algorithms)}",
                )
        except TokenRefused:
            self._metrics.tokens_refused += 1
            raise
        return unverified, source

    def _asked(self) -> str:
        return " or ".join(issuer.issuer for issuer in self.issuers[:4]) or "nobody: no issuer is configured"

    def _verify(self, digest: bytes, token: UnverifiedToken, source: IssuerKeys) -> Subject | None:
        """None: the key that the token names is not here. Raises TokenRefused."""
        keys = source.keys
        candidates = () if keys is None else keys.candidates(token.key_id, token.algorithm)
        if keys is None or not candidates:
            return None
        whose: object = None
        try:
            claims = verified_claims(token, candidates)
            whose = claims.get("sub")
            if claims.get("iss") != source.issuer.issuer:
                raise refused("does not say who issued it (`iss`)")
            subject = subject_from_claims(
                claims, source.issuer, self._clock(), is_access_token=token.is_access_token
            )
            self._check_owner(subject.name, source.issuer)
        except TokenRefused as refusal:
            raise self._counted(source, refusal, whose) from None
        source.numbers.accepted += 1
        self._remember(digest, _Known(source, keys, subject, subject.expires_at or 0.0))
        return subject

    def _check_owner(self, name: str, issuer: Issuer) -> None:
        """Names that begin with the `name_prefix` of one issuer are not another's to give."""
        others = [source.issuer for source in self._sources.values() if source.issuer is not issuer]
        if any(
            len(other.name_prefix) > len(issuer.name_prefix) and name.startswith(other.name_prefix)
            for other in others
        ):
            raise refused("has a name that begins as another issuer's names do", ASK_OPERATORS)

    def _counted(self, source: IssuerKeys, refusal: TokenRefused, whose: object = None) -> TokenRefused:
        """The log says which issuer it is about, and of a token that this issuer has signed whose it is (`sub`)."""
        source.numbers.refused += 1
        named = f"issuer {source.issuer.name}"
        if isinstance(whose, str):
            named += f", sub {shown(whose)}"
        reason = refusal.reason if named in refusal.reason else f"{refusal.reason} ({named})"
        return TokenRefused(reason, refusal.text, may_pass=refusal.may_pass)

    def _remember(self, digest: bytes, known: _Known) -> None:
        self._known[digest] = known
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    # --- issuers ------------------------------------------------------------------------------------------

    def prepare(self, issuers: Sequence[Issuer]) -> Prepared:
        """What `take` needs. Blocks on the disk, so call it from a worker thread. Raises SettingsError."""
        return tuple(self._source(issuer) for issuer in issuers)

    def _source(self, issuer: Issuer) -> IssuerKeys:
        context, authorities = tls_context(issuer)
        return IssuerKeys(
            IssuerSettings(issuer, authorities),
            context,
            numbers=self._metrics.issuer(issuer.name),
            log=self._log,
            clock=self._clock,
            monotonic=self._monotonic,
        )

    def take(self, prepared: Prepared) -> None:
        """From now on believe these issuers. Those that are as before go on with what they have."""
        before = self._sources
        self._sources = {source.issuer.issuer: self._kept(source, before) for source in prepared}
        kept = set(map(id, self._sources.values()))
        for source in before.values():
            if id(source) not in kept:
                source.scope.cancel()
        if self._nursery is not None:
            running = set(map(id, before.values()))
            for source in self._sources.values():
                if id(source) not in running:
                    self._nursery.start_soon(source.run, name=f"keys of {source.issuer.name}")
        self._known.clear()
        self._metrics.keep_issuers(issuer.name for issuer in self.issuers)

    def _kept(self, source: IssuerKeys, before: dict[str, IssuerKeys]) -> IssuerKeys:
        old = before.get(source.issuer.issuer)
        if old is None:
            return source
        if old.settings == source.settings:
            old.renew(source)
            return old
        source.take_over(old)
        return source

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the issuers' keys fresh until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for source in self._sources.values():
                    nursery.start_soon(source.run, name=f"keys of {source.issuer.name}")
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _no_key(source: IssuerKeys) -> TokenRefused:
    name = source.issuer.name
    if source.keys is None:
        return TokenRefused(
            f"the keys of issuer {name} are not known",
            "the token cannot be verified, since its issuer does not give its keys: try again in a moment",
            may_pass=True,
        )
    return TokenRefused(
        f"the token names a key that issuer {name} does not publish",
        "the token is signed by a key that its issuer does not publish: try again in a moment, or get a new one",
        may_pass=True,
    )
