"""What people see of a policy through their own tools: what was refused, by which rule, and that the rest goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.postgres_server import free_port
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.running import HOST
from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_peers import Agent, Echo, Tunnel, dial, echoes, exchange, unix_directory
from tests.end_to_end.ssh_route import SshRoute, run
from tests.end_to_end.ssh_screen import Screen

DENIED = 126
LOST = 255

POLICY = """\
version: 1

roles:
  operator: {{groups: [operators]}}

access:
  - name: operators-everywhere
    roles: [operator]
    targets: {{protocol: ssh}}
    logins: [deploy]

rules:
  - name: some-commands
    effect: allow
    roles: [operator]
    ssh:
      exec: ["echo *", "cat *", "ls *", "git-upload-pack *", "rsync --server --sender *", "scp -f *"]
  - name: not-the-secrets
    effect: deny
    ssh: {{exec: ["cat *secret*"]}}
    message: "Secrets stay on the target."
  - name: restarts-wait
    effect: hold
    ssh: {{exec: ["systemctl restart *"]}}
    approval: {{approvers: [operators], approvals: 1, timeout: 10m}}
  - name: read-the-site
    effect: allow
    roles: [operator]
    ssh: {{files: [read, list, stat], paths: ["{site}/**"]}}
  - name: one-forward
    effect: allow
    roles: [operator]
    ssh: {{forward: ["127.0.0.1:{open}"]}}
