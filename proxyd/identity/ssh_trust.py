"""Whom the SSH door trusts: authorities, revocations, people's keys and codes, read from files as one generation.

Owns checking them against each other. Never changes: a reload builds another `Trust`, and who holds the old one keeps
it whole. Never shows a secret. Called by `proxyd.identity.ssh`. Blocks on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from proxyd.credentials import CredentialError, read_secret
from proxyd.identity.ssh_revocation import read_revocations
from proxyd.identity.ssh_revoked import Revocations
from proxyd.identity.ssh_settings import Person, SshLoginSettings
from proxyd.identity.totp import decode_secret
from proxyd.settings_files import read_file
from proxyd.ssh_blobs import BlobError
from proxyd.ssh_public_keys import SshSettingsError, public_key, read_public_keys


@dataclass(frozen=True, slots=True)
class Trust:
    """One generation.

    authorities: blobs of the keys that may sign certificates. owners: of people's keys, by blob. totp: the keys of
    people's codes, by name.
    """

    authorities: frozenset[bytes]
    revocations: Revocations
    owners: Mapping[bytes, Person]
    people: Mapping[str, Person]
    totp: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def read(cls, settings: SshLoginSettings) -> Self:
        """Raises SshSettingsError."""
        authorities = _authorities(settings.client_ca)
        owners = _owners(settings.people)
        for blob, person in owners.items():
            if blob in authorities:
                raise SshSettingsError(
                    settings.client_ca or "",
                    f"one of these authorities is also a key of `{person.name}`",
                    "keep the authority's key for signing alone, and give the person another one",
                )
        people = {person.name: person for person in settings.people}
        return cls(authorities, _revocations(settings.revoked_keys), owners, people, _codes(settings.people))


def _authorities(path: Path | None) -> frozenset[bytes]:
    """Plain keys only: a certificate in this file is a fault, so a certificate is never a signer."""
    return frozenset() if path is None else frozenset(key.blob for key in read_public_keys(path))


def _revocations(path: Path | None) -> Revocations:
    if path is None:
        return Revocations()
    try:
        return read_revocations(read_file(path, SshSettingsError))
    except BlobError as error:
        remedy = "write public keys, SHA256 fingerprints, `serial: N` or `id: NAME`, one a line"
        raise SshSettingsError(path, str(error), remedy) from None


def _owners(people: Sequence[Person]) -> dict[bytes, Person]:
    owners: dict[bytes, Person] = {}
    for person in people:
        for line in person.keys:
            try:
                blob = public_key(line).blob
            except BlobError as error:
                message = f"a key of `{person.name}` cannot be used: {error}"
                raise SshSettingsError("", message, "copy the line of the .pub file") from None
            if owners.setdefault(blob, person) is not person:
                message = f"`{owners[blob].name}` and `{person.name}` have the same key"
                raise SshSettingsError("", message, "give everybody their own")
    return owners


def _codes(people: Sequence[Person]) -> dict[str, bytes]:
    codes: dict[str, bytes] = {}
    for person in people:
        if person.totp is None:
            continue
        what = f"totp of `{person.name}`"
        try:
            codes[person.name] = decode_secret(read_secret(person.totp))
        except CredentialError as error:
            raise SshSettingsError("", f"{what}: {error.what}: {error.why}", error.remedy) from None
        except ValueError as error:
            remedy = "make one with: head -c 20 /dev/urandom | base32"
            raise SshSettingsError("", f"{what}: {error}", remedy) from None
    return codes
