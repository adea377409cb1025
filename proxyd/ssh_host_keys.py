"""Whether an SSH target is the one that was meant: its host key against known_hosts, an authority, or listed keys.

Owns reading what is known of a target, and judging the key or certificate that it shows. Must never: accept a key
because nothing is known. An empty file is a fault, and a target of which a file says nothing is refused. Called by the
SSH door at each connection to a target, and by `proxyd check`.

asyncssh is given the same keys, for its choice of algorithms and as a second check. The judgement is made here, because
asyncssh also matches the address that a name resolves to (whoever answers the DNS query could so pass one known host
off as another), skips lines that it cannot read (also those that revoke a key), and takes certificates that name no
host or are signed with SHA-1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

import asyncssh

from proxyd.config import SshTarget
from proxyd.ssh_blobs import (
    CERTIFICATE_SUFFIX,
    BlobError,
    algorithm_of,
    fingerprint,
    is_certificate,
    key_from_blob,
)
from proxyd.ssh_certificate import check_host_certificate, read_certificate
from proxyd.ssh_known_hosts import DEFAULT_PORT, KnownKeys, read_known_hosts
from proxyd.ssh_public_keys import SshSettingsError, public_key, read_public_keys

_CERTIFICATES: Final = tuple(
    kind + CERTIFICATE_SUFFIX
    for kind in (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )
)

# In the form that asyncssh takes: trusted keys, trusted authorities, revoked keys.
AsyncsshKnownHosts = tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]


class HostKeyRefused(Exception):
    """The target is not known to be the one that was meant: `what`, `why`, and what to do as `remedy`."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what}: {why}; {remedy}")
        self.what = what
        self.why = why
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Destination:
    """The target's name in our configuration, and where it is. `source`: where its keys are known from, in words."""

    target: str
    host: str
    port: int
    source: str

    def __str__(self) -> str:
        where = self.host if self.port == DEFAULT_PORT else f"[{self.host}]:{self.port}"
        return f"{self.target} ({where})" if self.host else self.target


class HostKeyPolicy:
    """What is known of one target."""

    def __init__(self, destination: Destination, read: Callable[[], KnownKeys]) -> None:
        """`read` raises SshSettingsError; it is called now and at each reload, and blocks on the disk."""
        self._destination = destination
        self._read = read
        self._known = read()

    @classmethod
    def from_config(cls, target: SshTarget) -> Self:
        """Raises SshSettingsError. A target on a Unix socket is looked up by its name in the configuration."""
        address, keys = target.address, target.host_keys
        host = target.name if address.is_unix else address.host
        port = DEFAULT_PORT if address.is_unix else address.port
        if keys.known_hosts is not None:
            path = keys.known_hosts
            destination = Destination(target.name, host, port, str(path))
            return cls(destination, lambda: read_known_hosts(path).of(host, port))
        if keys.ca is not None:
            authority = keys.ca
            destination = Destination(target.name, host, port, str(authority))
            return cls(destination, lambda: KnownKeys(authorities=read_public_keys(authority)))
        listed = keys.keys or ()
        destination = Destination(target.name, host, port, "host_keys.keys")
        return cls(destination, lambda: _listed(target.name, listed))

    @property
    def is_known(self) -> bool:
        """Whether any key could be accepted. When not, every connection to the target is refused."""
        return bool(self._known.keys or self._known.authorities)

    def reload(self) -> bool:
        """Read the file again; True when something changed. On SshSettingsError nothing has changed."""
        known = self._read()
        if known == self._known:
            return False
        self._known = known
        return True

    def begin(self, clock: Callable[[], float]) -> HostKeyCheck:
        """For one connection, under what is known now. `clock`: Unix seconds. Raises HostKeyRefused."""
        if not self.is_known:
            to = self._destination
            raise HostKeyRefused(
                f"no host key of {to} is known",
                f"{to.source} says nothing about it",
                f"get the key (ssh-keyscan -p {to.port} {to.host}), compare it on the host's console, add it to "
                f"{to.source} and reload proxyd",
            )
        return HostKeyCheck(self._destination, self._known, clock)


