"""Connections that renew their keys again and again in the middle of big transfers, whoever asks for it."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from demo.ssh_keys import SshKeys
from tests.end_to_end.conftest import SshdFactory, SshGatewayFactory
from tests.end_to_end.running import wait_until
from tests.end_to_end.ssh_peers import unix_directory
from tests.end_to_end.ssh_route import SshRoute, direct_route

BIG = 16_000_000
WANTED = 4  # while keys are renewed a window of data is under way
RENEWED = r"SSH2_MSG_NEWKEYS received"


def renewals(log: str) -> int:
    return len(re.findall(RENEWED, log)) - 1  # the first keys are not renewed ones


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(BIG)


@pytest.fixture
def eager(route: SshRoute) -> SshRoute:
    """The client asks after each megabyte."""
    return route.with_options(route.directory / "eager", RekeyLimit="1M", LogLevel="DEBUG1")


def test_the_client_asks_while_it_sends(eager: SshRoute, big: bytes) -> None:
    done = eager.ssh("sha256sum", input=big)
    assert done.stdout.decode().split()[0] == hashlib.sha256(big).hexdigest()
    assert renewals(done.stderr.decode()) >= WANTED


def test_the_client_asks_while_it_receives(eager: SshRoute, big: bytes) -> None:
    path = eager.server.home / "rekeyed"
    path.write_bytes(big)
    done = eager.ssh(f"cat {path}")
    path.unlink()
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(big).digest()
    assert renewals(done.stderr.decode()) >= WANTED


def test_the_client_asks_while_data_goes_both_ways(eager: SshRoute, big: bytes) -> None:
    done = eager.ssh("cat", input=big)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(big).digest()
    assert renewals(done.stderr.decode()) >= WANTED


@pytest.fixture
def sockets() -> Iterator[Path]:
    with unix_directory() as directory:
        yield directory


def test_channels_come_and_go_while_keys_are_renewed(eager: SshRoute, sockets: Path) -> None:
    """In the middle of an exchange nothing else may be sent; what is due then is sent after it."""
    control = ("-S", f"{sockets}/control")
    pieces = 20
    with eager.popen(f"head -c {BIG} /dev/zero; exit 3", "-M", *control, "-o", "LogLevel=ERROR") as master:
        assert master.stdout is not None
        wait_until((sockets / "control").exists, "the control socket")
        received = 0
        for number in range(pieces):
            received += _read(master.stdout, BIG // pieces)
            assert eager.ssh(f"echo {number}", *control).stdout == b"%d\n" % number
        assert _read(master.stdout, BIG) + received == BIG
        assert master.wait(60) == 3


def _read(stream: IO[bytes], wanted: int) -> int:
    """Read so many bytes, or to the end; gives how many."""
    read = 0
    while read < wanted and (data := stream.read(wanted - read)):
        read += len(data)
    return read


@pytest.mark.parametrize("way", ["direct", "gateway"])
def test_the_server_asks(
    way: str,
    big: bytes,
    make_sshd: SshdFactory,
    make_ssh_gateway: SshGatewayFactory,
    ssh_keys: SshKeys,
    tmp_path: Path,
) -> None:
    server = make_sshd("RekeyLimit 1M", "LogLevel DEBUG1")
    if way == "direct":
        route = direct_route(server, ssh_keys, tmp_path / "direct")
    else:
        route = make_ssh_gateway(server).route()
    done = route.ssh("cat", input=big)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(big).digest()
    assert renewals(server.log_text()) >= WANTED


def test_both_ends_ask_at_once(
    big: bytes, make_sshd: SshdFactory, make_ssh_gateway: SshGatewayFactory
) -> None:
    """The two connections of a session renew independently of each other."""
    server = make_sshd("RekeyLimit 1M", "LogLevel DEBUG1")
    route = make_ssh_gateway(server).route()
    eager = route.with_options(route.directory / "eager", RekeyLimit="1M", LogLevel="DEBUG1")
    done = eager.ssh("cat", input=big)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(big).digest()
    assert renewals(server.log_text()) >= WANTED
    assert renewals(done.stderr.decode()) >= WANTED
