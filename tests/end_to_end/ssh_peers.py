"""What stands at the far ends of forwarded connections: an echo, a silent display, a client of SOCKS, a key agent.

Each listens before its constructor returns, works in threads of its own and is a context manager.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.child_process import end
from tests.end_to_end.running import HOST, WAIT_S, wait_until
from tests.end_to_end.ssh_route import SshRoute, environment

SOCKS_VERSION = 5  # RFC 1928
X11_BASE_PORT = 6000
COOKIE = bytes(range(16))


class Listener:
    """Accepts on loopback TCP, or on the unix socket `path`, and hands each connection to `serve` in a thread."""

    def __init__(self, path: Path | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._socket.bind(str(path) if path else (HOST, 0))
        self._socket.listen(100)
        self.accepted = 0
        self._accepting = threading.Thread(target=self._accept)
        self._serving: list[threading.Thread] = []
        self._accepting.start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._socket.close()
        self._accepting.join(WAIT_S)
        for thread in self._serving:
            thread.join(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.accepted += 1
            self._serving.append(threading.Thread(target=self._serve, args=(connection,)))
            self._serving[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        if connection.family is socket.AF_INET:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(ConnectionError):
            self.serve(connection)


class Echo(Listener):
    """Gives back what comes; when the other side has said its last word, adds its own and closes."""

    LAST_WORD = b"<end of echo>"

    def serve(self, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.sendall(self.LAST_WORD)


class Display(Listener):
    """The setup of an X server, as far as a client needs to know that one is there (X11 protocol, section 8).

    cookies: the authorization that each client showed.
    """

    def __init__(self) -> None:
        self.cookies: list[bytes] = []
        super().__init__()  # display N of a host is at 6000 + N

    @property
    def name(self) -> str:
        return f"{HOST}:{self.port - X11_BASE_PORT}"

    def serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as reader:
            order, _, _, name_length, data_length = struct.unpack("<cxHHHHxx", reader.read(12))
            assert order == b"l"
            reader.read(name_length + -name_length % 4)
            self.cookies.append(reader.read(data_length + -data_length % 4)[:data_length])
            connection.sendall(struct.pack("<BxHHH", 1, 11, 0, 0))
            reader.read()  # until the client closes


# What an X client does first, for want of one on the machine: python3 - on the target.
X_CLIENT = r"""
import os, re, socket, struct, subprocess
display = os.environ["DISPLAY"]
listed = subprocess.run(["xauth", "-i", "list", display], capture_output=True, text=True, check=True).stdout
cookie = bytes.fromhex(listed.split()[-1])
host, number = re.fullmatch(r"(.*):(\d+)\.0", display).groups()
with socket.create_connection((host, 6000 + int(number)), 60) as connection:
    name = b"MIT-MAGIC-COOKIE-1"
    request = struct.pack("<cxHHHHxx", b"l", 11, 0, len(name), len(cookie))
    connection.sendall(request + name + bytes(-len(name) % 4) + cookie)
    print("answer", connection.recv(8).hex())
"""


class Agent:
    """A key agent of our own with one key. `options` of ssh and `env` of the client carry it to the target."""

    options = ("-A", "-o", "IdentityAgent=SSH_AUTH_SOCK")

    def __init__(self, key: Path) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="agent-"))
        path = self._directory / "socket"
        self.env = {"SSH_AUTH_SOCK": str(path)}
        words = ["ssh-agent", "-D", "-a", str(path)]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment())
        wait_until(lambda: _listens(path), "the agent's socket")
        subprocess.run(["ssh-add", "-q", str(key)], env=environment(self.env), check=True, timeout=WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self._process)
        shutil.rmtree(self._directory, ignore_errors=True)


class Tunnel:
    """`ssh -N` in the background with the options of some forward, up when the constructor returns.

    Raises TimeoutError with what ssh said when it does not come up.
    """

    def __init__(self, route: SshRoute, *options: str, ready: str = "Entering interactive session") -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="tunnel-"))
        fixed = ("-N", "-o", "LogLevel=DEBUG1", "-o", "ExitOnForwardFailure=yes")
        with (self._directory / "log").open("wb") as log_file:
            self.process = subprocess.Popen(
                route.words(*fixed, *options, route.name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log_file,
                env=environment(),
            )
        try:
            wait_until(lambda: ready in self.log() or self.process.poll() is not None, "the tunnel")
            if self.process.poll() is not None:
                raise TimeoutError("ssh has ended")
        except TimeoutError as error:
            log = self.log()
            self.close()
            raise TimeoutError(f"{error}; ssh said:\n{log}") from None

    def log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")

    def allocated_port(self) -> int:
        """The port that the target picked for `-R 0:...`."""
        found = re.search(r"Allocated port (\d+) for remote forward", self.log())
        assert found, self.log()
        return int(found[1])

    def close(self) -> None:
        end(self.process)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def dial(where: int | Path) -> socket.socket:
    """A connection to a port on loopback, or to a unix socket."""
    connection = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
    connection.settimeout(WAIT_S)
    connection.connect((HOST, where) if isinstance(where, int) else str(where))
    return connection


def dial_by_socks(proxy: int, host: str, port: int) -> socket.socket:
    """A connection through a SOCKS proxy on loopback. Raises ConnectionRefusedError when it says no."""
    connection = dial(proxy)
    name = host.encode()
    request = bytes([SOCKS_VERSION, 1, 0, 3, len(name)]) + name + struct.pack(">H", port)
    connection.sendall(bytes([SOCKS_VERSION, 1, 0]) + request)
    answer = b""
    while len(answer) < 12 and (data := connection.recv(12 - len(answer))):
        answer += data
    if answer[:4] != bytes([SOCKS_VERSION, 0, SOCKS_VERSION, 0]):
        connection.close()
        raise ConnectionRefusedError(answer.hex())
    return connection


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """Send `data` and close that half; give everything that comes back until the other half ends, however it does."""
    received = bytearray()

    def receive() -> None:
        with contextlib.suppress(ConnectionResetError):
            while chunk := connection.recv(65536):
                received.extend(chunk)

    with connection:
        reading = threading.Thread(target=receive)
        reading.start()
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reading.join(WAIT_S * 3)
    return bytes(received)


def echoes(where: int | Path, data: Sequence[bytes] = (b"hello",)) -> bool:
    """Does an `Echo` answer there, whole and to the end?"""
    return all(exchange(dial(where), one) == one + Echo.LAST_WORD for one in data)


def write_cookie(authority: Path, display: str) -> dict[str, str]:
    """The environment of somebody who sits at `display` and may use it."""
    variables = {"DISPLAY": display, "XAUTHORITY": str(authority)}
    words = ["xauth", "-q", "add", display, "MIT-MAGIC-COOKIE-1", COOKIE.hex()]
    subprocess.run(words, env=environment(variables), check=True, capture_output=True, timeout=WAIT_S)
    return variables


@contextlib.contextmanager
def unix_directory() -> Iterator[Path]:
    """A new directory with a path short enough for unix sockets in it. What still ends there may do so afterwards."""
    path = Path(tempfile.mkdtemp(prefix="fwd-", dir="/tmp" if os.access("/tmp", os.W_OK) else None))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
