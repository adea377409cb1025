"""Ways to connections that no rule allows: odd spellings of denied addresses, listeners elsewhere, jumps to what is no
target, agents and displays that were not given.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres_server import free_port
from protocols.ssh import messages as wire
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import HOST, wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, LOGIN, SshGateway
from tests.end_to_end.ssh_peers import Agent, Echo, Tunnel, dial_by_socks, unix_directory
from tests.end_to_end.ssh_raw import RawClient
from tests.end_to_end.ssh_route import TARGET, run
from tests.ssh_pki import string

LOST = 255
NUMBER = wire.Number


def uint32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def tcp(host: str | bytes, port: int) -> bytes:
    return string(host) + uint32(port) + string("127.0.0.1") + uint32(1)


def unix(path: str | bytes) -> bytes:
    return string(path) + string("") + uint32(0)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with Echo() as listener:
        yield listener


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    with unix_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def gateway(
    ssh_gateway: SshGateway, echo: Echo, sockets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    """Everything may be reached but one port of the target's own and the sockets of one directory."""
    closed = (
        f'forward: ["127.0.0.1:{echo.port}", "unix:{sockets}/closed/**"], listen: ["127.0.0.1:{echo.port}"]'
    )
    policy = EVERYTHING_BY_SSH + f"  - {{name: closed, effect: deny, ssh: {{{closed}}}}}\n"
    directory = tmp_path_factory.mktemp("forwards")
    with SshGateway(ssh_gateway.server, directory, ssh_gateway.keys, policy=policy) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: SshGateway) -> Iterator[RawClient]:
    with RawClient.logged_in(gateway) as found:
        yield found


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.2",
    "127.255.255.254",
    "0x7f.1",
    "0x7f000001",
    "0X7F.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "2130706433",
    "0",
    "0.0.0.0",  # noqa: S104
    "00.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "LocalHost...",
    "localhost.localdomain",
    "x.localhost",
    "ip6-localhost",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::FFFF:127.0.0.1",
    "::1%lo",
    "127.0.0.1%lo",
    "::",
    "*",
]


class TestDirect:
    def test_another_spelling_of_a_denied_address(self, client: RawClient, echo: Echo) -> None:
        for host in SPELLINGS:
            said = client.open("direct-tcpip", tcp(host, echo.port))
            assert "(rule closed)" in str(said), host
        assert echo.accepted == 0

    def test_hosts_that_are_none(self, client: RawClient, echo: Echo) -> None:
        for host in (
            "",
            "127.0.0.1 ",
            " localhost",
            "local\thost",
            "localhost\0.example",
            "l\u00f6calhost",
            "\uff11\uff12\uff17.0.0.1",
            "127\u30020.0.1",
            "x" * 300,
            b"\xff",
        ):
            assert str(client.open("direct-tcpip", tcp(host, echo.port))).startswith("proxyd: "), host
        assert echo.accepted == 0

    def test_ports_that_are_none(self, client: RawClient, echo: Echo) -> None:
        for port in (echo.port + 65536, 0, 70_000, 0xFFFFFFFF):
            assert str(client.open("direct-tcpip", tcp("127.0.0.1", port))).startswith("proxyd: "), port
        assert echo.accepted == 0

    def test_another_spelling_of_a_denied_socket(self, client: RawClient, sockets: Path) -> None:
        (sockets / "closed").mkdir()
        with Echo(sockets / "closed" / "s") as closed:
            name = sockets.name
            for path in (
                f"{sockets}/closed/s",
                f"{sockets}/closed//s",
                f"{sockets}/closed/./s",
                f"{sockets}/open/../closed/s",
                f"/tmp/../tmp/{name}/closed/s",
                f"{sockets}/closed/s/",
                f"/proc/self/root{sockets}/../{name}/closed/s",
                f"../../tmp/{name}/closed/s",
                f"tmp/{name}/closed/s",
                "",
                f"{sockets}/closed/s\0x",
            ):
                assert not isinstance(client.open("direct-streamlocal@openssh.com", unix(path)), int), path
            assert closed.accepted == 0

    def test_openssh_is_told_the_rule(self, gateway: SshGateway, echo: Echo) -> None:
        route = gateway.route()
        done = run(route.words("-o", "LogLevel=INFO", "-W", f"127.1:{echo.port}", route.name), status=LOST)
        assert b"rule closed" in done.stderr
        port = free_port(HOST)
        with Tunnel(route, "-D", str(port)) as tunnel:
            for host in ("127.0.0.1", "localhost", "0x7f.1"):
                with pytest.raises(ConnectionRefusedError):
                    dial_by_socks(port, host, echo.port)
            wait_until(lambda: "rule closed" in tunnel.log(), "the words")
        assert echo.accepted == 0


