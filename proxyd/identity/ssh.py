"""Who is at the other end of an SSH connection: keys, certificates, tokens and codes made into a subject.

Owns the factors of a login, their order, and from which of them identity comes. Never does I/O: the transport
(`proxyd.ssh_transport`) asks it at each step of user authentication, and it says what may come next. What is wrong with
an attempt goes to the log and never to the client.

Theory of operation. Peers were broken into in three ways, and each has its answer here.

- A public-key *offer* (RFC 4252 section 7, the request without a signature) was taken for a proof. `offer` only answers
  whether a signature by this key would be looked at; it stores nothing.
- Identity came from another attempt than the one that succeeded. What a signature or code proves is formed whole within
  one call, from that call's arguments alone, and becomes part of the login only when it holds.
- An empty list let everybody in. No principals, no authorities, no factors: each admits nobody.

A token is judged by the issuer's keys that are here now. Where they do not suffice the attempt fails, the issuer is
asked in the background, and the client may try again. What is wrong with a token is told to whoever sent it.

A change of the user name forgets what was proved before it. All factors have to be of one person, and no key
counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final, Self

from proxyd.config import Identity, SshListener
from proxyd.identity.oidc import TokenRefused, Tokens
from proxyd.identity.ssh_identity import Proof, SshIdentity, form_identity
from proxyd.identity.ssh_proofs import (
    ProofRefused,
    certificate_proof,
    check_again,
    check_flags,
    check_issuer,
    check_requested,
    check_still_valid,
    key_proof,
)
from proxyd.identity.ssh_request import SignedRequest
from proxyd.identity.ssh_settings import Factor, Person, SshLoginSettings
from proxyd.identity.ssh_token import TokenAnswer
from proxyd.identity.ssh_trust import Trust
from proxyd.identity.totp import TotpGuard
from proxyd.identity.user_name import UserName, UserNameError, parse_user_name
from proxyd.ssh_blobs import (
    BlobError,
    PublicKey,
    algorithm_of,
    check_signature,
    is_certificate,
    key_from_blob,
)
from proxyd.ssh_certificate import (
    client_address,
    read_certificate,
)

MAX_LOOKS: Final = 100  # offers, prompts and proofs of one connection
MAX_REASONS: Final = 4

PUBLIC_KEY: Final = "publickey"
KEYBOARD_INTERACTIVE: Final = "keyboard-interactive"
PROMPTS: Final = (("One-time code: ", False),)


class Step(Enum):
    """What an attempt came to. PARTIAL: it counts, and more is asked for. UNFINISHED: the answer goes on."""

    FAILED = "failed"
    UNFINISHED = "unfinished"
    PARTIAL = "partial"
    DONE = "done"


class SshAuthenticator:
    """The logins of one listener. `begin` gives one to each connection, under the trust of that moment."""

    def __init__(
        self,
        settings: SshLoginSettings,
        clock: Callable[[], float],
        totp: TotpGuard | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """`clock`: Unix seconds. `totp`: shared by all listeners, so that a code is used once at any of them.

        `tokens`: None where nobody comes with a token. Raises SshSettingsError. Blocks on the disk.
        """
        self._settings = settings
        self._clock = clock
        self._totp = totp or TotpGuard()
        self._tokens = tokens
        self._trust = Trust.read(settings)

    @classmethod
    def from_config(
        cls,
        listener: SshListener,
        identity: Identity,
        clock: Callable[[], float],
        totp: TotpGuard | None = None,
        tokens: Tokens | None = None,
    ) -> Self:
        return cls(SshLoginSettings.from_config(listener, identity), clock, totp, tokens)

    def reload(self) -> bool:
        """Read all files again; True when something changed and connections from now on are under it.

        On SshSettingsError nothing has changed. Blocks on the disk, so call it from a worker thread; the swap itself is
        one step.
        """
        trust = Trust.read(self._settings)
        if trust == self._trust:
            return False
        self._trust = trust
        return True

    def problem_with(self, login: SshLogin) -> str:
        """Why `login`, which is complete, would fail or be another subject's now; "" when it would not."""
        return login.problem_under(self._settings, self._trust)

    def begin(self, peer_address: str) -> SshLogin:
        """For one connection. `peer_address`: the client's IP address, "" for none."""
        return SshLogin(self._settings, self._trust, self._totp, self._clock, peer_address, self._tokens)


