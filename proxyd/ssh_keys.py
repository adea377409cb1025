"""SSH keys and certificates of the gateway's own, as they lie on disk.

Owns reading them, the rules for the files of private ones (those of any secret, `proxyd.credentials`), and the words
for what is wrong with them. Keeps nothing that it read, and puts nothing secret into an error. Called by what shows or
proves who the gateway is, and by `proxyd check`. Blocks on the disk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import asyncssh

from proxyd.config import SecretSource
from proxyd.credentials import CredentialError, read_secret
from proxyd.settings_files import read_file
from proxyd.ssh_blobs import BlobError, check_signature, key_from_blob
from proxyd.ssh_certificate import HOST, Certificate, read_certificate
from proxyd.ssh_public_keys import SshSettingsError

_PRIVATE: Final = "PRIVATE KEY-----"
_NEW_KEY: Final = "ssh-keygen -t ed25519 -N '' -f FILE"
_SIGN_AGAIN: Final = "sign the host key anew: ssh-keygen -s CA -h -I NAME -n HOSTNAMES FILE.pub"


def read_private_key(source: SecretSource | Path, passphrase: SecretSource | None = None) -> asyncssh.SSHKey:
    """A private key in any format of OpenSSH, that can sign by itself. Raises SshSettingsError."""
    source = SecretSource(file=source) if isinstance(source, Path) else source
    path = source.file or ""
    text = _secret(source)
    word = None if passphrase is None else _secret(passphrase)
    try:
        key = asyncssh.import_private_key(text, word)
        if key_from_blob(key.public_data).is_security_key:
            raise BlobError("it is the handle of a hardware token, which cannot sign without a person")
    except BlobError as error:
        raise SshSettingsError(path, f"cannot be used: {error}", f"make another: {_NEW_KEY}") from None
    except ValueError as error:
        raise SshSettingsError(path, *_unreadable(error, text, path)) from None
    return key


def _unreadable(error: ValueError, text: str, path: Path | str) -> tuple[str, str]:
    """What is wrong with a private key, and what to do. asyncssh has few types, and words that are its own."""
    words = str(error)
    if words.startswith("Passphrase must be specified"):
        remedy = f"store it decrypted, readable by the service only: ssh-keygen -p -N '' -f {path or 'FILE'}"
        return "is encrypted with a passphrase", remedy
    if isinstance(error, asyncssh.KeyEncryptionError) or words.startswith("Unable to decrypt"):
        return "is not opened by its passphrase", "correct the passphrase"
    remedy = "it is damaged: restore it" if _PRIVATE in text else "name the file without .pub"
    return "holds no readable private key", f"{remedy}, or make another: {_NEW_KEY}"


def read_host_certificate(path: Path) -> tuple[asyncssh.SSHCertificate, Certificate]:
    """The host certificate of a file, for asyncssh and taken apart. Its signature is checked, its time is not.

    Raises SshSettingsError.
    """
    try:
        text = read_file(path, SshSettingsError).decode("ascii")
        certificate = asyncssh.import_certificate(text.strip())
        parts = read_certificate(certificate.public_data)
    except ValueError:  # of asyncssh, of ours and of other encodings
        raise SshSettingsError(
            path, "holds no readable certificate", "name the -cert.pub file that `ssh-keygen -s` made"
        ) from None
    if parts.kind != HOST:
        raise SshSettingsError(path, "is not the certificate of a host", _SIGN_AGAIN)
    try:
        check_signature(key_from_blob(parts.authority_blob), parts.signed, parts.signature)
    except BlobError as error:
        raise SshSettingsError(path, f"is not signed well: {error}", _SIGN_AGAIN) from None
    return certificate, parts


def _secret(source: SecretSource) -> str:
    try:
        return read_secret(source).reveal()
    except CredentialError as error:
        what = "" if source.file is not None else f"{error.what} "
        raise SshSettingsError(source.file or "", f"{what}{error.why}", error.remedy) from None
