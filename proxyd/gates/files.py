"""What the gates saw of a file that was transferred inside an SSH session. The tape records it; no I/O, no policy."""

from __future__ import annotations

import msgspec


class FileRecord(msgspec.Struct, frozen=True):
    """One transfer that has ended, by sftp or by the legacy scp protocol.

    path: as judged (sftp), or as the scp stream named it; text with surrogateescape. verb: "read" (the client got
    the bytes) or "write". byte_count: how many bytes passed. sha256: of those bytes, in the order in which they
    passed, in hex.
    is_complete: they are the whole of it, from the first byte to the end of the file, in order, and the end was seen
    (the end of the file or its reported size for a read, a successful close for a write). A write in place that is
    shorter than the old file leaves the old file's end behind; that is complete all the same.
    is_in_order: each piece began where the one before it ended; otherwise the hash is not a file's.
    start: the offset of the first byte. content: the first bytes, as many as the tape asked for.
    """

    path: str
    verb: str
    byte_count: int
    sha256: str
    is_complete: bool
    is_in_order: bool = True
    start: int = 0
    content: bytes = b""
