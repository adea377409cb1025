"""Connections that travel inside the session: -L, -R, -D, -W, unix sockets, the key agent, X11, and ssh -J."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres_server import free_port
from demo.ssh_keys import SshKeys
from tests.end_to_end.running import HOST, WAIT_S, wait_until
from tests.end_to_end.ssh_peers import (
    COOKIE,
    X_CLIENT,
    Agent,
    Display,
    Echo,
    Tunnel,
    dial,
    dial_by_socks,
    echoes,
    exchange,
    unix_directory,
    write_cookie,
)
from tests.end_to_end.ssh_route import SshRoute, run

BIG = 5_000_000


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as listener:
        yield listener


@pytest.fixture
def sockets() -> Iterator[Path]:
    with unix_directory() as directory:
        yield directory


def payloads() -> list[bytes]:
    return [b"", b"x", os.urandom(BIG), b"last"]


class TestLocal:
    def test_tcp(self, route: SshRoute, echo: Echo) -> None:
        port = free_port(HOST)
        with Tunnel(route, "-L", f"{port}:{HOST}:{echo.port}"):
            assert echoes(port, payloads())

    @pytest.mark.parametrize("shape", ["unix to unix", "port to unix", "unix to port"])
    def test_unix_sockets(self, route: SshRoute, sockets: Path, shape: str) -> None:
        here, there = shape.split(" to ")
        local: int | Path = sockets / "local" if here == "unix" else free_port(HOST)
        with Echo(sockets / "far" if there == "unix" else None) as echo:
            far = sockets / "far" if there == "unix" else f"{HOST}:{echo.port}"
            with Tunnel(route, "-L", f"{local}:{far}"):
                assert echoes(local, payloads())

    def test_many_at_once_and_the_rest_go_on_when_one_breaks(self, route: SshRoute, echo: Echo) -> None:
        port = free_port(HOST)
        with Tunnel(route, "-L", f"{port}:{HOST}:{echo.port}"):
            held = [dial(port) for _ in range(20)]
            held[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            held[0].close()  # a reset
            for number, connection in enumerate(held[1:]):
                assert exchange(connection, b"%d" % number) == b"%d" % number + Echo.LAST_WORD

    def test_what_the_far_end_refuses_is_refused_and_the_tunnel_stays(
        self, route: SshRoute, echo: Echo
    ) -> None:
        good, bad = free_port(HOST), free_port(HOST)
        nobody = free_port(HOST)
        options = ("-L", f"{good}:{HOST}:{echo.port}", "-L", f"{bad}:{HOST}:{nobody}")
        with Tunnel(route, *options) as tunnel:
            assert exchange(dial(bad), b"") == b""
            wait_until(
                lambda: "open failed: connect failed: Connection refused" in tunnel.log(), "the refusal"
            )
            assert echoes(good)

    def test_a_slow_reader_holds_only_itself(self, route: SshRoute, echo: Echo) -> None:
        port = free_port(HOST)
        data = os.urandom(20_000_000)
        with Tunnel(route, "-L", f"{port}:{HOST}:{echo.port}"), dial(port) as slow:
            sending = threading.Thread(target=slow.sendall, args=(data,))
            sending.start()  # nobody reads what comes back
            for _ in range(5):
                assert echoes(port)
            received = bytearray()
            while len(received) < len(data) and (chunk := slow.recv(1 << 20)):
                received.extend(chunk)
            sending.join(WAIT_S)
            assert bytes(received) == data


class TestRemote:
    READY = "remote forward success for"

    def test_tcp_at_a_port_that_the_target_picks(self, route: SshRoute, echo: Echo) -> None:
        with Tunnel(route, "-R", f"0:{HOST}:{echo.port}", ready="Allocated port") as tunnel:
            assert echoes(tunnel.allocated_port(), payloads())

    def test_tcp_at_a_port_of_ours(self, route: SshRoute, echo: Echo) -> None:
        port = free_port(HOST)
        with Tunnel(route, "-R", f"{HOST}:{port}:{HOST}:{echo.port}", ready=self.READY):
            assert echoes(port, payloads())
        wait_until(lambda: _is_closed(port), "the end of the listening with the session")

    def test_unix_socket(self, route: SshRoute, echo: Echo, sockets: Path) -> None:
        with Tunnel(route, "-R", f"{sockets}/far:{HOST}:{echo.port}", ready=self.READY):
            assert echoes(sockets / "far", payloads())

    def test_socks_on_the_target(self, route: SshRoute, echo: Echo) -> None:
        """-R with a port alone: the client is the proxy."""
        port = free_port(HOST)
        with Tunnel(route, "-R", f"{HOST}:{port}", ready=self.READY):
            assert exchange(dial_by_socks(port, HOST, echo.port), b"round") == b"round" + Echo.LAST_WORD

    def test_a_port_that_is_taken_is_refused(self, route: SshRoute, echo: Echo) -> None:
        with pytest.raises(TimeoutError, match="remote port forwarding failed for listen port"):
            Tunnel(route, "-R", f"{HOST}:{echo.port}:{HOST}:{echo.port}", ready=self.READY)

    def test_listening_is_taken_back(self, route: SshRoute, echo: Echo, sockets: Path) -> None:
        port = free_port(HOST)
        control = ("-S", str(sockets / "control"))
        forward = f"{HOST}:{port}:{HOST}:{echo.port}"
        with Tunnel(route, "-M", *control):
            run(route.words(*control, "-O", "forward", "-R", forward, route.name))
            assert echoes(port)
            run(route.words(*control, "-O", "cancel", "-R", forward, route.name))
            wait_until(lambda: _is_closed(port), "the end of the listening")
            assert route.ssh("echo still", *control).stdout == b"still\n"


class TestDynamic:
    def test_socks(self, route: SshRoute, echo: Echo) -> None:
        port = free_port(HOST)
        with Tunnel(route, "-D", str(port)):
            for host in ("127.0.0.1", "localhost"):
                assert exchange(dial_by_socks(port, host, echo.port), b"far") == b"far" + Echo.LAST_WORD
            with pytest.raises(ConnectionRefusedError):
                dial_by_socks(port, HOST, free_port(HOST)).close()
            assert exchange(dial_by_socks(port, HOST, echo.port), b"on") == b"on" + Echo.LAST_WORD

    def test_an_editors_remote_server(self, route: SshRoute, sockets: Path) -> None:
        """As VS Code does it: one connection with a proxy and a shell that reads a script, which starts a server that
        is then reached through the proxy; another server behind a unix socket.
        """
        proxy, near = free_port(HOST), sockets / "near"
        server = f"{sys.executable} -u -m http.server --bind {HOST} 0 >{sockets}/log 2>&1"
        script = f"cd {sockets}; echo hello >index.html; {server} & echo started; cat >/dev/null; kill $!\n"
        forward = ("-D", str(proxy), "-L", f"{near}:{sockets}/far", "-T")
        with Echo(sockets / "far"), route.popen("sh", *forward) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(script.encode())
            assert process.stdout.readline() == b"started\n"
            log = sockets / "log"
            wait_until(lambda: log.exists() and " port " in log.read_text(), "the server's start")
            port = int(log.read_text().split(" port ")[1].split()[0])
            for _ in range(3):
                answer = exchange(dial_by_socks(proxy, HOST, port), b"GET / HTTP/1.0\r\n\r\n")
                assert answer.endswith(b"hello\n")
            assert echoes(near)
            process.stdin.close()
            assert process.wait(60) == 0


def test_standard_streams_to_an_address(route: SshRoute, echo: Echo) -> None:
    done = run(route.words("-W", f"{HOST}:{echo.port}", route.name), input=b"through")
    assert done.stdout == b"through" + Echo.LAST_WORD


def test_standard_streams_to_an_address_where_nobody_is(route: SshRoute) -> None:
    words = route.words("-o", "LogLevel=INFO", "-W", f"{HOST}:{free_port(HOST)}", route.name)
    done = run(words, status=255)
    assert b"connect failed: Connection refused" in done.stderr


class TestAgent:
    def test_the_target_asks_the_clients_agent(self, route: SshRoute, ssh_keys: SshKeys) -> None:
        with Agent(ssh_keys.private("carried")) as agent:
            listed = route.output("ssh-add -L", *agent.options, env=agent.env)
            assert ssh_keys.public("carried").split()[1] in listed
            sign = "ssh-add -L >key.pub; echo text >t; ssh-keygen -q -Y sign -f key.pub -n x t && cat t.sig"
            signed = route.output(f"umask 077; cd $(mktemp -d); {sign}", *agent.options, env=agent.env)
            assert "BEGIN SSH SIGNATURE" in signed

    def test_many_questions_at_once(self, route: SshRoute, ssh_keys: SshKeys) -> None:
        with Agent(ssh_keys.private("carried")) as agent:
            command = "for i in 1 2 3 4 5 6 7 8; do ssh-add -l >/dev/null && echo ok & done; wait"
            assert route.output(command, *agent.options, env=agent.env).split() == ["ok"] * 8

    def test_from_the_target_to_a_third_host(self, route: SshRoute, ssh_keys: SshKeys) -> None:
        """What agents are forwarded for: the key of the client opens another host from the target."""
        host = route.server
        known = f"echo '{host.known_hosts_line}' >k"
        ssh = f"ssh -F none -o UserKnownHostsFile=k -o BatchMode=yes -p {host.port} {host.login}@{host.host} echo third"
        with Agent(ssh_keys.private("person")) as agent:
            shown = route.output(f"cd $(mktemp -d); {known}; {ssh}", *agent.options, env=agent.env)
        assert shown == "third\n"

    def test_without_asking_there_is_none(self, route: SshRoute) -> None:
        assert route.output('echo "<$SSH_AUTH_SOCK>"') == "<>\n"


class TestX11:
    def test_a_client_on_the_target_reaches_the_display(self, route: SshRoute, tmp_path: Path) -> None:
        with Display() as display:
            own = write_cookie(tmp_path / "authority", display.name)
            done = route.ssh("python3 -", "-Y", "-o", "LogLevel=INFO", input=X_CLIENT.encode(), env=own)
            assert done.stdout == b"answer 01000b0000000000\n"
            assert display.cookies == [COOKIE]  # the client's own, which the target never saw

    def test_several_clients(self, route: SshRoute, tmp_path: Path) -> None:
        script = tmp_path / "client.py"
        script.write_text(X_CLIENT)
        with Display() as display:
            own = write_cookie(tmp_path / "authority", display.name)
            command = f"for i in 1 2 3; do python3 {script} & done; wait"
            assert route.output(command, "-Y", env=own).count("answer 01") == 3
            assert display.cookies == [COOKIE] * 3

    def test_without_asking_there_is_none(self, route: SshRoute) -> None:
        assert route.output('echo "<$DISPLAY>"', env={"DISPLAY": ":0"}) == "<>\n"


class TestJump:
    """`ssh -J`: the client's own session with the target, inside a forwarded connection. Through the gateway it is one
    to the gateway without a target in the user name."""

    def test_a_command(self, route: SshRoute) -> None:
        done = run(route.words("-J", "jump", "inside", "echo inside; cat; exit 3"), input=b"early", status=3)
        assert done.stdout == b"inside\nearly"

    def test_files(self, route: SshRoute, tmp_path: Path) -> None:
        source, back = tmp_path / "source", tmp_path / "back"
        source.write_bytes(os.urandom(BIG))
        for words in ([str(source), f"inside:{tmp_path}/there"], [f"inside:{tmp_path}/there", str(back)]):
            run(["scp", "-F", str(route.config), "-J", "jump", *words])
        assert back.read_bytes() == source.read_bytes()


def _is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) != 0
