"""Which verbs of the policy an sftp request needs (see `SshFacts`). No state."""

from __future__ import annotations

import msgspec

from protocols.ssh.sftp import Kind
from protocols.ssh.sftp_attributes import Attributes
from protocols.ssh.sftp_requests import (
    COPY_DATA,
    EXPAND_PATH,
    FSTATVFS,
    FSYNC,
    HARDLINK,
    LIMITS,
    LSETSTAT,
    POSIX_RENAME,
    STATVFS,
    OpenFlag,
)

READ, WRITE, LIST, STAT, SETSTAT = "read", "write", "list", "stat", "setstat"
MKDIR, RMDIR, REMOVE, RENAME, LINK = "mkdir", "rmdir", "remove", "rename", "link"

# What the gate can judge. Others are refused, and taken out of what the target says it can do, so that no client tries.
EXTENSIONS = (
    POSIX_RENAME,
    STATVFS,
    FSTATVFS,
    HARDLINK,
    FSYNC,
    LSETSTAT,
    LIMITS,
    EXPAND_PATH,
    COPY_DATA,
)

# The requests that act on the last part of the path itself, not on what it leads to.
VERB_OF_ENTRY = {
    Kind.LSTAT: STAT,
    Kind.READLINK: STAT,
    Kind.REMOVE: REMOVE,
    Kind.RMDIR: RMDIR,
}
VERB_OF_FOLLOWED = {Kind.STAT: STAT, Kind.OPENDIR: LIST}

_CHANGES = OpenFlag.WRITE | OpenFlag.APPEND | OpenFlag.CREAT | OpenFlag.TRUNC


_ORDINARY_BITS = ~0o6000
"""Of a mode, without set-user-id and set-group-id."""


def of_open(flags: int, attributes: Attributes) -> tuple[str, ...]:
    """CREAT and TRUNC change a file whatever it is opened for; servers take no WRITE at all for a read."""
    reads = flags & OpenFlag.READ or not flags & OpenFlag.WRITE
    changes = _of_making(attributes)
    writes = flags & _CHANGES or WRITE in changes
    return (READ,) * bool(reads) + (WRITE,) * bool(writes) + (SETSTAT,) * (SETSTAT in changes)


def of_mkdir(attributes: Attributes | None) -> tuple[str, ...]:
    return (MKDIR, *_of_making(attributes or Attributes()))


def _of_making(attributes: Attributes) -> tuple[str, ...]:
    """What something new is given beyond the mode that clients send with every file is set, as by SETSTAT."""
    mode = attributes.permissions
    if mode is not None and mode & _ORDINARY_BITS == mode:
        attributes = msgspec.structs.replace(attributes, permissions=None)
    return () if attributes == Attributes() else of_change(attributes)


def of_change(attributes: Attributes | None) -> tuple[str, ...]:
    """To set a size is to write; all else is setstat."""
    given = attributes or Attributes()
    if given.is_size_alone:
        return (WRITE,)
    return (SETSTAT,) if given.size is None else (SETSTAT, WRITE)
