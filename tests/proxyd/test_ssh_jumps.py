"""Jumps (`ssh -J`): connections that the gateway dials for a client and moves bytes over."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from protocols.ssh import messages as wire
from protocols.ssh.opens import DirectTcpip
from proxyd.metrics import SessionOutcome
from proxyd.ssh_jumps import HANG_UP_TIMEOUT_S
from tests.proxyd.gates.ssh.playbook import PEER_PACKET, POLICY, document
from tests.proxyd.ssh_house import HOST, Document, Peer, SshHouse, ssh_house
from tests.proxyd.test_ssh_session import advance, at_the_menu, only_session

JUMPS = POLICY.replace('forward: ["db.internal:5432"', 'forward: ["*:*"')
NO_ACCESS = JUMPS.replace("logins: [deploy]", "logins: [nobody]")
LIMITED = JUMPS.replace("logins: [deploy]}", "logins: [deploy], session: {idle: 60s, max: 10m}}")


class Landing:
    """Where a jump leads: plain connections to the target's address, as the test takes them."""

    def __init__(self, house: SshHouse) -> None:
        self._in, self._out = trio.open_memory_channel[trio.SocketStream](10)
        self.house = house

    async def serve(self, stream: trio.SocketStream) -> None:
        self._in.send_nowait(stream)
        await trio.sleep_forever()

    async def next(self) -> trio.SocketStream:
        return await self._out.receive()


async def landing(house: SshHouse) -> Landing:
    found = Landing(house)
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    port = listener.socket.getsockname()[1]
    house.nursery.start_soon(trio.serve_listeners, found.serve, [listener])
    target = house.gateway.ssh_target("web1")
    assert target is not None
    address = target.config.address.__class__(host=HOST, port=port)
    object.__setattr__(target, "config", target.config.model_copy(update={"address": address}))
    return found


async def ask(client: Peer, window: int = 1 << 20, sender: int = 10, host: str = "web1") -> None:
    body = DirectTcpip(host, 22).encode()
    client.says(wire.channel_open("direct-tcpip", sender, window, PEER_PACKET, body))


async def jump(house: SshHouse, window: int = 1 << 20) -> tuple[Peer, trio.SocketStream]:
    """A client that has jumped, and the other end of its connection."""
    place = await landing(house)
    client = await house.client("deploy")
    await ask(client, window)
    stream = await place.next()
    assert (await client.hears(wire.OpenConfirmation)).recipient == 10
    return client, stream


