"""By what the gateway logs in to an SSH target: its own short-lived certificate, a static key, or a password.

Owns minting the certificates, and reading the secrets at the moment of use, so that a replaced file counts at the next
connection. Must never: keep a secret longer than one login, log one, or put one into an error. Called by the SSH door
before it connects to a target. Blocks on the disk for as long as a small file takes.

A minted certificate is for a key that was made for this one login and never leaves the process. It names one principal,
the account, so a target that trusts our authority (sshd_config, TrustedUserCAKeys) lets it into that account and no
other, and into none once its minutes are over. Its key id says who stood behind it; the target's sshd logs it.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

import asyncssh

from proxyd.config import SecretSource, SshTargetLogin
from proxyd.config import SshAuthority as SshAuthorityConfig
from proxyd.credentials import CredentialError, Secret, read_secret
from proxyd.ssh_keys import read_private_key
from proxyd.ssh_public_keys import SshSettingsError

CLOCK_SKEW_S: Final = 60.0
MAX_KEY_ID_CHARS: Final = 256

# What would end the key id's field, or the line, in somebody's log.
_UNFIT: Final = re.compile(r"[^!-~]|[\"'\\,;()]")


@dataclass(frozen=True, slots=True)
class SshCredential:
    """What asyncssh's client takes to log in as `username`: keys, or a password, or neither."""

    username: str
    client_keys: tuple[asyncssh.SSHKeyPair, ...] = field(default=(), repr=False)
    password: Secret | None = None


@dataclass(frozen=True, slots=True)
class SshAuthority:
    """The gateway's own authority for user certificates. Its key is read for each certificate."""

    key: SecretSource
    lifetime_s: float

    @classmethod
    def from_config(cls, config: SshAuthorityConfig) -> Self:
        return cls(config.key, config.lifetime)

    def mint(self, account: str, subject_name: str, session_id: str, now: float) -> asyncssh.SSHKeyPair:
        """A new key with a certificate for `account`, from now on for `lifetime_s`. `now`: Unix seconds.

        It permits what a policy could permit, since the gate has judged before the target sees it; and nothing else
        (no ~/.ssh/rc). Raises SshSettingsError when the authority's key cannot be used.
        """
        authority = read_private_key(self.key)
        key = asyncssh.generate_private_key("ssh-ed25519")
        certificate = authority.generate_user_certificate(
            key,
            key_id(subject_name, session_id),
            serial=secrets.randbits(63),
            principals=[account],
            valid_after=int(now - CLOCK_SKEW_S),
            valid_before=int(now + self.lifetime_s),
            permit_x11_forwarding=True,
            permit_agent_forwarding=True,
            permit_port_forwarding=True,
            permit_pty=True,
            permit_user_rc=False,
        )
        return asyncssh.load_keypairs([(key, certificate)])[0]

    def public_line(self) -> str:
        """What targets have to trust: a line for the file that TrustedUserCAKeys names. Raises SshSettingsError."""
        return read_private_key(self.key).export_public_key().decode("ascii").strip()


def key_id(subject_name: str, session_id: str) -> str:
    """`proxyd:SUBJECT:SESSION`; what could be misread in a log stands as `_`. The session is never cut off."""
    end = ":" + _UNFIT.sub("_", session_id)[:64]
    start = "proxyd:" + _UNFIT.sub("_", subject_name)
    return start[: MAX_KEY_ID_CHARS - len(end)] + end


def login_credential(
    login: SshTargetLogin, authority: SshAuthority | None, subject_name: str, session_id: str, now: float
) -> SshCredential:
    """The credential of `login` for one connection. Raises SshSettingsError or CredentialError, never with a value."""
    if login.certificate:
        if authority is None:
            raise SshSettingsError("", f"login `{login.name}` needs a certificate", "set ssh_authority")
        pair = authority.mint(login.account, subject_name, session_id, now)
        return SshCredential(login.account, client_keys=(pair,))
    if login.key is not None:
        key = read_private_key(login.key, login.passphrase)
        return SshCredential(login.account, client_keys=tuple(asyncssh.load_keypairs([key])))
    if login.password is not None:
        return SshCredential(login.account, password=read_secret(login.password))
    raise CredentialError(
        f"login `{login.name}`", "has no credential", "give it certificate, key or password"
    )
