"""SSH keys and certificates, made by OpenSSH's own ssh-keygen: ed25519, without passphrases, for throw-away servers.

Owns the files below one directory: NAME, NAME.pub and NAME-cert.pub for each key. Used by the demo, the bench and the
tests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

KEYGEN = "/usr/bin/ssh-keygen"


class KeygenFailed(RuntimeError):
    """ssh-keygen is missing or refused; the message carries what it said."""


class SshKeys:
    """Keys in `directory`, each made when it is first asked for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def private(self, name: str) -> Path:
        """The private key, mode 0600."""
        path = self.directory / name
        if not path.exists():
            _keygen("-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path))
        return path

    def public_file(self, name: str) -> Path:
        private = self.private(name)
        return private.with_name(f"{private.name}.pub")

    def public(self, name: str) -> str:
        """The public key as one line: algorithm, key, comment."""
        return self.public_file(name).read_text().strip()

    def certify(
        self,
        name: str,
        authority: str,
        principals: Sequence[str] = (),
        *,
        key_id: str | None = None,
        validity: str = "-1m:+1d",
        options: Sequence[str] = (),
        is_host: bool = False,
    ) -> Path:
        """A certificate of the key `name`, signed by the key `authority`; a new one takes the old one's place.

        validity and options: as in `ssh-keygen -V` and `-O` (see ssh-keygen(1)). No principals: for everybody.
        """
        words = ["-q", "-s", str(self.private(authority)), "-I", key_id or name, "-V", validity]
        words += ["-h"] if is_host else []
        words += ["-n", ",".join(principals)] if principals else []
        for option in options:
            words += ["-O", option]
        _keygen(*words, str(self.public_file(name)))
        return self.certificate(name)

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}-cert.pub"


def _keygen(*arguments: str) -> None:
    try:
        done = subprocess.run(
            [KEYGEN, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise KeygenFailed(f"{KEYGEN} is missing: apt-get install openssh-client") from None
    if done.returncode != 0:
        raise KeygenFailed(f"ssh-keygen {' '.join(arguments)} failed: {done.stderr.strip()}")
