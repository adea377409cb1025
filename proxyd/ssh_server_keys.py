"""The keys by which the gateway shows clients who it is: private host keys, and their certificates.

Owns one generation of them and its exchange for another. Must never show a key. Made for each SSH listener when the
daemon starts, read anew at each reload, and read by `proxyd check`. Blocks on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import asyncssh

from proxyd.config import SshListener
from proxyd.ssh_blobs import fingerprint
from proxyd.ssh_keys import read_host_certificate, read_private_key
from proxyd.ssh_public_keys import SshSettingsError
from proxyd.tls_contexts import Expiry


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """One generation. `pairs`: what asyncssh's server takes as host keys. `identifiers`: SHA256 of keys and
    certificates. `expiries`: of the certificates.
    """

    pairs: tuple[asyncssh.SSHKeyPair, ...] = field(repr=False)
    identifiers: tuple[str, ...]
    expiries: tuple[Expiry, ...] = ()

    @classmethod
    def read(cls, listener: SshListener) -> Self:
        """Raises SshSettingsError."""
        keys = _keys(listener.host_keys)
        certificates: dict[bytes, asyncssh.SSHCertificate] = {}
        expiries = []
        for path in listener.host_certificates:
            certificate, parts = read_host_certificate(path)
            if parts.key.blob not in keys:
                raise SshSettingsError(
                    path,
                    "is of none of the host keys",
                    "name the certificate of a key in `host_keys`, or add its key",
                )
            if parts.key.blob in certificates:
                raise SshSettingsError(path, "is a second certificate of its key", "name one for each key")
            certificates[parts.key.blob] = certificate
            if parts.expires_at is not None:
                expiries.append(Expiry("the host certificate", str(path), parts.expires_at))
        identifiers = (*keys, *(certificate.public_data for certificate in certificates.values()))
        return cls(
            _pairs(keys, certificates), tuple(fingerprint(blob) for blob in identifiers), tuple(expiries)
        )


class ListenerKeys:
    """The generation in use of one listener. New connections get what `current` is when they come."""

    def __init__(self, listener: SshListener) -> None:
        """Raises SshSettingsError."""
        self._listener = listener
        self.current = ServerKeys.read(listener)

    def reload(self) -> bool:
        """True when keys or certificates have changed. Raises SshSettingsError, and then keeps what it has."""
        new = ServerKeys.read(self._listener)
        if new.identifiers == self.current.identifiers:
            return False
        self.current = new
        return True


def _keys(paths: tuple[Path, ...]) -> dict[bytes, asyncssh.SSHKey]:
    """By their public blobs. A client asks for a kind of key, so there is one of each."""
    keys: dict[bytes, asyncssh.SSHKey] = {}
    kinds: dict[bytes, Path] = {}
    for path in paths:
        key = read_private_key(path)
        if key.algorithm in kinds:
            raise SshSettingsError(
                path,
                f"is a second key of the kind {key.algorithm.decode()}, besides {kinds[key.algorithm]}",
                "name one host key of each kind",
            )
        kinds[key.algorithm] = path
        keys[key.public_data] = key
    return keys


def _pairs(
    keys: dict[bytes, asyncssh.SSHKey], certificates: dict[bytes, asyncssh.SSHCertificate]
) -> tuple[asyncssh.SSHKeyPair, ...]:
    """With a certificate a key is there twice: not every client knows the authority."""
    return tuple(
        pair
        for blob, key in keys.items()
        for pair in asyncssh.load_keypairs([(key, certificates[blob])] if blob in certificates else [key])
    )
