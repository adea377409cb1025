"""New keys that the gateway itself asks for, by volume and by time, on both legs. When peers ask: end to end."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from asyncssh.connection import SSHConnection

from protocols.ssh import messages as wire
from proxyd.ssh_transport.algorithms import REKEY_BYTES, REKEY_S
from tests.proxyd.ssh_house import WAIT_S, Peer, run_command, ssh_house

PIECE = bytes(range(256)) * 4
PIECES = 4  # in all less than a window


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """How often each connection has begun an exchange of keys, the first one included."""
    counts: Counter[Any] = Counter()
    send = SSHConnection._send_kexinit

    def counting(connection: SSHConnection) -> None:
        counts[connection] += 1
        send(connection)

    monkeypatch.setattr(SSHConnection, "_send_kexinit", counting)
    return counts


async def through(sender: Peer, receiver: Peer, number: int) -> None:
    """Data, whole and in order."""
    with trio.fail_after(WAIT_S):
        for _ in range(PIECES):
            sender.says(wire.channel_data(number, PIECE))
        came = bytearray()
        while len(came) < PIECES * len(PIECE):
            came += (await receiver.until(wire.Data)).data
        assert bytes(came) == PIECES * PIECE


@pytest.mark.parametrize("why", ["volume", "time"])
async def test_the_gateway_asks_on_both_legs(tmp_path: Path, exchanges: Counter[Any], why: str) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        ours = [each for each in exchanges if each not in (client.leg.connection, target.leg.connection)]
        assert len(ours) == 2
        for connection in ours:
            assert exchanges[connection] == 1
            assert (connection._rekey_bytes, connection._rekey_seconds) == (REKEY_BYTES, REKEY_S)
            if why == "volume":
                connection._rekey_bytes_sent = REKEY_BYTES - len(PIECE)
            else:
                assert 0 < connection._rekey_time - time.monotonic() <= REKEY_S
                connection._rekey_time = time.monotonic()
        await through(target, client, number)
        await through(client, target, number)
        assert [exchanges[connection] for connection in ours] == [2, 2]
        assert client.leg.lost is None
        assert target.leg.lost is None


def test_how_much_and_how_long() -> None:
    """RFC 4253, 9: a gigabyte, an hour."""
    assert (REKEY_BYTES, REKEY_S) == (1 << 30, 3600)
