"""Sessions that stay: many commands on one connection (ControlMaster), -N, -f, keep-alives, either side that pauses."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SshdFactory, SshGatewayFactory
from tests.end_to_end.running import HOST, wait_until
from tests.end_to_end.ssh_peers import Echo, Tunnel, echoes, unix_directory
from tests.end_to_end.ssh_route import SshRoute, direct_route, environment, run

SESSIONS = 40
LOST = 255


@pytest.fixture
def control() -> Iterator[tuple[str, str]]:
    """The option that names a control socket."""
    with unix_directory() as directory:
        yield "-S", f"{directory}/control"


class TestControlMaster:
    @pytest.fixture
    def master(self, route: SshRoute, control: tuple[str, str]) -> Iterator[Tunnel]:
        with Tunnel(route, "-M", *control) as tunnel:
            yield tunnel

    def test_commands_on_one_connection(
        self, route: SshRoute, master: Tunnel, control: tuple[str, str]
    ) -> None:
        connection = route.output("echo $SSH_CONNECTION", *control)
        for number in range(10):
            done = route.ssh(
                f"cat; echo err{number} >&2; exit {number}", *control, input=b"in", status=number
            )
            assert (done.stdout, done.stderr) == (b"in", b"err%d\n" % number)
        assert route.output("echo $SSH_CONNECTION", *control) == connection

    def test_many_at_once_and_those_that_end_badly(
        self, route: SshRoute, master: Tunnel, control: tuple[str, str]
    ) -> None:
        data = os.urandom(300_000)
        processes = [route.popen(f"read x; cat; exit {number}", *control) for number in range(SESSIONS)]
        killed = route.popen("kill -9 $$", *control)
        gone = route.popen("yes", *control)
        assert gone.stdout is not None
        gone.stdout.read(100_000)
        gone.kill()
        gone.communicate()
        shown: dict[int, bytes] = {}

        def talk(number: int, process: subprocess.Popen[bytes]) -> None:
            shown[number] = process.communicate(b"go\n" + data, timeout=60)[0]

        threads = [threading.Thread(target=talk, args=pair) for pair in enumerate(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        killed.communicate()
        assert killed.returncode == LOST
        assert [number for number, output in shown.items() if output != data] == []
        assert [process.returncode for process in processes] == list(range(SESSIONS))
        assert route.ssh("echo on", *control).stdout == b"on\n"

    def test_files_beside_a_shell(
        self, route: SshRoute, master: Tunnel, control: tuple[str, str], tmp_path: Path
    ) -> None:
        source, far = tmp_path / "source", route.server.home / "beside"
        source.write_bytes(os.urandom(5_000_000))
        path = f"ControlPath={control[1]}"
        with route.popen('while read -r line; do echo "<$line>"; done', *control) as talk:
            assert talk.stdin is not None
            assert talk.stdout is not None
            for number in range(5):
                route.scp("-o", path, str(source), f"{route.name}:{far}")
                talk.stdin.write(b"%d\n" % number)
                assert talk.stdout.readline() == b"<%d>\n" % number
            talk.stdin.close()
            assert talk.wait(60) == 0
        assert far.read_bytes() == source.read_bytes()
        far.unlink()

    def test_the_end_of_the_connection_ends_them_all(
        self, route: SshRoute, master: Tunnel, control: tuple[str, str]
    ) -> None:
        with route.popen("echo $$; exec cat", *control) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            run(route.words(*control, "-O", "exit", route.name))
            assert process.wait(60) == LOST
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the command")


def test_no_command_at_all(route: SshRoute) -> None:
    """-N: a connection without a session on it, which a signal ends."""
    with Tunnel(route) as tunnel:
        assert tunnel.process.poll() is None
        tunnel.process.send_signal(signal.SIGTERM)
        assert tunnel.process.wait(60) == 0


def test_into_the_background(route: SshRoute, control: tuple[str, str]) -> None:
    """-f: ssh returns when the forward is there, and goes on in the background."""
    with Echo() as echo:
        words = ("-f", "-N", "-M", *control, "-o", "ExitOnForwardFailure=yes", "-R", f"0:{HOST}:{echo.port}")
        log = route.directory / "background"
        with log.open("wb") as file:
            command = route.words("-o", "LogLevel=INFO", *words, route.name)
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stderr=file, check=True, env=environment(), timeout=60
            )
        found = re.search(r"Allocated port (\d+)", log.read_text())
        assert found
        assert echoes(int(found[1]))
        run(route.words(*control, "-O", "exit", route.name))


class TestKeepAlive:
    def test_a_clients_questions_are_answered(self, route: SshRoute) -> None:
        """keepalive@openssh.com, each second."""
        asked = route.with_options(
            route.directory / "asked", ServerAliveInterval="1", ServerAliveCountMax="30"
        )
        done = asked.ssh("sleep 3.2; echo awake", "-o", "LogLevel=DEBUG3")
        assert done.stdout == b"awake\n"
        assert len(re.findall(rb"send packet: type 80", done.stderr)) >= 2
        assert len(re.findall(rb"receive packet: type 8[12]", done.stderr)) >= 2

    @pytest.mark.parametrize("way", ["direct", "gateway"])
    def test_the_servers_questions_are_answered(
        self,
        way: str,
        make_sshd: SshdFactory,
        make_ssh_gateway: SshGatewayFactory,
        request: pytest.FixtureRequest,
        tmp_path: Path,
    ) -> None:
        server = make_sshd("ClientAliveInterval 1", "ClientAliveCountMax 30", "LogLevel DEBUG3")
        if way == "direct":
            route = direct_route(server, request.getfixturevalue("ssh_keys"), tmp_path / "direct")
        else:
            route = make_ssh_gateway(server).route()
        assert route.output("sleep 3.2; echo awake") == "awake\n"
        assert len(re.findall(r"send packet: type (80|98)", server.log_text())) >= 3
        assert re.search(r"receive packet: type (8[12]|99|100)", server.log_text())

    def test_a_client_that_does_not_answer_is_parted_with(self, make_ssh_gateway: SshGatewayFactory) -> None:
        gateway = make_ssh_gateway(adjust=lambda config: config["listeners"][0].update(keepalive="1s"))
        with gateway.route().popen("echo $$; exec cat") as process:
            assert process.stdout is not None
            command = Path(f"/proc/{int(process.stdout.readline())}")
            process.send_signal(signal.SIGSTOP)
            wait_until(lambda: bool(gateway.logged("session ended")), "the end of the session")
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) == LOST
        wait_until(lambda: not command.exists(), "the end of the command")
        assert "answer" in gateway.logged("session ended")[0]["reason"]

    def test_a_client_that_pauses_shorter_stays(self, make_ssh_gateway: SshGatewayFactory) -> None:
        gateway = make_ssh_gateway(adjust=lambda config: config["listeners"][0].update(keepalive="10s"))
        with gateway.route().popen("exec cat") as process:
            assert process.stdin is not None
            assert process.stdout is not None
            wait_until(lambda: bool(gateway.logged("session opened")), "the session")
            process.send_signal(signal.SIGSTOP)
            process.stdin.write(b"kept\n")
            process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == b"kept\n"
            process.stdin.close()
            assert process.wait(60) == 0


def test_a_target_that_goes_is_told(make_sshd: SshdFactory, make_ssh_gateway: SshGatewayFactory) -> None:
    server = make_sshd()
    gateway = make_ssh_gateway(server)
    with gateway.route().popen("echo there; exec cat") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        server.stop()
        assert process.wait(60) == LOST
    wait_until(lambda: bool(gateway.logged("session ended")), "the end of the session")
