"""The demo's SSH side: its keys as OpenSSH sees them, its own host in place of sshd, and web1 on either."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import web1
from demo.ssh_config import SshHost, write_ssh_config
from demo.ssh_host import HOST, HostFailed, OwnHost
from demo.ssh_pki import SshPki
from demo.terminal import Terminal, Typed
from demo.web1 import Web1
from tests.end_to_end.running import is_alive, wait_until

LOGIN_OF_OWN_HOST = "deploy"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> SshPki:
    made = SshPki(tmp_path_factory.mktemp("ssh"))
    for name in (web1.AUTHORITY, "stranger_ca", "client"):
        made.make(name)
    return made


@pytest.fixture(scope="module", params=[True, False], ids=["sshd", "own"])
def host(
    request: pytest.FixtureRequest, pki: SshPki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Web1]:
    """In a place whose name has a blank, as a checkout's may."""
    made = Web1(tmp_path_factory.mktemp("a place") / "web1", has_sshd=request.param)
    made.start(pki)
    try:
        yield made
    finally:
        made.stop()


def words(
    host: Web1, pki: SshPki, tmp_path: Path, *arguments: str, authority: str = web1.AUTHORITY
) -> list[str]:
    """The command line of ssh to the host itself, as the gateway would come."""
    certificate = pki.certify("client", authority, key_id="client", principals=[host.login])
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(host.known_hosts_line(pki) + "\n")
    target = SshHost("web1", HOST, host.port, host.login, pki.private("client"), known_hosts, certificate)
    config = write_ssh_config(tmp_path / "ssh_config", [target])
    return ["ssh", "-F", str(config), *arguments]


def run(command: list[str], **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def test_certificates_are_what_ssh_keygen_would_make(pki: SshPki) -> None:
    certificate = pki.certify("client", web1.AUTHORITY, key_id="alice", principals=["deploy", "root"])
    shown = run(["ssh-keygen", "-L", "-f", str(certificate)]).stdout
    assert 'Key ID: "alice"' in shown
    assert "user certificate" in shown
    assert shown.partition("Principals:")[2].split()[:2] == ["deploy", "root"]
    signer = run(["ssh-keygen", "-l", "-f", str(pki.public_file(web1.AUTHORITY))]).stdout.split()[1]
    assert signer in shown


def test_the_public_key_is_that_of_the_private_one(pki: SshPki) -> None:
    printed = run(["ssh-keygen", "-y", "-f", str(pki.private("client"))]).stdout.split()[:2]
    assert " ".join(printed) == pki.public("client")


def test_a_command_runs_in_the_home_with_its_streams_and_status(
    host: Web1, pki: SshPki, tmp_path: Path
) -> None:
    done = run(
        words(host, pki, tmp_path, "web1", "cat - www/index.html; echo wrong >&2; exit 7"), input="typed\n"
    )
    assert done.stdout == "typed\n" + web1.FILES["www/index.html"]
    assert done.stderr == "wrong\n"
    assert done.returncode == 7


def test_the_end_by_a_signal_is_seen(host: Web1, pki: SshPki, tmp_path: Path) -> None:
    assert run(words(host, pki, tmp_path, "web1", "kill -TERM $$")).returncode in {255, 128 + 15}


def test_a_shell_has_a_terminal_that_changes_its_size(host: Web1, pki: SshPki, tmp_path: Path) -> None:
    terminal = Terminal(words(host, pki, tmp_path, "web1"), tmp_path, dict(os.environ), (80, 20))
    script = (
        Typed("deploy@web1", "stty size; echo $TERM\n"),
        Typed("20 80", size=(100, 30)),
        Typed("$ ", "sleep 600\n"),
        Typed("sleep 600", "\x03"),
        Typed("$ ", "stty size; exit 3\n"),
        Typed("30 100"),
    )
    try:
        assert terminal.play(script, 60), terminal.new_text()
        assert terminal.finish(60) == 3
    finally:
        terminal.close()


def test_the_end_of_input_ends_a_shell(host: Web1, pki: SshPki, tmp_path: Path) -> None:
    terminal = Terminal(words(host, pki, tmp_path, "web1"), tmp_path, dict(os.environ))
    try:
        assert terminal.play([Typed("deploy@web1", "\x04")], 60), terminal.new_text()
        assert terminal.finish(60) == 0
    finally:
        terminal.close()


def test_files_begin_in_the_home(host: Web1, pki: SshPki, tmp_path: Path) -> None:
    config = words(host, pki, tmp_path)[2]
    batch = f"put {config} www/copy\nget www/copy {tmp_path}/back\nrm www/copy\n"
    done = run(["sftp", "-q", "-b", "-", "-F", config, "web1"], input=batch)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_text() == Path(config).read_text()
    assert not (host.home / "www/copy").exists()


def test_the_certificate_of_another_authority_opens_nothing(host: Web1, pki: SshPki, tmp_path: Path) -> None:
    done = run(words(host, pki, tmp_path, "web1", "id", authority="stranger_ca"))
    assert done.returncode == 255
    assert "Permission denied" in done.stderr


def test_the_certificate_for_another_login_opens_nothing(host: Web1, pki: SshPki, tmp_path: Path) -> None:
    command = words(host, pki, tmp_path, "web1", "id")
    pki.certify("client", web1.AUTHORITY, key_id="client", principals=["somebody-else"])
    assert run(command).returncode == 255


def test_what_runs_ends_with_the_host(tmp_path: Path, pki: SshPki) -> None:
    made = Web1(tmp_path / "web1", has_sshd=False)
    made.start(pki)
    command = words(made, pki, tmp_path, "web1", "echo $$; exec sleep 600")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        pid = int(client.stdout.readline())
        made.stop()
        assert client.wait(60) != 0
    wait_until(lambda: not is_alive(pid), "the end of what ran")
    assert not made.is_running


def test_a_host_that_cannot_start_says_why(tmp_path: Path, pki: SshPki) -> None:
    broken = tmp_path / "key"
    broken.write_text("nonsense")
    host = OwnHost(tmp_path, broken, pki.public_file(web1.AUTHORITY), tmp_path, tmp_path / "start")
    with pytest.raises(HostFailed, match="did not start; its log ends with"):
        host.start()
    host.stop()
