"""File attributes of sftp version 3 (draft-ietf-secsh-filexfer-02, section 5). Used by requests and replies."""

from __future__ import annotations

from enum import IntFlag

import msgspec

from protocols.errors import RemoteProtocolError
from protocols.ssh.fields import Reader, string, uint32, uint64

MAX_EXTENDED = 64
MAX_EXTENDED_BYTES = 4096
_TYPE_MASK = 0o170000
_LINK_TYPE = 0o120000


class Has(IntFlag):
    SIZE = 0x1
    OWNERS = 0x2
    PERMISSIONS = 0x4
    TIMES = 0x8
    EXTENDED = 0x80000000


_KNOWN = int(Has.SIZE | Has.OWNERS | Has.PERMISSIONS | Has.TIMES | Has.EXTENDED)


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """Each None is not given. `permissions` are a file's mode, type included."""

    size: int | None = None
    owners: tuple[int, int] | None = None
    permissions: int | None = None
    times: tuple[int, int] | None = None
    extended: tuple[tuple[bytes, bytes], ...] | None = None

    @property
    def is_size_alone(self) -> bool:
        return self == Attributes(size=self.size) and self.size is not None

    @property
    def is_link(self) -> bool:
        return self.permissions is not None and self.permissions & _TYPE_MASK == _LINK_TYPE

    @classmethod
    def parse(cls, reader: Reader) -> Attributes:
        """Takes them out of `reader`, which may go on behind them."""
        flags = reader.uint32()
        if flags & ~_KNOWN:
            raise RemoteProtocolError(f"attributes with flags {flags:#x}, which sftp version 3 does not have")
        size = reader.uint64() if flags & Has.SIZE else None
        owners = (reader.uint32(), reader.uint32()) if flags & Has.OWNERS else None
        permissions = reader.uint32() if flags & Has.PERMISSIONS else None
        times = (reader.uint32(), reader.uint32()) if flags & Has.TIMES else None
        extended = _extended(reader) if flags & Has.EXTENDED else None
        return cls(size, owners, permissions, times, extended)

    def encode(self) -> bytes:
        flags = Has(0)
        parts = []
        if self.size is not None:
            flags |= Has.SIZE
            parts.append(uint64(self.size))
        if self.owners is not None:
            flags |= Has.OWNERS
            parts += map(uint32, self.owners)
        if self.permissions is not None:
            flags |= Has.PERMISSIONS
            parts.append(uint32(self.permissions))
        if self.times is not None:
            flags |= Has.TIMES
            parts += map(uint32, self.times)
        if self.extended is not None:
            flags |= Has.EXTENDED
            parts.append(uint32(len(self.extended)))
            parts += [string(name) + string(value) for name, value in self.extended]
        return uint32(int(flags)) + b"".join(parts)


def _extended(reader: Reader) -> tuple[tuple[bytes, bytes], ...]:
    count = reader.uint32()
    if count > MAX_EXTENDED:
        raise RemoteProtocolError(f"{count} extended attributes are more than the {MAX_EXTENDED} allowed")
    return tuple((reader.string(MAX_EXTENDED_BYTES), reader.string(MAX_EXTENDED_BYTES)) for _ in range(count))
