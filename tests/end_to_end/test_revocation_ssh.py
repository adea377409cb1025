"""A reload that takes a certificate, a key, a person or access away takes live SSH sessions along: OpenSSH's own."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from demo.postgres_server import free_port
from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.running import HOST, Document, wait_until
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway
from tests.end_to_end.ssh_screen import Screen

PROMPT = "target$"
LOST = 255
NO_ACCESS = EVERYTHING_BY_SSH.replace("operator: {groups: [operators]}", "operator: {groups: [others]}")
COUNTS = "what you have logged in with does not count any more"


@pytest.fixture
def gateway(make_ssh_gateway: SshGatewayFactory, tmp_path: Path) -> SshGateway:
    """With a list of what is revoked, empty at first."""
    (tmp_path / "revoked").write_text("")

    def adjust(config: Document) -> None:
        config["listeners"][0]["revoked_keys"] = str(tmp_path / "revoked")

    made: SshGateway = make_ssh_gateway(adjust=adjust)
    return made


@contextmanager
def shell(gateway: SshGateway) -> Iterator[Screen]:
    route = gateway.route()
    with Screen(route.words(route.name)) as screen:
        screen.wait_for(PROMPT)
        yield screen


def reconfigure(gateway: SshGateway, change: Callable[[Document], None]) -> None:
    config = yaml.safe_load(gateway.config_path.read_text())
    change(config)
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert gateway.reload()


def ended(gateway: SshGateway) -> Document:
    wait_until(lambda: bool(gateway.logged("session ended")), "the end of the session")
    return gateway.logged("session ended")[-1]


def revoke(gateway: SshGateway, line: str) -> None:
    listed = yaml.safe_load(gateway.config_path.read_text())["listeners"][0]["revoked_keys"]
    Path(listed).write_text(line + "\n")
    assert gateway.reload()


def test_a_revoked_certificate_ends_a_shell_and_says_so(gateway: SshGateway) -> None:
    with shell(gateway) as screen:
        assert gateway.reload()
        screen.write("echo still-$((6*7))\n")
        screen.wait_for_line("still-42")
        revoke(gateway, "id: alice")
        assert screen.exit_status() == LOST
        shown = "".join(screen.history().split("\n"))
    line = ended(gateway)
    assert line["outcome"] == "revoked"
    assert line["reason"].startswith(COUNTS)
    assert "is revoked" in line["reason"]
    assert COUNTS in shown
    assert "is revoked" in gateway.proxyd("tape", "show", str(gateway.tape(line["session"]))).stdout
    assert gateway.route().ssh("true", status=LOST).returncode == LOST


def test_access_taken_away_ends_an_open_forward_and_a_running_command(gateway: SshGateway) -> None:
    port = free_port(HOST)
    server = gateway.server
    forward = ("-L", f"{HOST}:{port}:{server.host}:{server.port}")
    with gateway.route().popen("echo ready; cat", *forward) as talk:
        assert talk.stdout is not None and talk.stderr is not None
        assert talk.stdout.readline().strip() == b"ready"
        with socket.create_connection((HOST, port), 60) as through:
            assert through.recv(4) == b"SSH-"
            assert gateway.reload(NO_ACCESS)
            while through.recv(4096):
                pass
        assert talk.wait(60) == LOST
        assert b"access to web1 has been taken away" in talk.stderr.read()
    line = ended(gateway)
    assert (line["outcome"], line["reason"]) == ("revoked", "access to web1 has been taken away")


def test_a_person_whose_groups_have_changed_comes_again(gateway: SshGateway) -> None:
    def regroup(config: Document) -> None:
        config["identity"]["people"] = [{"name": "alice", "groups": ["operators", "more"]}]

    with shell(gateway) as screen:
        reconfigure(gateway, regroup)
        assert screen.exit_status() == LOST
    assert "what the configuration says of the subject has changed" in ended(gateway)["reason"]
    assert gateway.route().output("echo again").strip() == "again"


def test_an_authority_that_is_not_believed_any_more(gateway: SshGateway) -> None:
    def another(config: Document) -> None:
        config["listeners"][0]["client_ca"] = str(gateway.directory / "people_ca.pub")

    path = gateway.directory / "people_ca.pub"
    path.write_text(gateway.keys.public("people_ca") + "\n")
    reconfigure_and_restart(gateway, another)
    with shell(gateway) as screen:
        path.write_text(gateway.keys.public("another_ca") + "\n")
        assert gateway.reload()
        assert screen.exit_status() == LOST
    assert "not a trusted authority" in ended(gateway)["reason"]


def reconfigure_and_restart(gateway: SshGateway, change: Callable[[Document], None]) -> None:
    config = yaml.safe_load(gateway.config_path.read_text())
    change(config)
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    gateway.stop()
    gateway.start()


def test_a_connection_at_the_menu_is_judged_as_well(gateway: SshGateway) -> None:
    route = gateway.route(target=None)
    with Screen(route.words("-tt", route.name)) as screen:
        screen.wait_for("web1")
        revoke(gateway, "id: alice")
        assert screen.exit_status() == LOST
