"""Clients that are libraries, or made of others: paramiko, asyncssh and Go's, which ask in other ways than OpenSSH's.

They show what OpenSSH's client keeps to itself: the order of replies, exit signals by name, many channels of one
connection in one hand.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncssh
import paramiko  # type: ignore[import-untyped]
import pytest

from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import HOST, WAIT_S, wait_until
from tests.end_to_end.ssh_peers import Echo, dial, exchange
from tests.end_to_end.ssh_route import SshRoute, run

BIG = 20_000_000
CHANNELS = 30


class TestParamiko:
    @pytest.fixture
    def client(self, route: SshRoute) -> Iterator[Any]:
        with route.paramiko() as client:
            yield client

    def test_a_command(self, client: Any) -> None:
        stdin, stdout, stderr = client.exec_command("cat; echo err >&2; exit 5", timeout=WAIT_S)
        stdin.write(b"typed")
        stdin.channel.shutdown_write()
        assert stdout.read() == b"typed"
        assert stderr.read() == b"err\n"
        assert stdout.channel.recv_exit_status() == 5

    def test_data_right_behind_the_request(self, client: Any) -> None:
        """Sent before the server has said that the command runs."""
        data = os.urandom(40_000)
        channel = client.get_transport().open_session()
        with channel:
            channel.settimeout(WAIT_S)
            message = paramiko.Message()
            message.add_byte(bytes([98]))  # SSH_MSG_CHANNEL_REQUEST, no reply wanted
            message.add_int(channel.remote_chanid)
            message.add_string("exec")
            message.add_boolean(False)
            message.add_string("cat")
            channel.transport._send_user_message(message)
            channel.sendall(data)
            channel.shutdown_write()
            assert channel.makefile("rb").read() == data
            assert channel.recv_exit_status() == 0

    def test_many_channels_and_one_that_fails(self, client: Any) -> None:
        """Each has its own end; those that end badly, or are thrown away in the middle, hurt no other."""
        transport = client.get_transport()
        results: dict[int, tuple[bytes, int]] = {}

        def talk(number: int) -> None:
            with transport.open_session() as channel:
                channel.settimeout(WAIT_S)
                channel.exec_command(f"cat; exit {number}")
                channel.sendall(b"%d" % number * 50_000)
                channel.shutdown_write()
                results[number] = (channel.makefile("rb").read(), channel.recv_exit_status())

        def break_off() -> None:
            channel = transport.open_session()
            channel.exec_command("yes")
            channel.recv(1000)
            channel.close()

        def be_killed() -> None:
            with transport.open_session() as channel:
                channel.exec_command("kill -9 $$")
                channel.makefile("rb").read()

        threads = [threading.Thread(target=talk, args=(number,)) for number in range(CHANNELS)]
        threads += [threading.Thread(target=break_off), threading.Thread(target=be_killed)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S * 3)
        assert results == {number: (b"%d" % number * 50_000, number) for number in range(CHANNELS)}

    def test_a_shell_with_a_terminal(self, client: Any) -> None:
        with client.invoke_shell(term="vt100", width=77, height=11) as channel:
            channel.settimeout(WAIT_S)
            reader = channel.makefile("rb")
            channel.sendall(b"PS1=; stty -echo; echo $TERM; stty size; echo end of first\n")
            first = _read_to(reader, b"end of first\r\n", times=1)
            assert b"vt100" in first
            assert b"11 77" in first
            channel.resize_pty(width=99, height=22)
            channel.sendall(b"stty size; exit 12\n")
            assert b"22 99" in reader.read()
            assert channel.recv_exit_status() == 12

    def test_files(self, client: Any, route: SshRoute) -> None:
        data = os.urandom(BIG)
        path = f"{route.server.home}/paramiko"
        with client.open_sftp() as sftp:
            sftp.putfo(io.BytesIO(data), path)  # asks for the size at the end
            back = io.BytesIO()
            sftp.getfo(path, back)
            assert back.getvalue() == data
            with sftp.open(path, "r+b") as file:
                file.seek(5)
                file.write(b"here")
                file.seek(3)
                assert file.read(8) == data[3:5] + b"here" + data[9:11]
                file.truncate(100)
            assert sftp.stat(path).st_size == 100
            sftp.chmod(path, 0o640)
            assert stat.S_IMODE(sftp.lstat(path).st_mode) == 0o640
            sftp.symlink(path, f"{path}.link")
            assert sftp.readlink(f"{path}.link") == path
            assert sftp.normalize(f"{route.server.home}/../home/paramiko.link") == path
            sftp.posix_rename(f"{path}.link", f"{path}.other")
            assert "paramiko.other" in sftp.listdir(str(route.server.home))
            sftp.remove(f"{path}.other")
            sftp.remove(path)
            with pytest.raises(FileNotFoundError):
                sftp.stat(path)

    def test_forwards_both_ways(self, client: Any) -> None:
        transport = client.get_transport()
        with Echo() as echo:
            with transport.open_channel("direct-tcpip", (HOST, echo.port), (HOST, 1)) as channel:
                channel.settimeout(WAIT_S)
                channel.sendall(b"through")
                channel.shutdown_write()
                assert channel.makefile("rb").read() == b"through" + Echo.LAST_WORD
            port = transport.request_port_forward(HOST, 0)
            with dial(port) as connection:
                with transport.accept(WAIT_S) as channel:
                    channel.sendall(b"from the client")
                with connection.makefile("rb") as reader:
                    assert reader.read() == b"from the client"
            transport.cancel_port_forward(HOST, port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port), WAIT_S).close()
            with pytest.raises(paramiko.ChannelException) as refused:
                transport.open_channel("direct-tcpip", (HOST, 1), (HOST, 1))
            assert refused.value.code == 2  # SSH_OPEN_CONNECT_FAILED

    def test_requests_that_nobody_knows(self, client: Any) -> None:
        """They are answered: no."""
        transport = client.get_transport()
        assert transport.global_request("nosuch@example.net", wait=True) is None
        with pytest.raises(paramiko.ChannelException) as refused:
            transport.open_channel("nosuch@example.net")
        assert refused.value.code in (2, 3)  # sshd says that it could not connect
        _, stdout, _ = client.exec_command("echo still here", timeout=WAIT_S)
        assert stdout.read() == b"still here\n"

    def test_a_client_that_renews_its_keys(self, client: Any) -> None:
        # paramiko cannot take the end of a channel while it renews them.
        for _ in range(3):
            client.get_transport().renegotiate_keys()
            _, stdout, _ = client.exec_command("echo on", timeout=WAIT_S)
            assert stdout.read() == b"on\n"
            wait_until(partial(getattr, stdout.channel, "closed"), "the end of the channel")


def run_asyncssh(route: SshRoute, body: Callable[[Any], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with asyncio.timeout(WAIT_S * 3), route.asyncssh() as connection:
            await body(connection)

    asyncio.run(connected())


class TestRclone:
    """A client by Go's ssh: it says the end of its data twice."""

    def test_many_files_at_once(self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path) -> None:
        gateway = make_ssh_gateway()
        route = gateway.route()
        host, here, back = route.host, tmp_path / "here", tmp_path / "back"
        here.mkdir()
        files = {f"file{number}": os.urandom(1000 * number) for number in range(CHANNELS)}
        for name, data in files.items():
            (here / name).write_bytes(data)
        options = {
            "host": host.address,
            "port": str(host.port),
            "user": host.user,
            "key-file": str(host.key),
            "pubkey-file": str(host.certificate),
            "known-hosts-file": str(host.known_hosts),
        }
        words = [str(Path(sys.executable).parent / "rclone"), "--config", "", "--transfers", "8"]
        words += [word for name, value in options.items() for word in (f"--sftp-{name}", value)]
        there = f":sftp:{route.server.home}/rclone"
        run([*words, "copy", str(here), there])
        run([*words, "copy", there, str(back)])
        assert {path.name: path.read_bytes() for path in back.iterdir()} == files
        run([*words, "check", str(here), there])  # by `md5sum` on the target
        wait_until(lambda: len(gateway.logged("session ended")) >= 3, "the ends of the sessions")
        assert {line["outcome"] for line in gateway.logged("session ended")} == {"client_closed"}


