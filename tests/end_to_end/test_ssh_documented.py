"""What docs/ssh.md tells people to type, as it stands there; the menu; and the tape of what they did."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.gateway import program
from tests.end_to_end.running import HOST
from tests.end_to_end.ssh_gateway import LOGIN, SshGateway
from tests.end_to_end.ssh_route import TARGET, SshRoute, run
from tests.end_to_end.ssh_screen import Screen

# What docs/ssh.md has for users, with the names of this gateway; the last block is the tests' own isolation.
CONFIG = """\
Host {target}
    User {login}+{target}
Host {target} gateway
    HostName {host}
    Port {port}
    IdentityFile {key}
    CertificateFile {certificate}

Host *
    UserKnownHostsFile {known_hosts}
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    IdentityAgent none
    IdentitiesOnly yes
    BatchMode yes
    LogLevel ERROR
"""


@pytest.fixture
def config(ssh_gateway: SshGateway, tmp_path: Path) -> Path:
    host = ssh_gateway.route().host
    path = tmp_path / "config"
    path.write_text(
        CONFIG.format(
            target=TARGET,
            login=LOGIN,
            host=host.address,
            port=host.port,
            key=host.key,
            certificate=host.certificate,
            known_hosts=host.known_hosts,
        )
    )
    return path


@pytest.fixture
def remote(ssh_gateway: SshGateway) -> Iterator[Path]:
    path = ssh_gateway.server.home / "documented"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def test_the_lines_that_users_paste(config: Path, remote: Path, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(os.urandom(100_000))
    ssh = ("-F", str(config))
    assert run(["ssh", *ssh, TARGET, "echo short"]).stdout == b"short\n"
    assert run(["ssh", *ssh, f"{LOGIN}+{TARGET}@gateway", "echo long"]).stdout == b"long\n"
    run(["scp", *ssh, str(source), f"{TARGET}:{remote}/scp"])
    run(["sftp", *ssh, "-b", "-", TARGET], input=f"put {source} {remote}/sftp\n".encode())
    run(["rsync", "-e", f"ssh -F {config}", "-a", f"{tmp_path}/file", f"{TARGET}:{remote}/rsync"])
    for name in ("scp", "sftp", "rsync"):
        assert (remote / name).read_bytes() == source.read_bytes()


def test_without_a_configuration_the_login_stands_before_the_address(
    ssh_gateway: SshGateway, config: Path, remote: Path, tmp_path: Path
) -> None:
    """With `+` in the user name, and the port by each tool's own option. OpenSSH reads `+` in its URLs as a blank."""
    source = tmp_path / "file"
    source.write_text("plain\n")
    options = ["-F", str(config), "-i", str(ssh_gateway.keys.private("alice"))]
    options += ["-o", f"CertificateFile={ssh_gateway.keys.certificate('alice')}"]
    user, quoted, port = f"{LOGIN}+{TARGET}", f"{LOGIN}%2B{TARGET}", str(ssh_gateway.port)
    assert run(["ssh", *options, "-p", port, f"{user}@{HOST}", "echo there"]).stdout == b"there\n"
    assert run(["ssh", *options, f"ssh://{quoted}@{HOST}:{port}", "echo url"]).stdout == b"url\n"
    run(["scp", *options, "-P", port, str(source), f"{user}@{HOST}:{remote}/scp"])
    run(["scp", *options, f"scp://{quoted}@{HOST}:{port}/{remote}/scp", str(tmp_path / "back")])
    assert (remote / "scp").read_text() == (tmp_path / "back").read_text() == "plain\n"
    shell = {"GIT_SSH_COMMAND": " ".join(["ssh", *options]), "GIT_CONFIG_GLOBAL": "/dev/null"}
    run(["git", "init", "-q", "--bare", str(remote / "site.git")])
    for name in (user, quoted):
        run(["git", "ls-remote", f"ssh://{name}@{HOST}:{port}{remote}/site.git"], env=shell)


