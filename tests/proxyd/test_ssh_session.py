"""Sessions from their login to their last byte, between peers that the test plays."""

from __future__ import annotations

import gc
import os
import shutil
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from protocols.ssh import messages as wire
from proxyd.gates.ssh.gate import SshGate
from proxyd.identity.ssh import Step
from proxyd.metrics import SessionOutcome
from proxyd.sessions import Session
from proxyd.ssh_relay import SshRelay
from proxyd.ssh_session import KEY_EXCHANGE_TIMEOUT_S, REFUSED_TIMEOUT_S, TICK_S, SshSession
from proxyd.ssh_transport import Leg
from proxyd.tape import writer as tape_writer
from proxyd.tape.entries import End, Event, Output
from proxyd.tape.reader import read_tape
from tests.proxyd.gates.ssh.playbook import PEER_PACKET, PEER_WINDOW, POLICY, document, exec_of, shell
from tests.proxyd.ssh_house import Document, Peer, SshHouse, open_session, run_command, ssh_house

NO_ACCESS = POLICY.replace("logins: [deploy]", "logins: [nobody]")
LIMITED = POLICY.replace("logins: [deploy]}", "logins: [deploy], session: {idle: 60s, max: 10m}}")
UNREACHABLE = "proxyd: web1 cannot be reached. Try again; if it stays so, tell the operators of the gateway."


def entries(path: Path) -> list[object]:
    with read_tape(path) as tape:
        return list(tape.entries())


def only_session(house: SshHouse) -> Session:
    (session,) = house.gateway.sessions
    return session


async def refusal(client: Peer) -> tuple[str, int]:
    """What a client that opens a session gets told there, and its exit status."""
    client.says(wire.channel_open("session", 10, PEER_WINDOW, PEER_PACKET))
    confirmed = await client.hears(wire.OpenConfirmation)
    client.says(exec_of("ls /srv", confirmed.sender))
    await client.hears(wire.ChannelSuccess)
    words = await client.hears(wire.ExtendedData)
    status = await client.hears(wire.ChannelRequest)
    await client.hears(wire.Eof)
    await client.hears(wire.Close)
    client.says(wire.channel_close(confirmed.sender))
    return words.data.decode().removesuffix("\r\n"), int.from_bytes(status.body, "big")


async def farewell(client: Peer) -> str:
    """The last line on a terminal that is open, and nothing but that before the end."""
    await client.ended.wait()
    (words,) = client.heard()
    assert isinstance(words, wire.ExtendedData)
    return words.data.decode().strip()


# --- the ordinary course ---


