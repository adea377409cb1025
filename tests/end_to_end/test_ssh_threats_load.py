"""Many at once, and a fault in the middle of them: everybody who should come in does, and who is not concerned never
notices.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protocols.ssh import messages as wire
from tests.end_to_end.conftest import SshdFactory, SshGatewayFactory
from tests.end_to_end.running import Document, wait_until
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_raw import RawClient, credential
from tests.ssh_pki import string

PEOPLE = 100


class PatientClient(RawClient):
    """Gives nobody up on a slow machine."""

    patience_s = 120.0


def patiently(config: Document) -> None:
    config["listeners"][0]["limits"] |= {"handshake_timeout": "120s"}
    config["targets"][0]["connect_timeout"] = "120s"


def test_a_hundred_sessions_that_reconnect_at_once(
    make_sshd: SshdFactory, make_ssh_gateway: SshGatewayFactory
) -> None:
    """Their target goes away under all of them, and is there again: each is told, and each gets in again."""
    server = make_sshd()
    gateway = make_ssh_gateway(server, adjust=patiently)
    all_are_in = threading.Barrier(PEOPLE, action=server.restart)
    said: list[str] = []

    def live(number: int) -> None:
        with _aborting(all_are_in):
            visit_twice(number)

    def visit_twice(number: int) -> None:
        for visit in ("first", "second"):
            with PatientClient.logged_in(gateway) as client:
                word = f"{visit} {number}\n".encode()
                assert client.run(b"echo " + word)[0] == word
                if visit == "first":
                    all_are_in.wait(PatientClient.patience_s)
                    said.append(client.until_end())

    credential(gateway)  # made once, before there are threads
    before = gateway.daemon.memory_kib()
    with ThreadPoolExecutor(PEOPLE) as pool:
        for done in [pool.submit(live, number) for number in range(PEOPLE)]:
            done.result()
    assert said == ["proxyd: the target has closed the connection"] * PEOPLE
    wait_until(lambda: len(gateway.logged("session ended")) == 2 * PEOPLE, "the end of all sessions")
    assert not gateway.logged("connection refused")
    assert gateway.daemon.memory_kib() - before < 200 * PEOPLE
    assert gateway.route().output("echo well") == "well\n"


@contextlib.contextmanager
def _aborting(barrier: threading.Barrier) -> Iterator[None]:
    """Who fails keeps nobody waiting."""
    try:
        yield
    except BaseException:
        barrier.abort()
        raise


# Loaded by Python before anything of ours: a fault that meets one command.
FAULT = """\
try:
    import proxyd.gates.ssh.sessions as sessions
    sound = sessions.exec_facts

    def faulty(command, *, has_pty):
        if b"a command with a fault" in command:
            raise RuntimeError("the fault")
        return sound(command, has_pty=has_pty)

    sessions.exec_facts = faulty
except ImportError:
    pass
"""


@pytest.fixture
def faulty_gateway(
    make_ssh_gateway: SshGatewayFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SshGateway:
    place = tmp_path / "fault"
    place.mkdir()
    (place / "sitecustomize.py").write_text(FAULT)
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", str(place) if inherited is None else f"{place}:{inherited}")
    return make_ssh_gateway()


def test_a_fault_in_one_session_leaves_the_others(faulty_gateway: SshGateway) -> None:
    """Whoever met it is told to come again; the log has it once; nothing of the command has reached the target."""
    gateway = faulty_gateway
    with RawClient.logged_in(gateway) as other, RawClient.logged_in(gateway) as unlucky:
        channel = other.open_session()
        assert other.ask_channel(channel, "exec", string("cat"))
        assert unlucky.run(b"echo well")[0] == b"well\n"
        number = unlucky.open_session()
        unlucky.ask_channel(number, "exec", string("echo a command with a fault"), want_reply=False)
        assert unlucky.until_end() == "proxyd: the gateway has failed; connect again"
        peer = other.peers[channel]
        other.send(wire.channel_data(peer, b"still here"), wire.channel_eof(peer))
        assert other.until_close(channel)[0] == b"still here"
        assert other.run(b"echo well")[0] == b"well\n"
    wait_until(lambda: bool(gateway.logged("session ended", outcome="failed")), "the line")
    [fault] = gateway.logged("a session failed")
    assert "the fault" in fault["exception"]
    assert gateway.metrics()["proxyd_session_crashes_total"] == 1
    assert gateway.route().output("echo again") == "again\n"