class SshLogin:
    """User authentication on one connection.

    identity: None until a step gave DONE. failures: proofs that did not hold. reason: of the last failure, for the log.
    reasons: of the first few failures and of the last. notice: what the client is told with the next question.
    """

    def __init__(
        self,
        settings: SshLoginSettings,
        trust: Trust,
        totp: TotpGuard,
        clock: Callable[[], float],
        peer_address: str,
        tokens: Tokens | None = None,
    ) -> None:
        self.identity: SshIdentity | None = None
        self.notice = ""
        self.failures = 0
        self.reason = ""
        self.reasons: list[str] = []
        self._settings = settings
        self._trust = trust
        self._totp = totp
        self._tokens = tokens
        self._clock = clock
        self._peer = client_address(peer_address)
        self._looks = 0
        self._user: str | None = None
        self._proofs: tuple[Proof, ...] = ()
        self._is_prompted = False
        self._token: TokenAnswer | None = None

    # --- the steps ----------------------------------------------------------------------------------------

    def methods(self, user: str) -> tuple[str, ...]:
        """What `user` may come with next; () when nothing is left to try, and the connection has to end."""
        if self.identity is not None or self._is_exhausted:
            return ()
        self._take_user(user)
        factors = self._next_factors(self._proofs)
        found = []
        if Factor.CERTIFICATE in factors or Factor.PUBLIC_KEY in factors:
            found.append(PUBLIC_KEY)
        if Factor.TOTP in factors or Factor.TOKEN in factors:
            found.append(KEYBOARD_INTERACTIVE)
        return tuple(found)

    def offer(self, user: str, algorithm: bytes, key_blob: bytes) -> bool:
        """Whether a signature by this key would be looked at. Proves nothing, and changes nothing but a count."""
        try:
            self._begin_attempt(user)
            _, key = self._judged_key(parse_user_name(user), key_blob)
            check_requested(algorithm, key_blob, key)
        except (ProofRefused, BlobError, UserNameError) as error:
            self._note(f"offered key: {error}")
            return False
        return True

    def verify_key(self, user: str, key_blob: bytes, signed: bytes, signature: bytes) -> Step:
        """A request with a signature. `signed`: the data of RFC 4252 section 7, from the session identifier on."""
        try:
            self._begin_attempt(user)
            proof, key = self._judged_key(parse_user_name(user), key_blob)
            request = SignedRequest.read(signed)
            made = check_signature(key, signed, signature)
            request.check(user, key_blob, made.algorithm)
            check_flags(key, made, None if proof.shown is None else proof.shown.permissions)
            return self._add(proof)
        except (ProofRefused, BlobError, UserNameError) as error:
            return self._fail(f"key: {error}")

    def prompts(self, user: str) -> tuple[tuple[str, bool], ...] | None:
        """What to ask `user` for, with whether their answer is shown as they type; None: nothing, refuse."""
        try:
            self._begin_attempt(user)
            if Factor.TOKEN in self._next_factors(self._proofs):
                self._token = TokenAnswer()
            else:
                self._awaited_code()
        except ProofRefused as error:
            self._note(f"code: {error}")
            return None
        self._is_prompted = True
        return PROMPTS if self._token is None else ((self._token.question, False),)

    def further_prompts(self) -> tuple[tuple[str, bool], ...]:
        """What to ask for after an answer that was UNFINISHED."""
        return () if self._token is None else ((self._token.question, False),)

    def answer(self, user: str, responses: Sequence[str]) -> Step:
        """The answers to `prompts`. Each prompt takes one answer, and each answer needs its prompt."""
        is_prompted, token = self._is_prompted and user == self._user, self._token
        what = "code" if token is None else "token"
        try:
            self._begin_attempt(user)
            if not is_prompted:
                raise ProofRefused("an answer that was not asked for")
            if len(responses) != 1:
                raise ProofRefused(f"{len(responses)} answers to one question")
            if token is None:
                return self._add(self._judged_code(responses[0]))
            if token.add(responses[0]):
                self._is_prompted, self._token = True, token
                return Step.UNFINISHED
            return self._add(self._judged_token(token.text))
        except ProofRefused as error:
            return self._fail(f"{what}: {error}")

    # --- afterwards ---------------------------------------------------------------------------------------

    def problem_under(self, settings: SshLoginSettings, trust: Trust) -> str:
        """Why what was proved here would not make this identity under what is trusted now; "" when it would."""
        try:
            login = parse_user_name(self._user or "").login
            for proof in self._proofs:
                check_again(proof, login, settings, trust, self._trust, self._clock(), self._peer)
                if proof.token is not None and self._tokens is not None:
                    check_issuer(proof, self._tokens.issuer_of(proof.token))
        except (ProofRefused, BlobError, UserNameError) as error:
            return str(error)
        is_same = _formed(self._proofs, settings, trust) == self.identity
        return "" if is_same else "what the configuration says of the subject has changed"

    # --- the connection -----------------------------------------------------------------------------------

    @property
    def _is_exhausted(self) -> bool:
        return self.failures >= self._settings.attempts or self._looks >= MAX_LOOKS

    def _begin_attempt(self, user: str) -> None:
        """Every attempt begins here: with nothing but what this very user name has proved already."""
        self._is_prompted, self._token = False, None
        if self.identity is not None:
            raise ProofRefused("the login is complete already")
        if self._is_exhausted:
            raise ProofRefused("too many attempts")
        self._looks += 1
        self._take_user(user)

    def _take_user(self, user: str) -> None:
        """RFC 4252 section 5: what was proved under another name is flushed, also by a request that proves nothing."""
        if user != self._user:
            self._user, self._proofs, self.notice = user, (), ""
            self._is_prompted, self._token = False, None

    def _fail(self, reason: str) -> Step:
        self.failures += 1
        self._note(reason)
        return Step.FAILED

    def _note(self, reason: str) -> None:
        """Clients try one key after the other, so the last reason is seldom the one that matters."""
        self.reason = reason
        if reason in self.reasons:
            return
        if len(self.reasons) == MAX_REASONS:
            self.reasons.pop()
        self.reasons.append(reason)

    def _add(self, proof: Proof) -> Step:
        proofs = (*self._proofs, proof)
        is_complete = tuple(each.factor for each in proofs) in self._settings.factors
        if is_complete:
            check_still_valid(proofs, self._clock())
            self.identity = _formed(proofs, self._settings, self._trust)
        self._proofs = proofs
        return Step.DONE if is_complete else Step.PARTIAL

    def _next_factors(self, proofs: tuple[Proof, ...]) -> set[Factor]:
        kinds = tuple(proof.factor for proof in proofs)
        count = len(kinds)
        return {
            combination[count]
            for combination in self._settings.factors
            if len(combination) > count
            and combination[:count] == kinds
            and (not proofs or self._can_complete(proofs[0].person, combination[count:]))
        }

    def _can_complete(self, person: str, factors: tuple[Factor, ...]) -> bool:
        return Factor.TOTP not in factors or person in self._trust.totp

    # --- keys and certificates ----------------------------------------------------------------------------

    def _judged_key(self, user: UserName, blob: bytes) -> tuple[Proof, PublicKey]:
        """What a signature by the key in `blob` would prove, and the key that has to make it."""
        if is_certificate(algorithm_of(blob)):
            certificate = read_certificate(blob)
            proof = certificate_proof(
                certificate, user.login, self._trust, self._settings, self._clock(), self._peer
            )
            key = certificate.key
        else:
            key = key_from_blob(blob)
            proof = key_proof(key, self._trust)
        self._check_order(proof)
        return proof, key

    def _check_order(self, proof: Proof) -> None:
        if proof.factor not in self._next_factors(self._proofs):
            raise ProofRefused(f"a {proof.factor.value} is not what is asked for now")
        for earlier in self._proofs:
            if earlier.person != proof.person:
                raise ProofRefused(f"of {proof.person!a}, after a factor of {earlier.person!a}")
            if earlier.key and earlier.key == proof.key:
                raise ProofRefused("the same key as before")
        if not self._next_can_follow(proof):
            raise ProofRefused(f"{proof.person!a} has no one-time codes, and they would be asked for")

    def _next_can_follow(self, proof: Proof) -> bool:
        kinds = tuple(each.factor for each in (*self._proofs, proof))
        return any(
            combination[: len(kinds)] == kinds and self._can_complete(proof.person, combination[len(kinds) :])
            for combination in self._settings.factors
        )

    # --- codes and tokens ---------------------------------------------------------------------------------

    def _judged_code(self, code: str) -> Proof:
        person, key = self._awaited_code()
        if not self._totp.accept(person, key, code, self._clock()):
            raise ProofRefused(f"wrong, or used before, of {person}")
        return Proof(Factor.TOTP, person)

    def _judged_token(self, text: str) -> Proof:
        self.notice = ""
        try:
            if self._tokens is None:
                raise TokenRefused(
                    "no issuer is configured", "the gateway takes no tokens: ask its operators"
                )
            subject = self._tokens.check(text.strip())
        except TokenRefused as refusal:
            self.notice = f"proxyd: {refusal.text}"
            raise ProofRefused(refusal.reason) from refusal
        proof = Proof(Factor.TOKEN, subject.name, token=subject, issuer=self._tokens.issuer_of(subject))
        self._check_order(proof)
        return proof

    def _awaited_code(self) -> tuple[str, bytes]:
        """Whose code is asked for now, and the key of their codes."""
        if Factor.TOTP not in self._next_factors(self._proofs) or not self._proofs:
            raise ProofRefused("a code is not what is asked for now")
        person = self._proofs[0].person
        wait_s = self._totp.wait_s(person, self._clock())
        if wait_s > 0:
            raise ProofRefused(f"after too many wrong ones {person} has to wait {wait_s:.0f} s")
        return person, self._trust.totp[person]


def _formed(proofs: Sequence[Proof], settings: SshLoginSettings, trust: Trust) -> SshIdentity:
    name = proofs[0].person
    return form_identity(proofs, trust.people.get(name, Person(name)), settings.principals)