class TestAsyncssh:
    def test_a_command(self, route: SshRoute) -> None:
        async def body(connection: Any) -> None:
            done = await connection.run("cat; echo err >&2; exit 9", input="typed")
            assert (done.stdout, done.stderr, done.exit_status) == ("typed", "err\n", 9)

        run_asyncssh(route, body)

    @pytest.mark.parametrize("name", ["TERM", "INT", "KILL"])
    def test_an_end_by_a_signal_has_its_name(self, route: SshRoute, name: str) -> None:
        async def body(connection: Any) -> None:
            done = await connection.run(f"kill -{name} $$")
            assert done.exit_status is None or done.exit_status < 0
            assert done.exit_signal[0] == name

        run_asyncssh(route, body)

    def test_signals_from_the_client(self, ordinary_route: SshRoute) -> None:
        """RFC 4254, section 6.9. sshd takes them for every account but root's."""

        async def body(connection: Any) -> None:
            command = "trap 'echo got usr1' USR1; echo ready; while :; do sleep 0.05; done"
            async with connection.create_process(command) as process:
                assert await process.stdout.readline() == "ready\n"
                process.send_signal("USR1")
                assert await process.stdout.readline() == "got usr1\n"
                process.send_signal("TERM")
                done = await process.wait()
                assert done.exit_signal[0] == "TERM"

        run_asyncssh(ordinary_route, body)

    def test_break(self, route: SshRoute) -> None:
        """RFC 4335. A pseudo-terminal of Linux does nothing with it, and the session goes on."""

        async def body(connection: Any) -> None:
            async with connection.create_process(
                "stty -echo; echo ready; read x", term_type="xterm"
            ) as process:
                assert (await process.stdout.readline()).strip() == "ready"
                process.send_break(100)
                process.stdin.write("x\n")
                assert (await process.wait()).exit_status == 0

        run_asyncssh(route, body)

    def test_a_terminal_and_its_modes(self, route: SshRoute) -> None:
        async def body(connection: Any) -> None:
            modes = {asyncssh.PTY_ECHO: 0, asyncssh.PTY_VINTR: 7, asyncssh.PTY_OP_OSPEED: 9600}
            process = connection.create_process(
                "stty -a", term_type="xterm", term_size=(66, 22), term_modes=modes
            )
            async with process as running:
                shown = await running.stdout.read()
            assert "rows 22; columns 66" in shown
            assert "-echo " in shown
            assert "intr = ^G" in shown
            assert "9600 baud" in shown

        run_asyncssh(route, body)

    def test_a_hundred_channels(self, route: SshRoute) -> None:
        """All of them open at a time."""

        async def body(connection: Any) -> None:
            async def one(number: int, is_open: asyncio.Barrier) -> None:
                async with connection.create_process(f"read x; echo {number} $x") as process:
                    await is_open.wait()
                    process.stdin.write("go\n")
                    assert await process.stdout.read() == f"{number} go\n"

            barrier = asyncio.Barrier(60)
            async with asyncio.TaskGroup() as group:
                for number in range(60):
                    group.create_task(one(number, barrier))

        run_asyncssh(route, body)

    def test_half_close_both_ways(self, route: SshRoute) -> None:
        async def body(connection: Any) -> None:
            async with connection.create_process("exec cat", encoding=None) as process:
                process.stdin.write(b"x" * 100_000)
                process.stdin.write_eof()
                assert await process.stdout.read() == b"x" * 100_000
            async with connection.create_process(
                "exec >&- 2>&-; cat >/dev/null; exit 4", encoding=None
            ) as process:
                assert await process.stdout.read() == b""
                process.stdin.write(b"x" * 100_000)
                process.stdin.write_eof()
                assert (await process.wait()).exit_status == 4

        run_asyncssh(route, body)

    def test_small_windows_and_packets(self, route: SshRoute) -> None:
        """A client that takes little at a time gets all the same all."""
        data = os.urandom(1_000_000)

        async def body(connection: Any) -> None:
            options: dict[str, Any] = {"encoding": None, "window": 10_000, "max_pktsize": 1_000}
            async with connection.create_process("cat", **options) as process:
                writing = asyncio.create_task(_write(process.stdin, data))
                assert await process.stdout.read() == data
                await writing

        run_asyncssh(route, body)

    def test_files(self, route: SshRoute, tmp_path: Path) -> None:
        data = os.urandom(BIG)
        (tmp_path / "up").write_bytes(data)
        far = route.server.home / "asyncssh"

        async def body(connection: Any) -> None:
            async with connection.start_sftp_client() as sftp:
                await sftp.put(str(tmp_path / "up"), str(far))
                await sftp.get(str(far), str(tmp_path / "down"))
                assert await sftp.getsize(str(far)) == BIG
                names = [name async for name in _names(sftp, str(route.server.home))]
                assert "asyncssh" in names
                await sftp.remove(str(far))

        run_asyncssh(route, body)
        assert (tmp_path / "down").read_bytes() == data

    def test_forwards(self, route: SshRoute) -> None:
        async def body(connection: Any) -> None:
            with Echo() as echo:
                async with forwarded(connection.forward_local_port("", 0, HOST, echo.port)) as port:
                    assert (
                        await asyncio.to_thread(exchange, dial(port), b"there") == b"there" + Echo.LAST_WORD
                    )
                async with forwarded(connection.forward_remote_port(HOST, 0, HOST, echo.port)) as port:
                    assert await asyncio.to_thread(exchange, dial(port), b"back") == b"back" + Echo.LAST_WORD

        run_asyncssh(route, body)


@asynccontextmanager
async def forwarded(listening: Awaitable[Any]) -> AsyncIterator[int]:
    """The port of a forward, while it is there."""
    listener = await listening
    try:
        yield listener.get_port()
    finally:
        listener.close()
        await listener.wait_closed()


async def _names(sftp: Any, directory: str) -> AsyncIterator[str]:
    async for entry in sftp.scandir(directory):
        yield entry.filename


async def _write(stream: Any, data: bytes) -> None:
    stream.write(data)
    await stream.drain()
    stream.write_eof()


def _read_to(reader: Any, end: bytes, times: int) -> bytes:
    """Lines up to the one that is `end`; what was typed is a line of its own."""
    read = b""
    while times:
        line = reader.readline()
        read += line
        times -= line.endswith(end) and b"echo" not in line
    return read