async def test_bytes_go_both_ways_and_halves_end_one_by_one(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        client.says(wire.channel_data(0, b"SSH-2.0-client\r\n"))
        assert await stream.receive_some() == b"SSH-2.0-client\r\n"
        await stream.send_all(b"SSH-2.0-target\r\n")
        assert (await client.hears(wire.Data)).data == b"SSH-2.0-target\r\n"
        await stream.send_eof()
        await client.hears(wire.Eof)
        client.says(wire.channel_data(0, b"more"))
        assert await stream.receive_some() == b"more"
        client.says(wire.channel_eof(0))
        assert await stream.receive_some() == b""
        await client.hears(wire.Close)
        client.says(wire.channel_close(0))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert only_session(house).is_idle()


async def test_the_clients_half_may_end_first(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        client.says(wire.channel_data(0, b"last"), wire.channel_eof(0))
        assert b"".join([data async for data in stream]) == b"last"
        await stream.send_all(b"answer")
        assert (await client.hears(wire.Data)).data == b"answer"
        await stream.aclose()
        await client.hears(wire.Eof)
        await client.hears(wire.Close)


async def test_what_was_sent_before_the_close_still_arrives(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        pieces = [bytes([number]) * 32768 for number in range(60)]
        client.says(*(wire.channel_data(0, piece) for piece in pieces), wire.channel_close(0))
        assert b"".join([data async for data in stream]) == b"".join(pieces)
        await client.until(wire.Close)


async def test_a_target_that_takes_nothing_is_left_in_the_end(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.says(*(wire.channel_data(0, b"x" * 65536) for _ in range(32)), wire.channel_close(0))
        await advance(mock_clock, HANG_UP_TIMEOUT_S + 1)
        with pytest.raises(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
            raise trio.BrokenResourceError("a plain end will do")
        assert only_session(house).is_idle()


async def test_a_connection_that_breaks(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        stream.socket.close()
        await client.hears(wire.Close)
        client.says(wire.channel_data(0, b"late"), wire.channel_close(0))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert client.leg.lost is None


@pytest.mark.parametrize("window", [1 << 16, 0xFFFFFFFF])
async def test_a_client_that_does_not_read_is_not_read_for(tmp_path: Path, window: int) -> None:
    """Neither its channel's window nor its socket lets the gateway keep more than it may."""
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house, window)
        client.leg.pause_reading()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while sent < 200:
                await stream.send_all(b"x" * (1 << 20))
                sent += 1

        house.nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked(0.3)
        # What the sockets' own buffers hold, and a few marks' worth of ours.
        assert sent < 40
        client.leg.resume_reading()
        await client.hears(wire.Data)


async def test_a_target_that_does_not_take_data_is_not_sent_more(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        granted = 2 * 1024 * 1024
        client.says(*(wire.channel_data(0, b"x" * 65536) for _ in range(granted // 65536)))
        got = 0
        while got < granted:
            got += len(await stream.receive_some())
        assert sum(one.added for one in [await client.hears(wire.WindowAdjust)]) <= granted


async def test_addresses_that_are_no_targets(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client = await house.client("deploy")
        for host in ("169.254.169.254", "localhost", "web2"):
            await ask(client, host=host)
            failure = await client.hears(wire.OpenFailure)
            assert failure.text == "proxyd: there is no target at that address that you may reach"
        assert house.tapes == []


async def test_a_target_that_is_not_there(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        await landing(house)
        target = house.gateway.ssh_target("web1")
        assert target is not None
        with socket.socket() as taken:
            taken.bind((HOST, 0))
            address = target.config.address.__class__(host=HOST, port=taken.getsockname()[1])
            object.__setattr__(target, "config", target.config.model_copy(update={"address": address}))
            client = await house.client("deploy")
            await ask(client)
            failure = await client.hears(wire.OpenFailure)
            assert failure.text.startswith("proxyd: web1 cannot be reached:")


async def test_a_reload_that_takes_access_away_ends_jumps_too(tmp_path: Path) -> None:
    failed: list[object] = []
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, stream = await jump(house)
        house.gateway.swap_policy(document(NO_ACCESS))
        assert await house.gateway.sessions.judge_again(failed.append) == 1
        await client.ended.wait()
        assert client.last_words == "disconnected: proxyd: access to web1 has been taken away"
        assert await stream.receive_some() == b""
    assert not failed


async def test_limits_of_the_access_count_for_jumps_too(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    def adjust(config: Document) -> None:
        config["listeners"][0]["keepalive"] = "1h"

    async with ssh_house(tmp_path, policy=LIMITED, adjust=adjust) as house:
        client, stream = await jump(house)
        await advance(mock_clock, 59)
        await stream.send_all(b".")
        await client.hears(wire.Data)
        await advance(mock_clock, 59)
        assert client.leg.lost is None
        await advance(mock_clock, 2)
        await client.ended.wait()
        assert client.last_words == "disconnected: proxyd: this session was idle for too long"


async def test_a_jump_is_on_the_tape_and_in_the_log(tmp_path: Path) -> None:
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        client, _ = await jump(house)
        assert only_session(house).target == "web1"
        only_session(house).end(SessionOutcome.ENDED, "ended by root")
        await client.ended.wait()
        line = await house.until_logged("session ended")
        assert (line["target"], line["login"], line["operations"]) == ("web1", "deploy", 1)
        assert len(house.tapes) == 1


async def test_a_menu_on_the_connection_of_a_jump_leads_nowhere(tmp_path: Path) -> None:
    """The tape is about the target that was jumped to."""
    async with ssh_house(tmp_path, policy=JUMPS) as house:
        place = await landing(house)
        client = await at_the_menu(house)
        await ask(client, sender=11)
        await place.next()
        await client.hears(wire.OpenConfirmation)
        client.says(wire.channel_data(0, b"1\n"))
        words = await client.hears(wire.ExtendedData)
        assert b"in use for `ssh -J`" in words.data
        assert len(house.tapes) == 1