@dataclass(slots=True)
class HostKeyCheck:
    """One connection. `refusal`: why `check` has refused, since asyncssh passes on no exception of ours."""

    destination: Destination
    known: KnownKeys
    clock: Callable[[], float]
    refusal: HostKeyRefused | None = None
    _accepted: bytes = field(default=b"", init=False)

    @property
    def is_settled(self) -> bool:
        """Whether the target has shown a key, taken or refused."""
        return bool(self._accepted) or self.refusal is not None

    @property
    def algorithms(self) -> list[str]:
        """For asyncssh's `server_host_key_algs`: those for which a key is known, none of them with SHA-1."""
        kinds = list(_CERTIFICATES) if self.known.authorities else []
        for key in self.known.keys:
            kinds.extend(key.signatures)
        return list(dict.fromkeys(kinds))

    @property
    def known_hosts(self) -> AsyncsshKnownHosts:
        """For asyncssh's `known_hosts`."""
        known = self.known
        return (
            [key.key for key in known.keys],
            [key.key for key in known.authorities],
            [key.key for key in known.revoked],
        )

    def check(self, blob: bytes) -> asyncssh.SSHKey:
        """The key that has to sign the key exchange, when the target may show `blob`. Raises HostKeyRefused.

        What was accepted once is accepted again on this connection, so that a certificate may end during it; and
        nothing else is then, so that a target cannot change its key in the midst of a session.
        """
        try:
            key = self._judged(blob)
        except BlobError as error:
            self.refusal = self._refused(blob, str(error))
            raise self.refusal from None
        self._accepted = blob
        return key

    def _judged(self, blob: bytes) -> asyncssh.SSHKey:
        is_certified = is_certificate(algorithm_of(blob))
        certificate = read_certificate(blob) if is_certified else None
        key = key_from_blob(blob) if certificate is None else certificate.key
        if self._accepted:
            if blob != self._accepted:
                raise BlobError("it is another one than at the beginning of this connection")
            return key.key
        revoked = {each.blob for each in self.known.revoked}
        if key.blob in revoked or (certificate is not None and certificate.authority_blob in revoked):
            raise BlobError(f"it is revoked in {self.destination.source}")
        if certificate is not None:
            authorities = {each.blob for each in self.known.authorities}
            check_host_certificate(certificate, authorities, self.destination.host, self.clock())
        elif key.blob not in {each.blob for each in self.known.keys}:
            raise BlobError(f"it is not the one in {self.destination.source}")
        return key.key

    def _refused(self, blob: bytes, why: str) -> HostKeyRefused:
        to = self.destination
        return HostKeyRefused(
            f"the host key of {to} is refused ({_shown(blob)})",
            why,
            "somebody may stand in between; compare the fingerprint on the host's console (ssh-keygen -lf "
            f"/etc/ssh/ssh_host_ed25519_key.pub), and if the host was reinstalled, put its new key into {to.source}",
        )


def _listed(target: str, lines: Sequence[str]) -> KnownKeys:
    keys = []
    for line in lines:
        try:
            keys.append(public_key(line))
        except BlobError as error:
            message = f"a host key of target `{target}` cannot be used: {error}"
            raise SshSettingsError("", message, "copy the line of the .pub file") from None
    if not keys:
        raise SshSettingsError("", f"no host key of target `{target}` is listed", "list at least one")
    return KnownKeys(keys=tuple(keys))


def _shown(blob: bytes) -> str:
    """The fingerprint of the key, as `ssh-keygen -l` shows it for a certificate too."""
    try:
        if is_certificate(algorithm_of(blob)):
            return f"certificate of {read_certificate(blob).key.fingerprint}"
    except BlobError:
        pass
    return fingerprint(blob)
