"""Detectors over what OpenSSH's tools show of a real target: commands, terminals, and what must stay as it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.running import wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway
from tests.end_to_end.ssh_route import SshRoute
from tests.end_to_end.ssh_screen import Screen

CARD = "4111-1111-1111-1111"
MAIL = "jo.public@mail.example.com"
# Made of halves, so that neither the command's text nor the echo of a terminal holds them.
PRINT_MAIL = "printf '%s%s' jo.public @mail.example.com"
PROMPT = "target$"
POLICY = (
    EVERYTHING_BY_SSH
    + """
masks:
  - name: what-nobody-declared
    detect: [credit_card, email, private_key, jwt]
  - name: our-numbers
    detect: [employee_number]
    method: {fixed: {value: "(a colleague)"}}
detectors:
  employee_number: {pattern: "E-[0-9]{6}"}
"""
)


@pytest.fixture(scope="module")
def gateway(
    sshd: SshServer, ssh_keys: SshKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    with SshGateway(sshd, tmp_path_factory.mktemp("ssh_detecting"), ssh_keys, policy=POLICY) as gateway:
        yield gateway


@pytest.fixture
def route(gateway: SshGateway) -> SshRoute:
    return gateway.route()


@pytest.mark.parametrize(
    ("command", "out", "err"),
    [
        (f"echo card {CARD}", b"card <credit_card>\n", b""),
        (f"echo {MAIL} >&2; echo {MAIL}", b"<email>\n", b"<email>\n"),
        ("echo E-123456 left", b"(a colleague) left\n", b""),
        (f"printf %s {MAIL}", b"<email>", b""),  # no end of line, only the end of the output
        (f"printf %s {CARD}; exit 3", b"<credit_card>", b""),
        ("echo nothing here", b"nothing here\n", b""),
        # Half of it is red, as grep --color has it.
        ("printf 'a 4111-1111-\\033[01;31m\\033[K1111\\033[m\\033[K-1111.\\n'", None, b""),
        (
            f"{PRINT_MAIL} | base64",
            b"am8ucHVibGljQG1haWwuZXhhbXBsZS5jb20=\n",
            b"",
        ),  # what detectors do not see
    ],
)
def test_output_and_errors(route: SshRoute, command: str, out: bytes | None, err: bytes) -> None:
    done = route.ssh(command, status=None)
    assert done.stdout == (out or b"a <credit_card>\x1b[01;31m\x1b[K\x1b[m\x1b[K.\n")
    assert done.stderr == err


def test_a_value_that_comes_in_pieces(route: SshRoute) -> None:
    """Each write is a packet of its own; they follow each other at once."""
    done = route.ssh("for p in 4111 - 1111 -11 11- 1111 '\n'; do printf %s \"$p\"; done; echo end")
    assert done.stdout == b"<credit_card>\nend\n"


def test_much_output_with_a_value_at_every_border(route: SshRoute) -> None:
    line = f"number %d of {MAIL} and E-123456 is ok\\n"
    done = route.ssh(f"seq 1 40000 | xargs printf '{line}'")
    lines = done.stdout.decode().splitlines()
    assert lines == [f"number {n} of <email> and (a colleague) is ok" for n in range(1, 40001)]


def test_a_private_key_is_hidden_whole(route: SshRoute, ssh_keys: SshKeys, sshd: SshServer) -> None:
    key = sshd.home / "secret_key"
    shutil.copy(ssh_keys.private("person"), key)
    try:
        done = route.ssh(f"echo before; cat {key}; echo after; head -n 3 {key}; echo; echo '$ end'")
    finally:
        key.unlink()
    assert done.stdout.startswith(b"before\n<private_key>\nafter\n<private_key>")
    assert done.stdout.endswith(b"$ end\n")
    for line in ssh_keys.private("person").read_text().splitlines()[1:-1]:
        assert line.encode() not in done.stdout


def test_what_waits_for_more_comes_soon(route: SshRoute) -> None:
    """A prompt without an end of line, answered by somebody who sees it."""
    with route.popen("printf 'your name'; read -r name; printf 'hello %s' $name; read -r rest") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(9) == b"your name"
        process.stdin.write(b"alice\n")
        assert process.stdout.read(11) == b"hello alice"
        process.stdin.close()
        assert process.wait(60) == 1


def test_a_terminal(route: SshRoute) -> None:
    with Screen(route.words(route.name)) as shell:
        shell.wait_for(PROMPT)
        shell.write(
            f"{PRINT_MAIL}; echo; printf '4111-1111-\\033[31m%s\\033[m\\n' 1111-1111; echo E-12345$((3+3))\n"
        )
        shell.wait_for("(a colleague)", "<email>", "<credit_card>")
        assert MAIL not in shell.history()


def test_transfers_are_left_alone(route: SshRoute, tmp_path: Path) -> None:
    """Their bytes are a protocol: what a detector changed there would break them."""
    data = os.urandom(200_000) + f"\n{MAIL}\n{CARD}\n".encode() + os.urandom(200_000)
    (tmp_path / "one").write_bytes(data)
    there = route.server.home / "detected-transfer"
    route.sftp(f"put {tmp_path}/one {there}\nget {there} {tmp_path}/two\n")
    route.scp(f"{route.name}:{there}", f"{tmp_path}/three")
    route.scp(f"{route.name}:{there}", f"{tmp_path}/four", is_legacy=True)
    route.rsync(f"{route.name}:{there}", f"{tmp_path}/five")
    there.unlink()
    for name in ("two", "three", "four", "five"):
        assert (tmp_path / name).read_bytes() == data


def test_git_is_left_alone(route: SshRoute, tmp_path: Path) -> None:
    there = route.server.home / "detected.git"
    route.ssh(f"git init -q --bare -b main {there}")
    (tmp_path / "work").mkdir()
    (tmp_path / "work/file").write_text(f"{MAIL} {CARD}\n" * 1000)
    for words in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", f"by {MAIL}"]):
        route.git(*words, cwd=tmp_path / "work")
    route.git("push", "-q", f"{route.name}:{there}", "main", cwd=tmp_path / "work")
    route.git("clone", "-q", f"{route.name}:{there}", "copy", cwd=tmp_path)
    shutil.rmtree(there)
    assert (tmp_path / "copy/file").read_text() == f"{MAIL} {CARD}\n" * 1000


def test_a_reader_who_waits_gets_everything(route: SshRoute) -> None:
    """More than both windows hold, each line shorter than it was; nothing is lost and nothing stops."""
    with route.popen(f"seq 1 200000 | sed 's/$/ {MAIL}/'") as process:
        assert process.stdout is not None
        first = process.stdout.read(1000)
        rest = process.stdout.read()
    assert (first + rest).decode().splitlines() == [f"{n} <email>" for n in range(1, 200_001)]


def test_tape_and_metrics_have_the_count_and_never_the_value(gateway: SshGateway) -> None:
    gateway.route().ssh(f"{PRINT_MAIL}; echo; {PRINT_MAIL} >&2")
    tape = gateway.tape(gateway.last_session("alice"))
    shown = gateway.proxyd("tape", "show", "--json", str(tape)).stdout
    frames = [json.loads(line) for line in shown.splitlines()]
    told = [frame["data"] for frame in frames if frame.get("name") == "detected"]
    assert sum(data["kinds"]["email"] for data in told) == 2
    assert MAIL not in shown
    assert MAIL.encode() not in tape.read_bytes()
    wait_until(lambda: gateway.metrics().get('proxyd_detected_total{kind="email"}', 0) >= 2, "the count")
