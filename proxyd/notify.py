"""What systemd and the daemon tell each other: readiness, reloads, the watchdog, and sockets handed over.

Owns the sd_notify(3) datagrams and the sd_listen_fds(3) protocol, both spoken directly: they are a few lines
each and a library would be a C dependency. Without systemd every call here does nothing. Must never block the
event loop or end the daemon because the manager does not listen. Called by `proxyd.daemon`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

FIRST_FD = 3  # SD_LISTEN_FDS_START
_MAX_FDS = 1024
_NANOSECONDS_PER_MICROSECOND = 1000


class ActivationError(Exception):
    """systemd handed over something that we cannot serve. The text says what and how to put it right."""


class Notifier:
    """Tells the service manager how we are. `address` is $NOTIFY_SOCKET, "" when nobody listens.

    watchdog_interval_s: how often `alive` must be called, half of what the manager allows; None for never.
    """

    def __init__(self, address: str = "", watchdog_interval_s: float | None = None) -> None:
        self.watchdog_interval_s = watchdog_interval_s
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """Takes the variables out of `environment`, so that no child believes they were meant for it."""
        address = environment.pop("NOTIFY_SOCKET", "")
        watchdog_us = environment.pop("WATCHDOG_USEC", "")
        watchdog_pid = environment.pop("WATCHDOG_PID", "")
        interval_s = None
        if watchdog_us.isdecimal() and int(watchdog_us) > 0 and watchdog_pid in {"", str(os.getpid())}:
            interval_s = int(watchdog_us) / 1_000_000 / 2
        return cls(address, interval_s)

    def ready(self, status: str) -> None:
        """Started, or a reload has ended. `status` is the line that `systemctl status` shows."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def reloading(self) -> None:
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // _NANOSECONDS_PER_MICROSECOND
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading")

    def stopping(self, status: str) -> None:
        self._send(f"STOPPING=1\nSTATUS={_one_line(status)}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_one_line(status)}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            # A manager that is away or slow is no reason to stop serving: without pings it will act itself.
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)


def activated_sockets(environment: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The listening sockets that systemd opened for this process, by FileDescriptorName.

    Takes the variables out of `environment`; {} when there are none or they are meant for another process.
    The caller owns the sockets. Raises ActivationError.
    """
    pid = environment.pop("LISTEN_PID", "")
    count_text = environment.pop("LISTEN_FDS", "")
    names_text = environment.pop("LISTEN_FDNAMES", "")
    if not pid or pid != str(os.getpid()):
        return {}
    if not count_text.isdecimal() or int(count_text) > _MAX_FDS:
        raise ActivationError(f"LISTEN_FDS is {count_text!r}; systemd sets it to a number of sockets")
    count = int(count_text)
    names = names_text.split(":") if names_text else ["unknown"] * count
    if len(names) != count:
        raise ActivationError(f"LISTEN_FDNAMES has {len(names)} names for {count} sockets")
    found: dict[str, list[socket.socket]] = {}
    for number, name in enumerate(names, start=FIRST_FD):
        found.setdefault(name, []).append(_listening_socket(number, name))
    return found


def _listening_socket(number: int, name: str) -> socket.socket:
    remedy = f"the socket unit {name!r} needs ListenStream= and Accept=no"
    try:
        os.set_inheritable(number, False)
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise ActivationError(f"descriptor {number} is no socket ({error.strerror}); {remedy}") from None
    is_stream = sock.type == socket.SOCK_STREAM
    if not is_stream or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        raise ActivationError(f"descriptor {number} is not a listening stream socket; {remedy}")
    sock.setblocking(False)
    return sock


def _one_line(text: str) -> str:
    """A newline would start another variable of the message."""
    return " ".join(text.split())
