"""OpenSSH's known_hosts format: reading a file of it, and what it says of one host.

Owns the format (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): names and patterns with negation, hashed names, `[host]:port`,
`@cert-authority` and `@revoked`. Never decides about a key. A line that cannot be read is a fault of the file, never
skipped: it could be one that revokes. Only lines with kinds of keys that nobody accepts here (DSA) are passed over.
Called by `proxyd.ssh_host_keys`.
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxyd.ssh_blobs import (
    BlobError,
    PublicKey,
    algorithm_of,
    blob_in_line,
    is_accepted_kind,
    is_certificate,
    key_from_blob,
)
from proxyd.ssh_public_keys import SshSettingsError, read_lines

DEFAULT_PORT: Final = 22

_AUTHORITY: Final = "@cert-authority"
_REVOKED: Final = "@revoked"
_HASHED: Final = re.compile(r"\|1\|([A-Za-z0-9+/=]+)\|([A-Za-z0-9+/=]+)")

NameTest = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What is known of one host. All three may be empty."""

    keys: tuple[PublicKey, ...] = ()
    authorities: tuple[PublicKey, ...] = ()
    revoked: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    marker: str
    is_about: NameTest
    key: PublicKey


@dataclass(frozen=True, slots=True)
class KnownHosts:
    """A file, read."""

    entries: tuple[_Entry, ...]

    def of(self, host: str, port: int) -> KnownKeys:
        """As ssh looks a host up: by name and port and, when nothing is found so, by its name alone.

        Unlike in ssh a key revoked under either of them is revoked.
        """
        bare = host.lower()
        names = (bare,) if port == DEFAULT_PORT else (f"[{bare}]:{port}", bare)
        found: list[_Entry] = []
        for name in names:
            found = [entry for entry in self.entries if entry.marker != _REVOKED and entry.is_about(name)]
            if found:
                break
        revoked = (
            e for e in self.entries if e.marker == _REVOKED and any(e.is_about(name) for name in names)
        )
        return KnownKeys(
            _keys(entry for entry in found if not entry.marker),
            _keys(entry for entry in found if entry.marker == _AUTHORITY),
            _keys(revoked),
        )


def read_known_hosts(path: Path) -> KnownHosts:
    """At least one entry with a key that can be used. Raises SshSettingsError."""
    entries = []
    for number, line in read_lines(path):
        try:
            entry = _entry(line)
        except BlobError as error:
            raise SshSettingsError(
                path,
                f"line {number} cannot be read: {error}",
                "write it as ssh-keyscan does: HOST TYPE BASE64",
            ) from None
        if entry is not None:
            entries.append(entry)
    if not any(entry.marker != _REVOKED for entry in entries):
        raise SshSettingsError(
            path,
            "knows no host, so every connection would be refused",
            "add the host's key, got in a way that you trust: ssh-keyscan HOST >> FILE, and compare it on its console",
        )
    return KnownHosts(tuple(entries))


def _entry(line: str) -> _Entry | None:
    marker = ""
    if line.startswith("@"):
        marker, _, line = line.partition(" ")
        if marker not in (_AUTHORITY, _REVOKED):
            raise BlobError(f"the marker {marker[:32]!a} is unknown")
    names, _, key = line.strip().partition(" ")
    blob = blob_in_line(key)
    kind = algorithm_of(blob)
    if is_certificate(kind):
        raise BlobError("it is a certificate; write the key of its authority after @cert-authority")
    is_about = _name_test(names)
    return _Entry(marker, is_about, key_from_blob(blob)) if is_accepted_kind(kind) else None


def _keys(entries: Iterable[_Entry]) -> tuple[PublicKey, ...]:
    return tuple({entry.key.blob: entry.key for entry in entries}.values())


# --- names ------------------------------------------------------------------------------------------------


def _name_test(names: str) -> NameTest:
    if names.startswith("|"):
        return _hashed(names)
    patterns = names.lower().split(",")
    if "" in patterns or "!" in patterns:
        raise BlobError("one of its host names is empty")
    denied = [_glob(pattern[1:]) for pattern in patterns if pattern.startswith("!")]
    wanted = [_glob(pattern) for pattern in patterns if not pattern.startswith("!")]
    return lambda name: _matches(wanted, name) and not _matches(denied, name)


def _matches(patterns: Sequence[re.Pattern[str]], name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)


def _glob(pattern: str) -> re.Pattern[str]:
    """ssh's own patterns: `*` and `?`. Brackets are brackets, as in `[host]:port`."""
    # Runs of `*` are one, or a long run would take for ever to try.
    parts = re.split(r"(\*+|\?)", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(part[:1], re.escape(part)) for part in parts))


def _hashed(names: str) -> NameTest:
    found = _HASHED.fullmatch(names)
    try:
        if found is None:
            raise ValueError
        salt, digest = (binascii.a2b_base64(part, strict_mode=True) for part in found.groups())
    except ValueError:
        raise BlobError("its hashed host name cannot be read") from None
    # SHA-1 is what the format has; it hides names and protects nothing.
    return lambda name: hmac.compare_digest(hmac.digest(salt, name.encode("utf-8"), "sha1"), digest)