class TestListen:
    def test_addresses_that_are_denied(self, client: RawClient, echo: Echo) -> None:
        for host in (
            "127.0.0.1",
            "localhost",
            "127.1",
            "",
            "*",
            "0.0.0.0",  # noqa: S104
            "::",
            "::ffff:127.0.0.1",
            "LOCALHOST.",
        ):
            client.send(wire.global_request("tcpip-forward", True, string(host) + uint32(echo.port)))
            assert client.receive()[0] == NUMBER.REQUEST_FAILURE, host
            client.send(wire.global_request("tcpip-forward", True, string(host) + uint32(0)))
            assert client.receive()[0] == NUMBER.REQUEST_FAILURE, host

    def test_nothing_but_what_is_listed(self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path) -> None:
        port = free_port(HOST)
        rule = f'"localhost:{port}", "unix:{tmp_path}/a/*.sock"'
        gateway = make_ssh_gateway(policy=_allowing(f"{{listen: [{rule}]}}"))
        with RawClient.logged_in(gateway) as client:
            for host, asked in (
                ("localhost", port + 1),
                ("localhost", 0),
                ("localhost", port + 65536),
                ("", port),
                ("*", port),
                ("0.0.0.0", port),  # noqa: S104
                ("::", port),
                ("::1", port),
                ("127.0.0.1", port),
                ("localhost.example.org", port),
            ):
                client.send(wire.global_request("tcpip-forward", True, string(host) + uint32(asked)))
                assert client.receive()[0] == NUMBER.REQUEST_FAILURE, (host, asked)
            for path in (
                f"{tmp_path}/b/x.sock",
                f"{tmp_path}/a/../b/x.sock",
                f"{tmp_path}/a/b/x.sock",
                "x.sock",
                "",
            ):
                client.send(wire.global_request("streamlocal-forward@openssh.com", True, string(path)))
                assert client.receive()[0] == NUMBER.REQUEST_FAILURE, path
            client.send(wire.global_request("tcpip-forward", True, string("localhost") + uint32(port)))
            assert client.receive()[0] == NUMBER.REQUEST_SUCCESS

    def test_what_others_listen_on_is_not_taken_back(self, client: RawClient, gateway: SshGateway) -> None:
        port = free_port(HOST)
        with RawClient.logged_in(gateway) as other:
            other.send(wire.global_request("tcpip-forward", True, string("127.0.0.1") + uint32(port)))
            assert other.receive()[0] == NUMBER.REQUEST_SUCCESS
            client.send(wire.global_request("cancel-tcpip-forward", True, string("127.0.0.1") + uint32(port)))
            assert client.receive()[0] == NUMBER.REQUEST_FAILURE
            socket.create_connection((HOST, port)).close()

    def test_ten_thousand_listeners(self, client: RawClient) -> None:
        """A few of them are had; asking for more without waiting ends the session."""
        granted = 0
        for _ in range(100):
            client.send(
                wire.global_request("tcpip-forward", True, string("127.0.0.1") + uint32(free_port(HOST)))
            )
            granted += client.receive()[0] == NUMBER.REQUEST_SUCCESS
        assert 0 < granted <= 64
        ask = wire.global_request("streamlocal-forward@openssh.com", True, string("/tmp/nosuch/x"))
        client.send(*[ask] * 1000)


def _allowing(section: str) -> str:
    head, _, _ = EVERYTHING_BY_SSH.partition("    ssh:\n")
    return f"{head}    ssh: {section}\n"