def test_an_inventory_line_for_ansible(ssh_gateway: SshGateway, config: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    place = f"ansible_host={HOST} ansible_port={ssh_gateway.port} ansible_user={LOGIN}+{TARGET}"
    key = f"ansible_ssh_private_key_file={ssh_gateway.keys.private('alice')}"
    inventory.write_text(f"{TARGET} {place} {key}\n")
    (tmp_path / "ansible.cfg").touch()
    env = {
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_SSH_ARGS": f"-F {config} -o ControlMaster=no",
        "LC_ALL": "C.UTF-8",
    }
    words = [program("ansible"), "-i", str(inventory), TARGET, "-m", "raw", "-a", "echo raw $((6*7))"]
    assert b"raw 42" in run(words, env=env).stdout


class TestMenu:
    @pytest.fixture
    def menu(self, ssh_gateway: SshGateway) -> Iterator[Screen]:
        with Screen(ssh_gateway.route().words("jump")) as screen:
            screen.wait_for(TARGET)
            yield screen

    def test_a_target_is_chosen_and_its_shell_is_like_any(self, menu: Screen) -> None:
        menu.write("1\n")
        menu.wait_for("target$")
        menu.resize(120, 40)
        menu.write("clear; stty size; echo $TERM\n")
        menu.wait_for_line("40 120")
        menu.wait_for_line("tmux-256color")
        menu.write("exit 3\n")
        assert menu.exit_status() == 3

    @pytest.mark.parametrize("keys", ["C-c", "C-d"])
    def test_leaving(self, menu: Screen, keys: str) -> None:
        menu.press(keys)
        menu.exit_status()

    def test_a_command_needs_a_target(self, ssh_gateway: SshGateway) -> None:
        route = ssh_gateway.route()
        done = run(route.words("jump", "echo never"), status=126)
        assert done.stdout == b""
        assert TARGET.encode() in done.stderr


class TestTape:
    """Of a gateway's newest session."""

    @pytest.fixture
    def route(self, ssh_gateway: SshGateway) -> SshRoute:
        return ssh_gateway.route()

    def last(self, gateway: SshGateway) -> str:
        return str(gateway.tape(gateway.last_session("alice")))

    def test_a_shell_is_shown_again_and_hides_what_was_not_echoed(
        self, ssh_gateway: SshGateway, route: SshRoute
    ) -> None:
        with Screen(route.words(route.name)) as screen:
            screen.wait_for("target$")
            screen.write('stty -echo; echo now; read -r x; stty echo; echo "got ${#x}"\n')
            screen.wait_for_line("now")
            screen.write("canary-password\n")
            screen.wait_for_line("got 15")
            screen.resize(90, 25)
            screen.write("printf '\\033[32mgreen\\033[0m\\n'; exit 4\n")
            assert screen.exit_status() == 4
        tape = self.last(ssh_gateway)
        played = ssh_gateway.proxyd("tape", "play", "--speed", "0", tape).stdout
        assert "got 15" in played
        assert "green" in played
        assert "canary-password" not in Path(tape).read_bytes().decode(errors="replace")
        assert "whole" in ssh_gateway.proxyd("tape", "verify", tape).stdout
        for version in (2, 3):
            cast = ssh_gateway.proxyd("tape", "export", "--asciicast-version", str(version), tape).stdout
            header, *events = map(json.loads, cast.splitlines())
            assert header["version"] == version
            assert any("got 15" in event[2] for event in events if event[1] == "o")
            assert [event[2] for event in events if event[1] == "r"][-1] == "90x25"

    @pytest.mark.parametrize("tool", ["sftp", "scp", "scp -O"])
    def test_files_are_on_it_with_size_and_hash(
        self, ssh_gateway: SshGateway, route: SshRoute, remote: Path, tmp_path: Path, tool: str
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(300_001))
        if tool == "sftp":
            route.sftp(f"put {source} {remote}/up\nget {remote}/up {tmp_path}/down")
        else:
            route.scp(str(source), f"{route.name}:{remote}/up", is_legacy=tool.endswith("-O"))
        shown = ssh_gateway.proxyd("tape", "show", "--json", self.last(ssh_gateway)).stdout
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        assert digest in shown
        assert f"{remote}/up" in shown
        assert "300001" in shown

    def test_what_a_command_said_and_was_told(self, ssh_gateway: SshGateway, route: SshRoute) -> None:
        route.ssh("cat; echo to-stderr >&2; exit 5", input=b"from-stdin", status=5)
        shown = ssh_gateway.proxyd("tape", "show", self.last(ssh_gateway)).stdout
        for text in (
            "cat; echo to-stderr >&2; exit 5",
            "from-stdin",
            "to-stderr",
            "operators-do-everything",
            "5",
        ):
            assert text in shown
