"""Commands that OpenSSH's client runs on the target: streams, exit status, signals, half-close, environment."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import threading

import pytest

from tests.end_to_end.running import wait_until
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_route import SshRoute, run

BIG = 16_000_000
LOST = 255  # what ssh itself ends with when the command did not end by itself

# One command, what it prints on each stream and its exit status.
COMMANDS = [
    ("echo one; echo two >&2", b"one\n", b"two\n", 0),
    ("exit 7", b"", b"", 7),
    ("printf '\\000\\377\\r\\n'", b"\0\xff\r\n", b"", 0),
    ("nosuchcommand_at_all 2>/dev/null", b"", b"", 127),
    ("for i in 1 2 3; do echo $i; done | tac", b"3\n2\n1\n", b"", 0),
    ("cat <<'END'\na  b\nEND\n", b"a  b\n", b"", 0),
    ("true && ( exit 3 ) || exit 4", b"", b"", 4),
    ("tty", b"not a tty\n", b"", 1),
    ("echo out; exec >&-; echo gone; echo err >&2; exit 5", b"out\n", None, 5),
]


@pytest.mark.parametrize(("command", "out", "err", "status"), COMMANDS)
def test_streams_are_apart_and_the_exit_status_is_the_commands(
    route: SshRoute, command: str, out: bytes, err: bytes | None, status: int
) -> None:
    done = route.ssh(command, status=status)
    assert done.stdout == out
    if err is not None:
        assert done.stderr == err


@pytest.mark.parametrize("status", [0, 1, 126, 127, 128, 254, 255])
def test_every_exit_status_comes_back(route: SshRoute, status: int) -> None:
    route.ssh(f"exit {status}", status=status)


def test_the_remote_shell_gets_the_text_as_it_was_typed(route: SshRoute) -> None:
    quoting = "  : '%s|' \"a  b\" 'c\td' e\\ f \"$((6*7))\" `echo g` ~ * 'ä €'"
    text = f"{quoting}; cat /proc/$$/cmdline; true"
    done = run(route.words(route.name, text))
    assert done.stdout.decode().split("\0")[1:3] == ["-c", text]


def test_words_are_joined_by_the_client_as_ever(route: SshRoute) -> None:
    done = run(route.words(route.name, "printf", "%s-", "a b", "'c  d'"))
    assert done.stdout == b"a-b-c  d-"


@pytest.mark.parametrize("name", ["TERM", "KILL", "HUP", "SEGV"])
def test_a_command_ended_by_a_signal_is_told_as_that(route: SshRoute, name: str) -> None:
    done = route.ssh(f"ulimit -c 0; echo before; kill -{name} $$", "-o", "LogLevel=DEBUG1", status=LOST)
    assert done.stdout == b"before\n"
    assert b"exit-signal" in done.stderr


def test_a_client_that_goes_takes_its_command_with_it(route: SshRoute) -> None:
    """Without a terminal a command learns of it by a closed stream; `cat` reads one."""
    with route.popen("echo $$; cat; echo it has ended >&2") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the command")


def test_input_arrives_and_its_end_does(route: SshRoute) -> None:
    assert route.ssh("cat", input=b"x").stdout == b"x"
    assert route.ssh("cat").stdout == b""
    assert route.ssh("cat; echo after the end; cat", input=b"one\n").stdout == b"one\nafter the end\n"


def test_input_sent_before_the_command_runs_is_not_lost(route: SshRoute) -> None:
    early = os.urandom(300_000)
    assert route.ssh("sleep 0.3; cat", input=early).stdout == early


def test_output_goes_on_after_the_end_of_input(route: SshRoute) -> None:
    """The client has closed its half long before: everything still comes."""
    done = route.ssh(
        "cat >/dev/null; for i in $(seq 1 200); do echo $i; done; echo late >&2; exit 9", status=9
    )
    assert done.stdout.split() == [str(number).encode() for number in range(1, 201)]
    assert done.stderr == b"late\n"


def test_input_goes_on_after_the_end_of_output(route: SshRoute) -> None:
    """A command that has closed its output still reads."""
    path = route.server.home / "after-output"
    data = os.urandom(500_000)
    route.ssh(f"exec >&- 2>&-; cat > {path}; sync {path}", input=data)
    assert path.read_bytes() == data
    path.unlink()


def test_conversation_line_by_line(route: SshRoute) -> None:
    """Nothing waits for more: each line is answered before the next one is written."""
    with route.popen('while read -r line; do echo "<$line>"; done; exit 3') as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(50):
            process.stdin.write(b"line %d\n" % number)
            assert process.stdout.readline() == b"<line %d>\n" % number
        process.stdin.close()
        assert process.wait(60) == 3


def test_background_work_that_keeps_the_output_open_is_waited_for(route: SshRoute) -> None:
    done = route.ssh("(sleep 0.3; echo late) & echo early; exit 4", status=4)
    assert done.stdout == b"early\nlate\n"


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(BIG)


def test_big_input(route: SshRoute, big: bytes) -> None:
    wanted = hashlib.sha256(big).hexdigest()
    assert route.ssh("sha256sum; wc -c </dev/null", input=big).stdout.decode().split()[0] == wanted


def test_big_output(route: SshRoute, big: bytes) -> None:
    path = route.server.home / "big"
    path.write_bytes(big)
    done = route.ssh(f"cat {path}")
    path.unlink()
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(big).digest()


def test_big_input_and_output_at_once(route: SshRoute, big: bytes) -> None:
    done = route.ssh("cat", input=big)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(big).digest()


def test_big_error_output_beside_output(route: SshRoute) -> None:
    done = route.ssh("head -c 5000000 /dev/zero >&2 & head -c 5000000 /dev/zero | tr '\\0' x; wait")
    assert done.stdout == b"x" * 5_000_000
    assert done.stderr == b"\0" * 5_000_000


def test_a_reader_that_stops_stops_the_command(route: SshRoute) -> None:
    """Nothing is taken that nobody reads: the windows fill, and the writer waits."""
    path = route.server.home / "written"
    command = f"i=0; while head -c 1000000 /dev/zero; do i=$((i+1)); echo $i > {path}; done"
    with route.popen(command) as process:
        assert process.stdout is not None
        counts: list[int] = []

        def is_still() -> bool:
            counts.append(int(path.read_text() or 0) if path.exists() else 0)
            return len(counts) > 50 and counts[-1] > 0 and counts[-50] == counts[-1]

        wait_until(is_still, "the writer's wait")
        held = counts[-1]
        process.stdout.read(1_000_000)
        process.kill()
    path.unlink()
    assert held < 64, f"{held} MB were taken that nobody read"


def test_yes_is_ended_by_head(route: SshRoute) -> None:
    """A reader that has enough closes; the command gets SIGPIPE and the client ends."""
    words = f"{route.shell} {route.name} yes | head -n 100000 | tail -n 1"
    done = run(["/bin/sh", "-c", words])
    assert done.stdout == b"y\n"


class TestEnvironment:
    SENT = ("-o", "SendEnv=LANG LC_* FOO_* OTHER")
    SHOW = "env | grep -E '^(LANG|LC_|FOO_|OTHER)' | sort; true"

    def test_variables_of_the_list_arrive(self, route: SshRoute) -> None:
        sent = {"LANG": "C", "LC_TIME": "de_DE.UTF-8", "FOO_ALLOWED": "a b=c;$(x)", "OTHER": "no"}
        assert route.output(self.SHOW, *self.SENT, env=sent).splitlines() == [
            "FOO_ALLOWED=a b=c;$(x)",
            "LANG=C",
            "LC_TIME=de_DE.UTF-8",
        ]

    def test_what_the_gateways_list_does_not_name_stays_behind(self, ssh_gateway: SshGateway) -> None:
        """The server itself would take it; everything else goes on."""
        shown = ssh_gateway.route().output(self.SHOW, *self.SENT, env={"FOO_SECRET": "x", "LANG": "C"})
        assert shown == "LANG=C\n"

    def test_setenv_of_the_client(self, route: SshRoute) -> None:
        assert (
            route.output(self.SHOW, "-o", "SetEnv=FOO_ALLOWED=set LC_ALL=C") == "FOO_ALLOWED=set\nLC_ALL=C\n"
        )


def test_subsystems_by_name(route: SshRoute) -> None:
    """`ssh -s`: an sftp conversation by hand. SSH_FXP_INIT of version 3 is answered by SSH_FXP_VERSION."""
    init = b"\0\0\0\x05\x01\0\0\0\x03"
    with route.popen("sftp", "-s") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(init)
        assert process.stdout.read(9)[4:] == b"\x02\0\0\0\x03"
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_subsystem_that_is_not_there_fails_as_that(route: SshRoute) -> None:
    done = run(route.words("-s", route.name, "nosuchsubsystem"), status=None)
    assert done.returncode == LOST
    assert b"subsystem request failed" in done.stderr


def test_a_terminal_without_a_person(route: SshRoute) -> None:
    """-tt: the command gets a terminal of no size; lines end with CR LF, and both streams are one."""
    done = route.ssh("tty; echo err >&2; test -t 0 && test -t 1 && echo yes", "-tt")
    assert re.fullmatch(rb"/dev/pts/\d+\r\nerr\r\nyes\r\n", done.stdout)


def test_twenty_commands_one_after_the_other_leave_nothing_behind(route: SshRoute) -> None:
    before = set(route.server.processes())
    done = run(
        ["/bin/sh", "-c", f"for i in $(seq 1 20); do {route.shell} {route.name} echo $i || exit 1; done"]
    )
    assert done.stdout.split() == [str(number).encode() for number in range(1, 21)]
    wait_until(lambda: before.issuperset(route.server.processes()), "the end of the sessions")


def test_twenty_connections_at_once(route: SshRoute) -> None:
    processes = [route.popen(f"read x; echo $x {number}; exit {number}") for number in range(20)]
    shown: dict[int, bytes] = {}

    def talk(number: int, process: subprocess.Popen[bytes]) -> None:
        shown[number] = process.communicate(b"hello\n", timeout=60)[0]

    threads = [threading.Thread(target=talk, args=pair) for pair in enumerate(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown == {number: b"hello %d\n" % number for number in range(20)}
    assert [process.returncode for process in processes] == list(range(20))