"""


@pytest.fixture(scope="module")
def far() -> Iterator[Echo]:
    """Where the one allowed forward leads."""
    with Echo() as echo:
        yield echo


@pytest.fixture(scope="module")
def strict(
    sshd: SshServer, ssh_keys: SshKeys, far: Echo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshRoute]:
    site = sshd.home / "site"
    site.mkdir()
    (site / "index.html").write_text("the site\n")
    (sshd.home / "outside").write_text("canary outside\n")
    policy = POLICY.format(site=site, open=far.port)
    with SshGateway(sshd, tmp_path_factory.mktemp("strict"), ssh_keys, policy=policy) as gateway:
        yield gateway.route()
    shutil.rmtree(site)
    (sshd.home / "outside").unlink()


@pytest.fixture
def site(strict: SshRoute) -> Path:
    return strict.server.home / "site"


class TestCommands:
    def test_what_is_allowed_runs(self, strict: SshRoute, site: Path) -> None:
        assert strict.output(f"cat {site}/index.html && echo and | cat") == "the site\nand\n"

    @pytest.mark.parametrize(
        ("command", "told"),
        [
            ("rm -rf /tmp/canary", b"rm"),
            ("cat /etc/secret/key", b"Secrets stay on the target (rule not-the-secrets)."),
            ("echo ok; /bin/sh -c 'cat secret'", b"not-the-secrets"),
            ("echo $(cat 'sec''ret')", b"not-the-secrets"),
            ("systemctl restart web", b"restarts-wait"),
            ("echo x > /tmp/canary", b"/tmp/canary"),
        ],
    )
    def test_what_is_not_is_said_with_its_rule_and_126(
        self, strict: SshRoute, command: str, told: bytes
    ) -> None:
        done = strict.ssh(command, input=b"unread", status=DENIED)
        assert done.stdout == b""
        assert done.stderr.startswith(b"proxyd: ")
        assert told in done.stderr
        assert done.stderr.endswith(b"\r\n")
        assert done.stderr.count(b"\n") == 1

    def test_a_held_one_says_that_an_approval_is_needed(self, strict: SshRoute) -> None:
        done = strict.ssh("systemctl restart web", status=DENIED)
        assert b"approval" in done.stderr

    def test_the_connection_stays(self, strict: SshRoute) -> None:
        with unix_directory() as directory, Tunnel(strict, "-M", "-S", f"{directory}/control"):
            control = ("-S", f"{directory}/control")
            for number in range(3):
                strict.ssh("rm x", *control, status=DENIED)
                assert strict.output(f"echo {number}", *control) == f"{number}\n"

    def test_no_shell(self, strict: SshRoute) -> None:
        with Screen(strict.words(strict.name)) as screen:
            assert screen.exit_status() == DENIED
            assert "proxyd: no rule allows" in screen.history()

    def test_a_command_with_a_terminal(self, strict: SshRoute) -> None:
        with Screen(strict.words("-t", strict.name, "cat secret")) as screen:
            assert screen.exit_status() == DENIED
            assert "proxyd: Secrets stay on the target (rule not-the-secrets)." in screen.history()


class TestFiles:
    def test_sftp(self, strict: SshRoute, site: Path, tmp_path: Path) -> None:
        done = strict.sftp(
            f"get {site}/index.html {tmp_path}/got\n-get {site}/../outside {tmp_path}/outside\n"
            f"-put {tmp_path}/got {site}/new\n-rm {site}/index.html\n-mkdir {site}/d\nls {site}"
        )
        assert (tmp_path / "got").read_text() == "the site\n"
        assert not (tmp_path / "outside").exists()
        assert done.stderr.count(b"ermission denied") == 3
        assert done.stderr.count(b"proxyd: no rule allows") == 4
        assert [path.name for path in site.iterdir()] == ["index.html"]

    def test_a_link_out_of_the_site(self, strict: SshRoute, site: Path, tmp_path: Path) -> None:
        (site / "link").symlink_to("../outside")
        strict.sftp(f"get {site}/link {tmp_path}/outside", status=1)
        (site / "link").unlink()
        assert not (tmp_path / "outside").exists()

    @pytest.mark.parametrize("is_legacy", [False, True], ids=["sftp-protocol", "scp-protocol"])
    def test_scp(self, strict: SshRoute, site: Path, tmp_path: Path, *, is_legacy: bool) -> None:
        strict.scp(f"{strict.name}:{site}/index.html", str(tmp_path / "got"), is_legacy=is_legacy)
        assert (tmp_path / "got").read_text() == "the site\n"
        done = strict.scp(
            str(tmp_path / "got"), f"{strict.name}:{site}/new", is_legacy=is_legacy, status=None
        )
        assert done.returncode != 0
        assert b"proxyd: " in done.stderr or b"ermission denied" in done.stderr
        assert [path.name for path in site.iterdir()] == ["index.html"]

    def test_rsync(self, strict: SshRoute, site: Path, tmp_path: Path) -> None:
        strict.rsync("-a", f"{strict.name}:{site}/", f"{tmp_path}/back/")
        assert (tmp_path / "back" / "index.html").read_text() == "the site\n"
        done = strict.rsync("-a", f"{tmp_path}/back/", f"{strict.name}:{site}/new/", status=None)
        assert done.returncode != 0
        assert b"proxyd: " in done.stderr
        assert [path.name for path in site.iterdir()] == ["index.html"]

    def test_git(self, strict: SshRoute, tmp_path: Path) -> None:
        origin = strict.server.home / "denied.git"
        strict.git("init", "-q", "--bare", "-b", "main", str(origin), cwd=tmp_path)
        strict.git("clone", "-q", f"{strict.name}:{origin}", "clone", cwd=tmp_path)
        clone = tmp_path / "clone"
        strict.git("commit", "-q", "--allow-empty", "-m", "first", cwd=clone)
        done = strict.git("push", "origin", "HEAD:main", cwd=clone, status=128)
        assert b"proxyd: " in done.stderr
        assert b"git-receive-pack" in done.stderr
        shutil.rmtree(origin)


class TestForwards:
    def test_one_is_open_and_others_are_not(self, strict: SshRoute, far: Echo) -> None:
        good, bad = free_port(HOST), free_port(HOST)
        with Echo() as other:
            options = ("-L", f"{good}:{HOST}:{far.port}", "-L", f"{bad}:{HOST}:{other.port}")
            with Tunnel(strict, *options) as tunnel:
                assert exchange(dial(bad), b"x") == b""
                assert echoes(good)
                assert "administratively prohibited" in tunnel.log()
            assert other.accepted == 0

    def test_listening(self, strict: SshRoute, far: Echo) -> None:
        words = strict.words(
            "-o", "ExitOnForwardFailure=yes", "-N", "-R", f"0:{HOST}:{far.port}", strict.name
        )
        done = run(words, status=LOST)
        assert b"remote port forwarding failed" in done.stderr

    def test_standard_streams(self, strict: SshRoute) -> None:
        done = run(strict.words("-o", "LogLevel=INFO", "-W", f"{HOST}:1", strict.name), status=LOST)
        assert b"administratively prohibited" in done.stderr

    def test_the_agent(self, strict: SshRoute, ssh_keys: SshKeys) -> None:
        with Agent(ssh_keys.private("carried")) as agent:
            done = strict.ssh("echo goes on", *agent.options, env=agent.env)
        assert done.stdout == b"goes on\n"

    def test_jumps(self, strict: SshRoute) -> None:
        """No rule allows the target's own address as a forward."""
        done = run(strict.words("-J", "jump", "inside", "echo never"), status=LOST)
        assert done.stdout == b""
        assert b"administratively prohibited" in done.stderr or b"closed" in done.stderr.lower()