class TestJumps:
    """Without a target in the name the gateway is a way to its targets, and into nothing else of its network."""

    def test_only_targets_are_reached(self, ssh_gateway: SshGateway, echo: Echo) -> None:
        accepted = echo.accepted
        port = ssh_gateway.server.port
        with RawClient.logged_in(ssh_gateway, user=LOGIN) as client:
            for host, asked in (
                (HOST, echo.port),
                (HOST, 22),
                (HOST, ssh_gateway.metrics_port),
                (HOST, ssh_gateway.port),
                ("localhost", port),
                ("127.1", port),
                ("0x7f.1", port),
                ("127.0.0.1.", port),
                ("::ffff:127.0.0.1", port),
                ("[127.0.0.1]", port),
                (HOST, port + 65536),
                ("169.254.169.254", 80),
                ("metadata.google.internal", 80),
                (TARGET + ".", 22),
                (TARGET.upper(), 22),
                (TARGET, echo.port),
                ("web2", 22),
                ("", port),
                ("*", port),
            ):
                said = client.open("direct-tcpip", tcp(host, asked))
                assert "no target at that address" in str(said) or "proxyd: " in str(said), (host, asked)
                assert not isinstance(said, int), (host, asked)
            for kind in (
                "direct-streamlocal@openssh.com",
                "x11",
                "forwarded-tcpip",
                "auth-agent@openssh.com",
            ):
                assert not isinstance(client.open(kind, unix("/var/run/docker.sock")), int)
            for name in ("tcpip-forward", "streamlocal-forward@openssh.com"):
                client.send(wire.global_request(name, True, string("127.0.0.1") + uint32(0)))
                assert client.receive()[0] == NUMBER.REQUEST_FAILURE
            channel = client.open_session()
            assert client.ask_channel(channel, "exec", string("id"))
            assert client.until_close(channel)[2] == 126
            assert isinstance(client.open("direct-tcpip", tcp(HOST, port)), int)
        assert echo.accepted == accepted

    @pytest.mark.parametrize("name", ["address", "name"])
    def test_a_denied_address_is_not_reached_by_the_targets_name(
        self, make_ssh_gateway: SshGatewayFactory, ssh_gateway: SshGateway, name: str
    ) -> None:
        """The gateway knows where it would connect to: a rule about either means both."""
        port = ssh_gateway.server.port
        denied = f"{HOST}:{port}" if name == "address" else f"{TARGET}:*"
        rule = f'  - {{name: closed, effect: deny, ssh: {{forward: ["{denied}"]}}}}\n'
        gateway = make_ssh_gateway(policy=EVERYTHING_BY_SSH + rule)
        with RawClient.logged_in(gateway, user=LOGIN) as client:
            for host, asked in ((HOST, port), (TARGET, port), (TARGET, 22)):
                assert "(rule closed)" in str(client.open("direct-tcpip", tcp(host, asked))), (host, asked)

    def test_who_may_not_reach_the_target_may_not_jump_to_it(self, ssh_gateway: SshGateway) -> None:
        port = ssh_gateway.server.port
        with RawClient.logged_in(ssh_gateway, user=LOGIN, person="mallory") as client:
            for where in (tcp(HOST, port), tcp(TARGET, 22), tcp(HOST, 1)):
                assert "no target at that address" in str(client.open("direct-tcpip", where))

    def test_many_jumps_that_are_left_at_once(self, ssh_gateway: SshGateway) -> None:
        """Connections to the target go when their channels do, also when those go while they are dialled."""
        server = ssh_gateway.server
        before = len(server.sessions())
        with RawClient.logged_in(ssh_gateway, user=LOGIN) as client:
            for number in range(50):
                client.send(
                    wire.channel_open("direct-tcpip", number, 1 << 20, 1 << 15, tcp(HOST, server.port))
                )
                while (payload := client.receive())[0] != NUMBER.CHANNEL_OPEN_CONFIRMATION:
                    pass
                client.send(wire.channel_close(int.from_bytes(payload[5:9], "big")))
            wait_until(lambda: len(server.sessions()) <= before, "the end of the connections")
            assert isinstance(client.open("direct-tcpip", tcp(HOST, server.port)), int)


class TestAgentAndDisplay:
    def test_what_is_not_allowed_is_not_there(
        self, make_ssh_gateway: SshGatewayFactory, ssh_gateway: SshGateway
    ) -> None:
        gateway = make_ssh_gateway(policy=_allowing('{exec: ["*"]}'))
        with Agent(ssh_gateway.keys.private("carried")) as agent:
            shown = gateway.route().output(
                'echo "<$SSH_AUTH_SOCK$DISPLAY>"', *agent.options, "-X", env={**agent.env, "DISPLAY": ":0"}
            )
        assert shown == "<>\n"

    def test_bodies_that_are_none(self, client: RawClient) -> None:
        channel = client.open_session()
        for body in (b"x", string("agent")):
            assert not client.ask_channel(channel, "auth-agent-req@openssh.com", body)
        for body in (
            b"\0" + string("x y") + string("00") + uint32(0),
            b"\0" + string("MIT") + string("\x1b[2J") + uint32(0),
        ):
            assert not client.ask_channel(channel, "x11-req", body)
