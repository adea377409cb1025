"""How SSH sessions end: limits of the access, reloads that take it away, targets that cannot be had, a shutdown."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from demo.sshd import SshServer
from tests.end_to_end.running import wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, LOGIN, PEOPLE_AUTHORITY, SshGateway
from tests.end_to_end.ssh_route import TARGET, SshRoute, Talk, run

Factory = Callable[..., SshGateway]
LIMITED = EVERYTHING_BY_SSH.replace("logins: [deploy]", "logins: [deploy]\n    session: {{{limits}}}")
TAKEN_AWAY = EVERYTHING_BY_SSH.replace("logins: [deploy]", "logins: [nobody]")
FOREVER = "echo begun; sleep 1000"


def limited(limits: str) -> str:
    return LIMITED.replace("{{{limits}}}", "{" + limits + "}")


@pytest.fixture(params=["target", "jump"])
def words(request: pytest.FixtureRequest) -> Callable[[SshRoute, str], list[str]]:
    """Straight to the target, or through the gateway as a jump host."""

    def of(route: SshRoute, command: str) -> list[str]:
        host = (route.name,) if request.param == "target" else ("-J", "jump", "inside")
        return route.words("-o", "LogLevel=INFO", *host, command)

    return of


def test_a_session_ends_at_its_longest_time(
    make_ssh_gateway: Factory, words: Callable[[SshRoute, str], list[str]]
) -> None:
    gateway = make_ssh_gateway(policy=limited("max: 4s"))
    done = run(words(gateway.route(), FOREVER), status=255)
    assert done.stdout == b"begun\n"
    gateway.last_session()
    assert gateway.logged("session ended", outcome="max_age")
    assert b"longest time" in done.stderr


def test_a_session_ends_with_its_certificate(ssh_gateway: SshGateway) -> None:
    ssh_gateway.keys.certify("brief", PEOPLE_AUTHORITY, [LOGIN], key_id="alice", validity="-1m:+5s")
    done = run(ssh_gateway.route("brief").words("-o", "LogLevel=INFO", TARGET, FOREVER), status=255)
    assert done.stdout == b"begun\n"
    assert b"your certificate has expired" in done.stderr
    wait_until(lambda: bool(ssh_gateway.logged("session ended", reason="certificate expired")), "its end")


def test_an_idle_session_ends(make_ssh_gateway: Factory, words: Callable[[SshRoute, str], list[str]]) -> None:
    gateway = make_ssh_gateway(policy=limited("idle: 2s"))
    done = run(words(gateway.route(), FOREVER), status=255)
    gateway.last_session()
    assert gateway.logged("session ended", outcome="idle")
    assert b"idle for too long" in done.stderr


def test_operations_are_counted_over_all_channels(make_ssh_gateway: Factory) -> None:
    gateway = make_ssh_gateway(policy=limited("statements: 2"))
    route = gateway.route()
    control = ("-o", f"ControlPath={gateway.directory}/control", "-o", "ControlMaster=auto")
    with route.popen("echo one; cat", *control) as master:
        assert master.stdout is not None and master.stdin is not None
        assert master.stdout.readline() == b"one\n"
        assert route.output("echo two", *control) == "two\n"
        third = route.ssh("echo three", *control, status=126)
        assert b"used its 2 operations" in third.stderr
        master.stdin.close()
        assert master.wait() == 0


def test_jumps_are_counted_too(make_ssh_gateway: Factory) -> None:
    gateway = make_ssh_gateway(policy=limited("statements: 1"))
    route = gateway.route()
    control = ("-o", f"ControlPath={gateway.directory}/control", "-o", "ControlMaster=auto")
    address = f"{route.server.host}:{route.server.port}"
    with _talk(route.words(*control, "-W", address, "jump")) as first:
        assert first.stdout is not None
        assert first.stdout.readline().startswith(b"SSH-2.0-")
        run(route.words(*control, "-W", address, "jump"), status=255)
        first.kill()
    gateway.last_session()
    assert b"used its 1 operations" in gateway.tape_bytes()


def _talk(words: list[str]) -> Talk:
    pipe = subprocess.PIPE
    return Talk(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)


def test_access_that_is_taken_away_ends_what_runs(
    make_ssh_gateway: Factory, words: Callable[[SshRoute, str], list[str]]
) -> None:
    gateway = make_ssh_gateway()
    with _talk(words(gateway.route(), FOREVER)) as running:
        assert running.stdout is not None and running.stderr is not None
        assert running.stdout.readline() == b"begun\n"
        assert gateway.reload(TAKEN_AWAY)
        assert running.wait() == 255
        assert b"access to web1 has been taken away" in running.stderr.read()
    gateway.last_session()
    assert gateway.logged("session ended", outcome="revoked")


def test_a_subject_has_only_so_many_sessions(make_ssh_gateway: Factory) -> None:
    def adjust(config: dict[str, object]) -> None:
        listeners = config["listeners"]
        assert isinstance(listeners, list)
        listeners[0]["limits"]["connections_per_subject"] = 1

    gateway = make_ssh_gateway(adjust=adjust)
    route = gateway.route()
    with route.popen("echo one; cat") as first:
        assert first.stdout is not None and first.stdin is not None
        assert first.stdout.readline() == b"one\n"
        second = route.ssh("echo two", "-o", "LogLevel=INFO", status=255)
        assert b"too many connections for alice" in second.stderr
        first.stdin.close()
        assert first.wait() == 0
    assert route.output("echo three") == "three\n"


def test_a_shutdown_tells_those_who_are_busy(make_ssh_gateway: Factory) -> None:
    gateway = make_ssh_gateway()
    with gateway.route().popen(FOREVER, "-o", "LogLevel=INFO") as busy:
        assert busy.stdout is not None and busy.stderr is not None
        assert busy.stdout.readline() == b"begun\n"
        assert gateway.stop() == 0
        assert busy.wait() == 255
        assert b"proxyd: " in busy.stderr.read()
    assert gateway.logged("session ended", outcome="drained")


class TestTargets:
    def test_one_that_is_down(self, make_sshd: Callable[..., SshServer], make_ssh_gateway: Factory) -> None:
        server = make_sshd()
        gateway = make_ssh_gateway(server)
        route = gateway.route()
        server.stop()
        done = route.ssh("true", status=255)
        assert b"proxyd: web1 cannot be reached" in done.stderr
        assert gateway.logged("connection refused", failure="target")

    def test_one_with_another_host_key(
        self, make_sshd: Callable[..., SshServer], make_ssh_gateway: Factory
    ) -> None:
        server = make_sshd()
        gateway = make_ssh_gateway(server)
        assert gateway.route().output("echo before") == "before\n"
        server.new_host_key()
        done = gateway.route().ssh("true", status=255)
        assert b"shows a host key that the gateway does not know" in done.stderr
        assert b"SHA256:" in str(gateway.logged("connection refused", failure="target")).encode()

    def test_one_that_does_not_know_the_gateway(
        self, make_sshd: Callable[..., SshServer], make_ssh_gateway: Factory
    ) -> None:
        server = make_sshd()
        gateway = make_ssh_gateway(server)
        server.write_user_authorities([])
        done = gateway.route().ssh("true", status=255)
        assert b"does not let the gateway in as deploy" in done.stderr

    def test_one_that_closes_in_the_middle_hurts_nobody_else(
        self, sshd: SshServer, make_sshd: Callable[..., SshServer], make_ssh_gateway: Factory
    ) -> None:
        server = make_sshd()
        gateway = make_ssh_gateway(server)
        with gateway.route().popen(FOREVER, "-o", "LogLevel=INFO") as cut:
            assert cut.stdout is not None and cut.stderr is not None
            assert cut.stdout.readline() == b"begun\n"
            wait_until(lambda: bool(server.sessions()), "the session on the target")
            server.restart()
            assert cut.wait() == 255
            assert b"the target has closed the connection" in cut.stderr.read()
        assert gateway.route().output("echo after") == "after\n"
