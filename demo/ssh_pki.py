"""The demo's SSH keys and certificates: made anew at every start, good for a month, trusted by nobody else.

Owns the files below one directory: NAME, NAME.pub and NAME-cert.pub, in OpenSSH's formats and as ssh-keygen would make
them. By asyncssh, since a machine that runs the demo need not have OpenSSH.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import asyncssh


class SshPki:
    """Ed25519 keys in `directory`, private ones readable by their owner alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def make(self, name: str) -> Path:
        """`ssh-keygen -t ed25519 -N '' -C NAME -f NAME`; gives the private key's file."""
        key = asyncssh.generate_private_key("ssh-ed25519", comment=name)
        private = self.private(name)
        private.touch(mode=0o600)
        private.write_bytes(key.export_private_key())
        self.public_file(name).write_bytes(key.export_public_key())
        return private

    def certify(self, name: str, authority: str, *, key_id: str, principals: Sequence[str]) -> Path:
        """`ssh-keygen -s AUTHORITY -I KEY_ID -n PRINCIPALS -V -1m:+30d NAME.pub`; gives the certificate's file."""
        signer = asyncssh.read_private_key(self.private(authority))
        certificate = signer.generate_user_certificate(
            asyncssh.read_public_key(self.public_file(name)),
            key_id,
            principals=list(principals),
            valid_after="-1m",
            valid_before="+30d",
        )
        certificate.write_certificate(self.certificate(name))
        return self.certificate(name)

    def private(self, name: str) -> Path:
        return self.directory / name

    def public_file(self, name: str) -> Path:
        return self.directory / f"{name}.pub"

    def public(self, name: str) -> str:
        """The public key: algorithm and key."""
        return " ".join(self.public_file(name).read_text().split()[:2])

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}-cert.pub"
