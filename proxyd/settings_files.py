"""Files that settings name: reading them within bounds, and the error that says what is wrong with one.

Never decides what a file may hold. Called by `proxyd.tls_files` and `proxyd.ssh_keys`; the daemon catches
`SettingsError` where it reads any of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MAX_FILE_BYTES: Final = 16 << 20  # a large revocation list; certificates and keys are a thousandth of that


class SettingsError(Exception):
    """Something cannot be set up as configured. `path` is the file at fault ("" for none), `remedy` what to do
    next.
    """

    def __init__(self, path: Path | str, message: str, remedy: str) -> None:
        where = f"{path}: " if str(path) else ""
        super().__init__(f"{where}{message}; {remedy}")
        self.path = str(path)
        self.message = message
        self.remedy = remedy


def read_file(path: Path, error: type[SettingsError] = SettingsError) -> bytes:
    """The content of `path`, at most MAX_FILE_BYTES of it. `error` when it cannot be read or is larger."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise error(path, f"cannot be read ({reason})", "check the path and its permissions") from exc
    if len(content) > MAX_FILE_BYTES:
        raise error(path, f"is larger than {MAX_FILE_BYTES} bytes", "check that it is the right file")
    return content
