"""What is said to systemd, and the sockets taken from it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxyd import notify
from proxyd.notify import ActivationError, Notifier, activated_sockets


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def notifier_for(manager: socket.socket, **more: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": manager.getsockname(), **more})


def test_the_life_of_a_daemon(manager: socket.socket) -> None:
    notifier = notifier_for(manager)
    notifier.ready("serving 1 listener")
    assert heard(manager) == ["READY=1", "STATUS=serving 1 listener"]
    notifier.reloading()
    reloading = dict(line.split("=") for line in heard(manager))
    assert reloading["RELOADING"] == "1"
    assert int(reloading["MONOTONIC_USEC"]) > 0
    notifier.alive()
    assert heard(manager) == ["WATCHDOG=1"]
    notifier.stopping("draining 3 sessions")
    assert heard(manager) == ["STOPPING=1", "STATUS=draining 3 sessions"]
    notifier.close()
    notifier.alive()
    with pytest.raises(BlockingIOError):
        heard(manager)


def test_a_status_is_one_line(manager: socket.socket) -> None:
    notifier = notifier_for(manager)
    notifier.status("a\nREADY=1")
    assert heard(manager) == ["STATUS=a READY=1"]
    notifier.close()


def test_abstract_sockets() -> None:
    name = f"proxyd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        notifier = Notifier(f"@{name}")
        notifier.alive()
        assert sock.recv(100) == b"WATCHDOG=1"
        notifier.close()


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier.from_environment({})
    notifier.ready("up")
    assert notifier.watchdog_interval_s is None


def test_a_manager_that_is_gone_does_no_harm(manager: socket.socket) -> None:
    notifier = notifier_for(manager)
    manager.close()
    notifier.ready("up")
    notifier.close()


def test_a_manager_that_does_not_read_does_not_block(manager: socket.socket) -> None:
    notifier = notifier_for(manager)
    for _ in range(10_000):
        notifier.alive()
    notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        ("30000000", str(os.getpid()), 15.0),
        ("30000000", "", 15.0),
        ("30000000", "1", None),
        ("0", "", None),
        ("-5", "", None),
        ("soon", "", None),
    ],
)
def test_watchdog_interval(usec: str, pid: str, interval_s: float | None) -> None:
    environment = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": pid, "OTHER": "stays"}
    assert Notifier.from_environment(environment).watchdog_interval_s == interval_s
    assert environment == {"OTHER": "stays"}


# Socket activation


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def handed_over(
    monkeypatch: pytest.MonkeyPatch, sockets: list[socket.socket], names: str, *, pid: int | None = None
) -> dict[str, list[socket.socket]]:
    """As if systemd had put `sockets` at descriptors in a row."""
    first = 200
    for number, sock in enumerate(sockets, start=first):
        os.dup2(sock.fileno(), number)
        sock.close()
    monkeypatch.setattr(notify, "FIRST_FD", first)
    environment = {
        "LISTEN_PID": str(pid or os.getpid()),
        "LISTEN_FDS": str(len(sockets)),
        "LISTEN_FDNAMES": names,
    }
    try:
        return activated_sockets(environment)
    except ActivationError:
        for number in range(first, first + len(sockets)):
            os.close(number)
        raise
    finally:
        assert environment == {}


def test_sockets_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    sockets = [listening(), listening(), listening()]
    ports = [sock.getsockname()[1] for sock in sockets]
    found = handed_over(monkeypatch, sockets, "postgres:other:postgres")
    assert [sock.getsockname()[1] for sock in found["postgres"]] == [ports[0], ports[2]]
    assert [sock.getsockname()[1] for sock in found["other"]] == [ports[1]]
    for sock in (*found["postgres"], *found["other"]):
        assert not sock.get_inheritable()
        assert not sock.getblocking()
        sock.close()


def test_sockets_for_another_process_are_left_alone() -> None:
    assert activated_sockets({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) == {}
    assert activated_sockets({"LISTEN_FDS": "1"}) == {}
    assert activated_sockets({}) == {}


def test_a_socket_that_does_not_listen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ActivationError, match="not a listening stream socket"):
        handed_over(monkeypatch, [socket.socket()], "postgres")


def test_a_datagram_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ActivationError, match="not a listening stream socket"):
        handed_over(monkeypatch, [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)], "postgres")


@pytest.mark.parametrize(
    ("count", "names"), [("x", "a"), ("-1", ""), ("5000", ""), ("2", "one"), ("1", "a:b")]
)
def test_nonsense_is_refused(count: str, names: str) -> None:
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
    with pytest.raises(ActivationError):
        activated_sockets(variables)
