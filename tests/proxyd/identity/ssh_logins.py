"""A listener's authenticator with a clock of its own, and the client's part of a login, for the tests beside this."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from proxyd.config import SecretSource
from proxyd.identity.ssh import SshAuthenticator, SshLogin, Step
from proxyd.identity.ssh_settings import Factor, Person, SshLoginSettings
from proxyd.identity.totp import STEP_S, TotpGuard, code_at
from tests.ssh_pki import Authority, Key, SecurityKey, request

USER = "deploy+web1"
PEER = "192.0.2.7"
TOTP_KEY = b"12345678901234567890"

CERTIFICATE = (Factor.CERTIFICATE,)
PUBLIC_KEY = (Factor.PUBLIC_KEY,)
KEY_AND_CODE = (Factor.PUBLIC_KEY, Factor.TOTP)
CERTIFICATE_AND_CODE = (Factor.CERTIFICATE, Factor.TOTP)


@dataclass
class Door:
    """`people` come with their keys; those in `with_codes` have TOTP_KEY."""

    directory: Path
    authority: Authority = field(default_factory=Authority.new)
    factors: Sequence[tuple[Factor, ...]] = (CERTIFICATE,)
    people: Sequence[Person] = ()
    with_codes: Sequence[str] = ()
    revoked: str | bytes | None = None
    now: float = field(default_factory=time.time)
    totp: TotpGuard = field(default_factory=TotpGuard)
    settings: dict[str, Any] = field(default_factory=dict)

    def authenticator(self) -> SshAuthenticator:
        return SshAuthenticator(self.login_settings(), lambda: self.now, self.totp)

    def login_settings(self) -> SshLoginSettings:
        authority = self.authority.write(self.directory / "user_ca.pub")
        return SshLoginSettings(
            factors=tuple(self.factors),
            client_ca=authority,
            revoked_keys=self._revoked_file(),
            people=tuple(self._person(person) for person in self.people),
            **self.settings,
        )

    def begin(self, peer: str = PEER) -> SshLogin:
        return self.authenticator().begin(peer)

    def code(self, steps: int = 0) -> str:
        return code_at(TOTP_KEY, int(self.now) // STEP_S + steps)

    def _person(self, person: Person) -> Person:
        if person.name not in self.with_codes:
            return person
        path = self.directory / "totp"
        path.write_text(base64.b32encode(TOTP_KEY).decode() + "\n")
        path.chmod(0o600)
        return replace(person, totp=SecretSource(file=path))

    def _revoked_file(self) -> Path | None:
        if self.revoked is None:
            return None
        path = self.directory / "revoked"
        path.write_bytes(self.revoked.encode() if isinstance(self.revoked, str) else self.revoked)
        return path


def person(name: str, *keys: Key | SecurityKey, groups: Sequence[str] = ()) -> Person:
    return Person(name, tuple(groups), {}, tuple(key.line for key in keys))


def prove(
    login: SshLogin,
    key: Key | SecurityKey,
    blob: bytes | None = None,
    user: str = USER,
    algorithm: str | None = None,
) -> Step:
    """A well made request by `key`, for itself or for its certificate in `blob`."""
    shown = key.blob if blob is None else blob
    signed = request(user, shown, algorithm)
    return login.verify_key(user, shown, signed, key.sign(signed))


def type_code(login: SshLogin, code: str, user: str = USER) -> Step:
    """Ask for a prompt, and answer it."""
    return Step.FAILED if login.prompts(user) is None else login.answer(user, [code])
