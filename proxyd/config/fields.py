"""Types of single values in the configuration: paths, addresses, lists, secrets, public keys.

Pure: a path is resolved against the directory of the configuration file and not looked at. Used by the other
modules of this package.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, model_validator

from policy.located_yaml import Path as DocumentPath
from policy.located_yaml import Section, refusal, size_bytes
from proxyd.addresses import Address, parse_address

ItemT = TypeVar("ItemT")

# The kinds of `proxyd.ssh_blobs`, which looks inside them.
PUBLIC_KEY_TYPES = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


def _resolve(value: Path, info: ValidationInfo) -> Path:
    """A relative path is relative to the configuration file, not to the directory of whoever starts us."""
    if value == Path():
        raise refusal("an empty path", "name the file")
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / value


def _read_address(value: object) -> Address:
    try:
        return parse_address(str(value))
    except ValueError as error:
        message, _, remedy = str(error).partition("; ")
        raise refusal(message, remedy) from None


def _not_empty(values: tuple[ItemT, ...]) -> tuple[ItemT, ...]:
    """Not `min_length`, which would call a list empty whose only item has a fault."""
    if not values:
        raise refusal("an empty list", "list at least one")
    return values


def _size_or_nothing(value: object) -> int:
    return 0 if type(value) is int and value == 0 else size_bytes(value)


def _public_key(line: str) -> str:
    """`line` without its comment. Only its form is looked at: whether the key is one is seen by its reader."""
    words = line.split()
    if "\n" in line or not words:
        raise refusal("not one public key", "write one line of a .pub file for each key")
    kind = words[0]
    if "-----" in line:
        raise refusal(
            "a private key, or another format", "write the line of the .pub file that belongs to it"
        )
    if "-cert-v" in kind:
        raise refusal("a certificate, not a public key", "write the line of the .pub file without -cert")
    if kind not in PUBLIC_KEY_TYPES:
        raise refusal(
            f"`{kind[:60]}` is not a type of public keys",
            f"begin with one of: {', '.join(sorted(PUBLIC_KEY_TYPES))} (options of authorized_keys have no place here)",
        )
    if len(words) < 2 or _type_inside(words[1]) != kind:
        raise refusal("a public key that is cut off or mistyped", "copy the whole line of the .pub file")
    return f"{kind} {words[1]}"


def _type_inside(text: str) -> str:
    """The first field of a key's bytes, which is its type (RFC 4253 section 6.6); "" when they are cut off."""
    try:
        blob = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        return ""
    fields, at = [], 0
    while at < len(blob):
        end = at + 4 + int.from_bytes(blob[at : at + 4], "big")
        fields.append(blob[at + 4 : end])
        at = end
    return fields[0].decode("ascii", "replace") if fields and at == len(blob) else ""


Some = Annotated[tuple[ItemT, ...], AfterValidator(_not_empty)]
FilePath = Annotated[Path, AfterValidator(_resolve)]
SocketAddress = Annotated[Address, PlainValidator(_read_address)]

SizeOrNothing = Annotated[int, BeforeValidator(_size_or_nothing)]
"""Bytes, written with a unit, or 0."""

PublicKey = Annotated[str, AfterValidator(_public_key)]
"""A public key as in a .pub file, "TYPE BASE64". Two texts are the same key when they are equal."""


class SecretSource(Section):
    """Where a secret is read from. Exactly one of the three."""

    file: FilePath | None = None
    environment: str | None = Field(default=None, min_length=1)
    credential: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]+$")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.file, self.environment, self.credential)) != 1:
            raise refusal("not one source", "give exactly one of `file`, `environment` or `credential`")
        return self


def refuse_twice(what: str, place: DocumentPath, names: Sequence[str]) -> None:
    """A name may stand once. `place` is where the list stands, below the section that is being checked."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise refusal(f"a second {what} named `{name}`", "rename one of them", at=(*place, index, "name"))
