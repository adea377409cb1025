"""Socket addresses as they are written in the configuration: `host:port`, `[v6]:port`, `unix:/path`.

Pure: nothing is resolved and nothing is opened here.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_PORT = 65535
MAX_UNIX_PATH_BYTES = 107  # sizeof(sockaddr_un.sun_path) less the closing NUL, unix(7)


@dataclass(frozen=True, slots=True)
class Address:
    """Either `host` and `port`, or `path` of a Unix socket (then host is "" and port 0)."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_unix(self) -> bool:
        return bool(self.path)

    @property
    def is_loopback(self) -> bool:
        """Only this machine can reach it. A name other than `localhost` counts as reachable from outside."""
        return self.is_unix or self.host in {"localhost", "::1"} or self.host.startswith("127.")


def shown_name(name: object) -> str:
    """What getsockname() or getpeername() has given."""
    if isinstance(name, tuple):
        return str(Address(str(name[0]), name[1]))
    return f"unix:{name}"


def parse_address(text: str) -> Address:
    """Read an address. Raises ValueError: what is wrong, "; " and what to write instead."""
    if text.startswith("unix:"):
        return _parse_unix(text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} is not an address; write HOST:PORT, as 127.0.0.1:6432, or unix:/PATH")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not an address; write IPv6 in brackets, as [::1]:6432")
    if not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > _MAX_PORT:
        raise ValueError(f"{port!r} is not a port; write a number from 0 to {_MAX_PORT}")
    return Address(host=host, port=int(port))


def _parse_unix(path: str) -> Address:
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not absolute; write the whole path, as unix:/run/proxyd/pg.sock")
    if len(path.encode()) > MAX_UNIX_PATH_BYTES:
        raise ValueError(f"longer than {MAX_UNIX_PATH_BYTES} bytes; move the socket to a shorter path")
    return Address(path=path)