async def test_a_command_and_its_end(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        target.says(wire.channel_data(number, b"x\n"))
        assert (await client.hears(wire.Data)).data == b"x\n"
        client.leg.disconnect("bye")
        line = await house.until_logged("session ended")
        assert (line["reason"], line["outcome"], line["operations"]) == (
            "client: disconnected: bye",
            "client_closed",
            1,
        )
        assert (line["subject"], line["target"], line["login"]) == ("alice@example.com", "web1", "deploy")
        await target.ended.wait()
        assert target.last_words == "disconnected: the session has ended"
        (tape,) = house.tapes
        assert [entry.raw for entry in entries(tape) if isinstance(entry, Output)] == [b"x\n"]
        assert isinstance(entries(tape)[-1], End)
        assert len(house.gateway.sessions) == 0


async def test_what_the_client_says_before_its_target_is_connected_is_kept_in_order(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        peer = await house.stranger()
        alive = wire.global_request("keepalive@openssh.com", True)
        opens = [wire.channel_open("session", number, 1000, 1000) for number in range(50)]
        peer.says(*opens, alive)
        target = await house.target()
        for number in range(50):
            assert (await target.hears(wire.ChannelOpen)).sender == number
        await peer.hears(wire.RequestSuccess)


async def test_records_come_before_what_they_tell_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    send, write = Leg.send, tape_writer._write

    def sending(leg: Leg, payload: bytes) -> None:
        if b"marked" in payload:
            order.append("sent")
        send(leg, payload)

    def writing(fd: int, frame: bytes) -> int:
        if b"marked" in bytes(frame):
            order.append("taped")
        return write(fd, frame)

    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        monkeypatch.setattr(Leg, "send", sending)
        monkeypatch.setattr(tape_writer, "_write", writing)
        target.leg.connection.relay(wire.channel_data(number, b"marked"))
        await client.hears(wire.Data)
        assert order == ["taped", "sent"]


# --- targets that cannot be had ---


async def test_a_target_that_nobody_listens_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        def adjust(config: Document) -> None:
            config["targets"][0]["address"] = f"127.0.0.1:{port}"

        async with ssh_house(tmp_path, adjust=adjust) as house:
            client = await house.client()
            assert await refusal(client) == (UNREACHABLE, 255)
            assert await refusal(client) == (UNREACHABLE, 255)  # on each channel
            client.says(
                wire.channel_open("direct-tcpip", 11, 1000, 1000, b"\0\0\0\1x\0\0\0\1\0\0\0\0\0\0\0\0")
            )
            assert (await client.hears(wire.OpenFailure)).text == UNREACHABLE
            line = await house.until_logged("connection refused")
            assert "onnect" in line["reason"]
            assert line["failure"] == "target"


async def test_a_refused_client_hears_why_in_the_end_too(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with ssh_house(tmp_path, policy=NO_ACCESS) as house:
        client = await house.client()
        await trio.testing.wait_all_tasks_blocked(0.05)
        mock_clock.jump(REFUSED_TIMEOUT_S + 1)
        await client.ended.wait()
        assert 'has no access to "web1" as "deploy"' in client.last_words
        assert house.tapes == []


async def silent_target(house: SshHouse, stop: trio.Event) -> tuple[int, list[trio.SocketStream]]:
    """Accepts and says nothing."""
    taken: list[trio.SocketStream] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def serve(stream: trio.SocketStream) -> None:
        taken.append(stream)
        await stop.wait()

    house.nursery.start_soon(trio.serve_listeners, serve, [listener])
    return listener.socket.getsockname()[1], taken


def move_target(house: SshHouse, port: int) -> None:
    """From now on web1 is there."""
    target = house.gateway.targets["web1"]
    address = target.config.address.__class__(host="127.0.0.1", port=port)
    object.__setattr__(target, "config", target.config.model_copy(update={"address": address}))


async def test_a_target_that_does_not_answer(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with ssh_house(tmp_path) as house:
        port, taken = await silent_target(house, trio.Event())
        move_target(house, port)
        client = await house.client()
        while not taken:
            await trio.testing.wait_all_tasks_blocked(0.01)
        mock_clock.jump(4)
        assert await refusal(client) == (UNREACHABLE, 255)
        assert house.logged("connection refused")[0]["reason"] == "no answer within 3 s"
        # It is not kept waiting for an answer that nobody wants any more.
        assert b"".join([data async for data in taken[0]]).startswith(b"SSH-2.0-")


async def test_a_client_that_leaves_meanwhile_is_not_waited_for(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with ssh_house(tmp_path) as house:
        port, taken = await silent_target(house, trio.Event())
        move_target(house, port)
        client = await house.client()
        while not taken:
            await trio.testing.wait_all_tasks_blocked(0.01)
        client.leg.disconnect("never mind")
        line = await house.until_logged("session ended")  # no time has passed
        assert line["reason"] == "client: disconnected: never mind"
        assert len(house.gateway.sessions) == 0


async def test_a_session_is_ended_from_outside_while_its_target_is_connected(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    async with ssh_house(tmp_path) as house:
        port, taken = await silent_target(house, trio.Event())
        move_target(house, port)
        client = await house.client()
        while not taken:
            await trio.testing.wait_all_tasks_blocked(0.01)
        only_session(house).end(SessionOutcome.ENDED, "ended by root")
        await client.ended.wait()
        assert client.last_words == "disconnected: proxyd: ended by root"


async def test_a_target_that_is_another(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        house.keys["target_host"] = house.keys["bob"]
        client = await house.client()
        words, status = await refusal(client)
        assert words.startswith("proxyd: web1 shows a host key that the gateway does not know")
        assert status == 255
        assert "it is not the one in host_keys.keys" in house.logged("connection refused")[0]["reason"]
        (tape,) = house.tapes
        assert [entry.name for entry in entries(tape) if isinstance(entry, Event)] == ["refused"]


async def test_a_target_that_does_not_take_the_gateways_credential(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        house.target_guests._steps.clear()
        house.target_guests._steps.append(Step.FAILED)
        client = await house.client()
        words, status = await refusal(client)
        assert (
            words == "proxyd: web1 does not let the gateway in as deploy. Tell the operators of the gateway."
        )
        assert status == 255


async def test_a_credential_that_cannot_be_read(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        (tmp_path / "ssh/login").write_text("no key")
        client = await house.client()
        words, _ = await refusal(client)
        assert "credential for web1 cannot be used" in words
        assert "no key" not in house.stream.getvalue()


# --- targets and clients that go ---


async def test_a_target_that_closes_ends_its_session_with_a_word_and_no_other(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        other = await house.client()
        other_target = await house.target()
        number = await run_command(client, target)
        other_number = await run_command(other, other_target)
        target.says(wire.channel_data(number, b"last words"))
        target.leg.close()
        assert (await client.hears(wire.Data)).data == b"last words"
        assert await farewell(client) == "proxyd: the target has closed the connection"
        assert client.last_words == "disconnected: proxyd: the target has closed the connection"
        other_target.says(wire.channel_data(other_number, b"still"))
        assert (await other.hears(wire.Data)).data == b"still"


async def test_a_target_that_says_why_is_quoted_in_the_log(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        await run_command(client, target)
        target.leg.disconnect("going down for \x1b[1mmaintenance")
        line = await house.until_logged("session ended")
        assert line["reason"] == "target: disconnected: going down for ?[1mmaintenance"
        assert line["outcome"] == "target_closed"


@pytest.mark.parametrize("side", ["client", "target"])
async def test_a_side_that_breaks_the_protocol_ends_its_own_session(tmp_path: Path, side: str) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        other = await house.client()
        other_target = await house.target()
        await run_command(client, target)
        {"client": client, "target": target}[side].says(wire.channel_data(77, b"x"))
        assert await farewell(client) == "proxyd: protocol error: there is no channel 77"
        line = await house.until_logged("session ended")
        assert line["reason"] == f"{side} broke the protocol: there is no channel 77"
        await target.ended.wait()
        await run_command(other, other_target)


async def test_nothing_is_done_of_what_stands_behind_a_fault_in_one_packet(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        number = await open_session(client, target)
        client.says(wire.channel_data(77, b"x"), exec_of("ls /srv", number))
        await target.ended.wait()
        assert target.heard() == []


async def test_nothing_is_done_of_what_stands_behind_a_disconnect(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        number = await open_session(client, target)
        leg = client.leg
        with leg.corked():
            leg.connection._send_disconnect(11, "bye", "en")
            leg.send(exec_of("ls /srv", number))
        await target.ended.wait()
        assert target.heard() == []


# --- the tape ---


async def test_a_tape_that_cannot_be_opened(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        shutil.rmtree(tmp_path / "tapes")
        (tmp_path / "tapes").write_text("no directory")
        client = await house.client()
        words, status = await refusal(client)
        assert words.startswith("proxyd: the session cannot be recorded, so it does not begin.")
        assert status == 126
        assert house.logged("connection refused")[0]["failure"] == "tape"
        assert house.metrics.tape_errors == 1
        with pytest.raises(trio.WouldBlock):
            house._targets.receive_nowait()  # nobody has gone there


def full_disk(_fd: int, _frame: bytes) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("side", ["client", "target"])
async def test_what_the_tape_cannot_take_is_not_passed_on(
    tmp_path: Path, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        other = await house.client()
        number = await run_command(client, target)
        monkeypatch.setattr(tape_writer, "_write", full_disk)
        {"client": client, "target": target}[side].says(wire.channel_data(number, b"unrecorded"))
        text = "the session can no longer be recorded, so it ends. Tell the operators of the gateway."
        assert await farewell(client) == f"proxyd: {text}"
        assert client.last_words == f"disconnected: proxyd: {text}"
        await target.ended.wait()
        assert target.heard() == []
        line = await house.until_logged("session ended")
        assert line["outcome"] == "tape_failed" or "tape" in line["outcome"]
        assert other.leg.lost is None


async def test_what_was_recorded_with_what_was_not_is_not_passed_on_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one batch nothing is sent, since it goes out as one."""
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        left = [1]

        def nearly_full(fd: int, frame: bytes) -> int:
            if not left:
                raise OSError(28, "No space left on device")
            left.pop()
            return os.write(fd, frame)

        monkeypatch.setattr(tape_writer, "_write", nearly_full)
        target.says(*(wire.channel_data(number, b"%d" % piece) for piece in range(3)))
        assert (await farewell(client)).startswith("proxyd: the session can no longer be recorded")


# --- limits ---


async def advance(clock: trio.testing.MockClock, seconds: float) -> None:
    await trio.testing.wait_all_tasks_blocked(0.05)
    clock.jump(seconds)
    await trio.testing.wait_all_tasks_blocked(0.05)


def asks_seldom(config: Document) -> None:
    config["listeners"][0]["keepalive"] = "1h"


async def test_an_idle_session_ends(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with ssh_house(tmp_path, policy=LIMITED, adjust=asks_seldom) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        await advance(mock_clock, 59)
        target.says(wire.channel_data(number, b"."))
        await client.hears(wire.Data)
        await advance(mock_clock, 59)
        assert client.leg.lost is None
        await advance(mock_clock, 2)
        assert await farewell(client) == "proxyd: this session was idle for too long"
        assert (await house.until_logged("session ended"))["outcome"] == "idle"


async def test_keepalives_are_no_activity(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    def adjust(config: Document) -> None:
        config["listeners"][0]["keepalive"] = "10s"

    async with ssh_house(tmp_path, policy=LIMITED, adjust=adjust) as house:
        client = await house.client()
        target = await house.target()
        await run_command(client, target)
        for _ in range(5):
            await advance(mock_clock, 11)
            for peer in (client, target):
                asked = await peer.hears(wire.GlobalRequest)
                assert asked.name == "keepalive@openssh.com"
                peer.says(wire.request_failure())
            client.says(wire.global_request("keepalive@openssh.com", True))
            await client.hears(wire.RequestSuccess)
        await advance(mock_clock, 6)
        assert await farewell(client) == "proxyd: this session was idle for too long"


async def test_keepalives_on_a_channel_are_no_activity(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    """As sshd asks whether its client is alive while a channel is open, and some clients their server."""
    async with ssh_house(tmp_path, policy=LIMITED, adjust=asks_seldom) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        for _ in range(5):
            await advance(mock_clock, 11)
            target.says(wire.channel_request(number, "keepalive@openssh.com", True))
            await target.hears(wire.ChannelFailure)
            client.says(wire.channel_request(number, "keepalive@example.com", True))
            await client.hears(wire.ChannelFailure)
        await advance(mock_clock, 6)
        assert await farewell(client) == "proxyd: this session was idle for too long"


async def test_a_session_has_a_longest_time(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with ssh_house(tmp_path, policy=LIMITED, adjust=asks_seldom) as house:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        for _ in range(11):
            await advance(mock_clock, 55)
            target.says(wire.channel_data(number, b"."))
        await client.ended.wait()
        assert client.last_words == "disconnected: proxyd: this session has reached its longest time"
        assert (await house.until_logged("session ended"))["outcome"] == "max_age"


@pytest.mark.parametrize("who", ["client", "target"])
async def test_an_end_that_does_not_answer_is_gone(
    tmp_path: Path, mock_clock: trio.testing.MockClock, who: str
) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        await run_command(client, target)
        present = {"client": target, "target": client}[who]
        for _ in range(4):
            await advance(mock_clock, 31)
            present.says(wire.request_failure())
        line = await house.until_logged("session ended")
        assert line["reason"] == f"the {who} does not answer"


@pytest.mark.parametrize("who", ["client", "target"])
async def test_a_key_exchange_that_never_ends(
    tmp_path: Path, mock_clock: trio.testing.MockClock, who: str
) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        await run_command(client, target)
        peer = {"client": client, "target": target}[who]
        peer.leg.pause_reading()
        peer.leg.connection._send_kexinit()
        for _ in range(int(KEY_EXCHANGE_TIMEOUT_S / TICK_S) + 3):
            await advance(mock_clock, TICK_S)
        line = await house.until_logged("session ended")
        assert line["reason"] == "a key exchange that does not end"


# --- ends from outside ---


async def test_a_reload_that_takes_access_away_ends_the_session(tmp_path: Path) -> None:
    failed: list[object] = []
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        await run_command(client, target)
        house.gateway.swap_policy(document(POLICY + "# another\n"))
        assert await house.gateway.sessions.judge_again(failed.append) == 0
        assert client.leg.lost is None
        house.gateway.swap_policy(document(NO_ACCESS))
        assert await house.gateway.sessions.judge_again(failed.append) == 1
        assert await farewell(client) == "proxyd: access to web1 has been taken away"
        assert (await house.until_logged("session ended"))["outcome"] == "revoked"
        assert not failed


async def test_somebody_ends_a_session(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        await run_command(client, target)
        only_session(house).end(SessionOutcome.ENDED, "ended by root")
        assert await farewell(client) == "proxyd: ended by root"
        assert client.last_words == "disconnected: proxyd: ended by root"
        await target.ended.wait()


async def test_draining_spares_what_is_under_way(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        busy = await house.client()
        number = await run_command(busy, await house.target())
        idle = await house.client()
        target = await house.target()
        await trio.testing.wait_all_tasks_blocked(0.05)
        sessions = house.gateway.sessions
        assert sessions.end_idle(SessionOutcome.DRAINED, "the gateway is shutting down") == 1
        await idle.ended.wait()
        assert idle.last_words == "disconnected: proxyd: the gateway is shutting down"
        assert busy.leg.lost is None
        sessions.end_all(SessionOutcome.DRAINED, "the drain deadline has passed")
        assert await farewell(busy) == "proxyd: the drain deadline has passed"
        await target.ended.wait()
        assert number == 0


async def test_nobody_is_let_in_while_the_gateway_drains(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        house.gateway.drain.set()
        words, _ = await refusal(await house.client())
        assert words == "proxyd: the gateway is shutting down. Try again in a moment."


async def test_a_session_that_is_cancelled_still_ends_its_tape(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        number = await run_command(client, await house.target())
    (tape,) = house.tapes
    last = entries(tape)[-1]
    assert isinstance(last, End)
    assert last.reason == "cancelled"
    assert number == 0
    assert house.logged("session ended")[0]["outcome"] == "drained"


# --- faults of ours ---


async def test_a_fault_in_the_gate_ends_one_session_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ssh_house(tmp_path) as house:
        client = await house.client()
        target = await house.target()
        other = await house.client()
        other_target = await house.target()
        await run_command(client, target)
        from_client = SshGate.from_client

        def broken(gate: SshGate, payload: bytes) -> None:
            if b"please break" in payload:
                raise ValueError("broken")
            from_client(gate, payload)

        monkeypatch.setattr(SshGate, "from_client", broken)
        client.says(wire.channel_data(0, b"please break"))
        assert await farewell(client) == "proxyd: the gateway has failed; connect again"
        assert (await house.until_logged("session ended"))["outcome"] == "failed"
        assert len(house.logged("a session failed")) == 1
        assert house.metrics.session_crashes == 1
        await run_command(other, other_target)


@pytest.mark.parametrize("method", ["_ask_if_alive", "_check_limits"])
async def test_a_fault_in_the_watch_ends_one_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock, method: str
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    async with ssh_house(tmp_path) as house:
        client = await house.client()
        await run_command(client, await house.target())
        monkeypatch.setattr(SshSession, method, broken)
        await advance(mock_clock, TICK_S)
        assert await farewell(client) == "proxyd: the gateway has failed; connect again"
        monkeypatch.undo()
        assert (await house.client()).leg.lost is None


@pytest.mark.parametrize("method", ["_connect", "_settings", "_judge"])
async def test_a_fault_at_the_beginning_ends_one_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    async with ssh_house(tmp_path) as house:
        monkeypatch.setattr(SshSession, method, broken)
        client = await house.client()
        await client.ended.wait()
        assert client.last_words == "disconnected: proxyd: the gateway has failed; connect again"
        monkeypatch.undo()
        assert (await house.client()).leg.lost is None


async def test_a_fault_in_the_farewell_does_not_keep_the_tape_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("broken")

    async with ssh_house(tmp_path) as house:
        client = await house.client()
        await run_command(client, await house.target())
        monkeypatch.setattr(SshRelay, "say_farewell", broken)
        only_session(house).end(SessionOutcome.ENDED, "ended by root")
        await client.ended.wait()
        assert isinstance(entries(house.tapes[0])[-1], End)
        assert len(house.gateway.sessions) == 0


# --- what is left behind ---


def living(*kinds: type) -> list[object]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, kinds)]


async def test_sessions_leave_nothing_behind(tmp_path: Path) -> None:
    async def visit(house: SshHouse) -> None:
        client = await house.client()
        target = await house.target()
        number = await run_command(client, target)
        target.says(wire.channel_data(number, b"x"))
        await client.hears(wire.Data)
        client.leg.disconnect("bye")
        await client.ended.wait()
        await target.ended.wait()

    async with ssh_house(tmp_path) as house:
        await visit(house)
        await house.until_logged("session ended", 1)
        await trio.testing.wait_all_tasks_blocked(0.05)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            await visit(house)
        await house.until_logged("session ended", 6)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(house.gateway.sessions) == 0
        assert house.runtime.open_connections == 0
        assert living(SshSession, SshRelay, SshGate, Leg) == []


# --- the menu ---


async def at_the_menu(house: SshHouse) -> Peer:
    client = await house.client("deploy")
    client.says(wire.channel_open("session", 10, PEER_WINDOW, PEER_PACKET))
    await client.hears(wire.OpenConfirmation)
    client.says(shell())
    await client.hears(wire.ChannelSuccess)
    assert b"1  deploy+web1" in (await client.hears(wire.Data)).data
    return client


async def test_a_choice_from_the_menu(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await at_the_menu(house)
        assert house.tapes == []
        client.says(wire.channel_data(0, b"1\n"))
        target = await house.target()
        asked = await target.hears(wire.ChannelOpen)
        target.says(wire.open_confirmation(asked.sender, 40, PEER_WINDOW, PEER_PACKET))
        assert (await target.hears(wire.ChannelRequest)).name == "shell"
        target.says(wire.channel_success(0), wire.channel_data(0, b"$ "))
        assert (await client.hears(wire.Data)).data == b"$ "
        assert only_session(house).target == "web1"
        assert len(house.tapes) == 1


async def test_a_choice_that_cannot_be_had(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        house.keys["target_host"] = house.keys["bob"]
        client = await at_the_menu(house)
        client.says(wire.channel_data(0, b"1\n"))
        assert b"host key" in (await client.hears(wire.ExtendedData)).data
        assert (await client.hears(wire.ChannelRequest)).body == b"\0\0\0\xff"


async def test_a_choice_that_cannot_be_recorded(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await at_the_menu(house)
        shutil.rmtree(tmp_path / "tapes")
        (tmp_path / "tapes").write_text("no directory")
        client.says(wire.channel_data(0, b"1\n"))
        assert (await farewell(client)).startswith("proxyd: the session can no longer be recorded")


async def test_a_menu_is_drained_at_once(tmp_path: Path) -> None:
    async with ssh_house(tmp_path) as house:
        client = await at_the_menu(house)
        house.gateway.sessions.end_idle(SessionOutcome.DRAINED, "the gateway is shutting down")
        assert await farewell(client) == "proxyd: the gateway is shutting down"
