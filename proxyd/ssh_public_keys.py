"""Files of public SSH keys: authorities, and keys that people and hosts are known by.

Owns reading them, and the words for what is wrong with one. Never decides what a key is good for. A certificate in such
a file is a fault: a certificate is never an authority. Called by SSH's identity and host keys. Blocks on the disk.
"""

from __future__ import annotations

from pathlib import Path

from proxyd.settings_files import SettingsError, read_file
from proxyd.ssh_blobs import BlobError, PublicKey, blob_in_line, key_from_blob


class SshSettingsError(SettingsError):
    """SSH cannot be set up as configured."""


def read_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The keys of a file, one a line as in a .pub file, at least one. Raises SshSettingsError."""
    keys = []
    for number, line in read_lines(path):
        try:
            keys.append(public_key(line))
        except BlobError as error:
            raise SshSettingsError(
                path, f"line {number} cannot be used: {error}", "write it as in a .pub file: TYPE BASE64"
            ) from None
    if not keys:
        raise SshSettingsError(
            path, "lists no key, so nothing could ever match", "write public keys into it, one a line"
        )
    return tuple(keys)


def public_key(line: str) -> PublicKey:
    """The key of one line of a .pub file. Raises BlobError."""
    return key_from_blob(blob_in_line(line))


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers from 1. Raises SshSettingsError."""
    try:
        text = read_file(path, SshSettingsError).decode("utf-8")
    except UnicodeDecodeError:
        raise SshSettingsError(path, "is not text", "name a file in OpenSSH's text format") from None
    lines = ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]
