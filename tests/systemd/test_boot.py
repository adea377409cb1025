"""proxyd as a service of a real systemd: started by its sockets, reloaded, killed, stuck, stopped.

The machine is a container on the host's network; the targets are a PostgreSQL, an sshd and an HTTP server on the host,
and so are psql, ssh and curl.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo.postgres_server import free_port
from demo.ssh_config import SshHost, write_ssh_config
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from demo.terminal import Terminal, Typed
from tests.end_to_end.gateway import HOST, Gateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import READER, shop_server
from tests.systemd.machine import ROOT, Machine, wheels

SOCKETS = ("proxyd.socket", "proxyd-ssh.socket", "proxyd-http.socket")
WAIT_S = 30.0
WATCHDOG_S = 3
CONFIG = "/etc/proxyd"
AUTHORITY = "gateway_ca"
ADMIN_SOCKET = "/run/proxyd/admin.sock"
MASKED_QUERY = "select email from shop.customers order by id limit 1"

POLICY = ALICE_AND_DORA.replace(
    "\nrules:\n",
    """
  - {name: dbas-on-web, roles: [dba], targets: {protocol: ssh}, logins: [deploy]}
  - {name: dbas-at-the-api, roles: [dba], targets: {protocol: http}, logins: [default]}

rules:
  - {name: dbas-work-on-web, effect: allow, roles: [dba], ssh: {shell: true, exec: ["*"]}}
  - {name: dbas-read-the-api, effect: allow, roles: [dba], http: {methods: [GET], paths: ["/**"]}}
""",
)

_DROP_INS = {
    "proxyd.socket.d/test.conf": "[Socket]\nListenStream=\nListenStream={address}\n",
    "proxyd-ssh.socket.d/test.conf": "[Socket]\nListenStream=\nListenStream={ssh_address}\n",
    "proxyd-http.socket.d/test.conf": "[Socket]\nListenStream=\nListenStream={http_address}\n",
    "proxyd.service.d/test.conf": (
        "[Service]\nWatchdogSec={watchdog}s\nLoadCredential=shop-reader:{config}/credentials/shop-reader\n"
    ),
}


class Service(Gateway):
    """proxyd in the machine, by systemctl, with certificates and psql of the end-to-end tests; ssh and curl by dora."""

    def __init__(
        self, server: PostgresServer, sshd: SshServer, app: Hypercorn, directory: Path, keys: SshKeys
    ) -> None:
        self._port = self._ssh_port = self._http_port = 0
        self._sshd = sshd
        self._app = app
        self._keys = keys
        self.machine: Machine
        super().__init__(server, directory, policy=POLICY, adjust=self._as_service)
        (directory / "credentials").mkdir()
        (directory / "secrets" / READER).rename(directory / "credentials/shop-reader")

    @property
    def port(self) -> int:
        return self._port

    def ssh_words(self, *arguments: str) -> list[str]:
        """The command line by which dora reaches web1."""
        keys = self._keys
        keys.certify("dora", "people_ca", ["deploy"])
        known_hosts = keys.directory / "known_hosts_of_people"
        known_hosts.write_text(f"[{HOST}]:{self._ssh_port} {keys.public('gateway_host')}\n")
        way = (
            HOST,
            self._ssh_port,
            "deploy+web1",
            keys.private("dora"),
            known_hosts,
            keys.certificate("dora"),
        )
        config = write_ssh_config(keys.directory / "ssh_config", [SshHost("web1", *way)])
        return ["ssh", "-F", str(config), "web1", *arguments]

    def curl(self, path: str) -> subprocess.CompletedProcess[str]:
        """GET a path of the API, by dora."""
        pki = self.directory / "pki"
        files = (
            "--cacert",
            str(pki / "ca.crt"),
            "--cert",
            str(pki / "dora.crt"),
            "--key",
            str(pki / "dora.key"),
        )
        url = f"https://localhost:{self._http_port}/t/api{path}"
        return _run(["curl", "--silent", "--show-error", "--max-time", "40", *files, url])

    def proxyd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Another command of the installed program, as root inside."""
        return self.machine.run("/opt/proxyd/bin/proxyd", *arguments, check=check)

    def install(self, machine: Machine) -> None:
        """As the unit file and the README say, with the port of the test and a short watchdog."""
        self.machine = machine
        run = machine.run
        run("python3", "-m", "venv", "/opt/proxyd")
        run("/opt/proxyd/bin/pip", "install", "--quiet", "--no-index", "--find-links=/srv/wheels", "proxyd")
        units = [f"/srv/units/{name}" for name in ("proxyd.service", *SOCKETS)]
        run("cp", *units, "/etc/systemd/system/")
        run("systemd-sysusers", "/srv/units/proxyd.sysusers")
        self.install_documents()
        # Chosen only now: what is free may be another's by the time that all of the above is done.
        self._port, self._ssh_port, self._http_port = (free_port(HOST) for _ in range(3))
        for name, text in _DROP_INS.items():
            path = f"/etc/systemd/system/{name}"
            filled = text.format(
                address=f"{HOST}:{self.port}",
                ssh_address=f"{HOST}:{self._ssh_port}",
                http_address=f"{HOST}:{self._http_port}",
                watchdog=WATCHDOG_S,
                config=CONFIG,
            )
            run("mkdir", "-p", str(Path(path).parent))
            run("sh", "-c", f'printf "%s" "$1" > {path}', "sh", filled)
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--now", *SOCKETS)

    def install_documents(self) -> None:
        """Configuration, certificates and secrets: root's, readable for the service; one secret for root only."""
        run = self.machine.run
        run("mkdir", "-p", CONFIG)
        run("sh", "-c", f"cp -r /srv/setup/. {CONFIG}/")
        run("chown", "-R", "root:proxyd", CONFIG)
        run("chmod", "-R", "u=rwX,g=rX,o=", CONFIG)
        run("chown", "-R", "root:root", f"{CONFIG}/credentials")
        run("chmod", "-R", "go=", f"{CONFIG}/credentials")

    def shown(self, name: str, unit: str = "proxyd.service") -> str:
        """A property of a unit."""
        return self.machine.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def journal(self) -> str:
        units = [word for unit in ("proxyd.service", *SOCKETS) for word in ("-u", unit)]
        return self.machine.run("journalctl", "--no-pager", "-o", "short-precise", *units, check=False).stdout

    def ask(self, sql: str = MASKED_QUERY) -> str:
        return self.psql("alice", sql, "-At").stdout.strip()

    def wait(self, is_true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_true():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not happen within {WAIT_S:g} s")
            time.sleep(0.1)

    def wait_until_restarted(self, before: str) -> None:
        """Until another process is the service's, and ready."""
        self.wait(
            lambda: self.shown("MainPID") not in {before, "0"} and self.shown("ActiveState") == "active",
            "the restart",
        )

    def _as_service(self, config: dict[str, Any]) -> None:
        listener, target = config["listeners"][0], config["targets"][0]
        del listener["address"]
        listener["socket"] = "postgres"
        config["tapes"]["directory"] = "/var/lib/proxyd/tapes"
        config["admin"] = {"socket": ADMIN_SOCKET}
        readonly = next(login for login in target["logins"] if login["name"] == "readonly")
        readonly["password"] = {"credential": "shop-reader"}
        self._add_ssh(config)
        self._add_http(config)

    def _add_http(self, config: dict[str, Any]) -> None:
        tls = dict(config["listeners"][0]["tls"])
        config["listeners"].append({"name": "web", "protocol": "http", "socket": "http", "tls": tls})
        login = {"name": "default", "none": True}
        target = {
            "name": "api",
            "protocol": "http",
            "url": f"http://{HOST}:{self._app.port}",
            "logins": [login],
        }
        config["targets"].append(target)
        config["store"] = {"path": "/var/lib/proxyd/proxyd.db"}

    def _add_ssh(self, config: dict[str, Any]) -> None:
        for name in ("gateway_host", "people_ca", AUTHORITY):
            self._keys.private(name)
        (self._keys.directory / "known_hosts").write_text(self._sshd.known_hosts_line + "\n")
        config["listeners"].append(
            {
                "name": "ssh",
                "protocol": "ssh",
                "socket": "ssh",
                "host_keys": ["ssh/gateway_host"],
                "client_ca": "ssh/people_ca.pub",
            }
        )
        config["identity"]["people"] = [{"name": "dora", "groups": ["dba"]}]
        config["ssh_authority"] = {"key": {"file": f"ssh/{AUTHORITY}"}}
        config["targets"].append(
            {
                "name": "web1",
                "protocol": "ssh",
                "address": f"{self._sshd.host}:{self._sshd.port}",
                "host_keys": {"known_hosts": "ssh/known_hosts"},
                "logins": [{"name": "deploy", "user": self._sshd.login, "certificate": True}],
            }
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("systemd")
    setup = directory / "setup"
    setup.mkdir()
    keys = SshKeys(setup / "ssh")
    app = Hypercorn(directory / "app")
    with shop_server(15) as server, SshServer(user_authorities=[keys.public(AUTHORITY)]) as sshd, app:
        found = Service(server, sshd, app, setup, keys)
        shared = {"wheels": wheels(), "units": ROOT / "systemd", "setup": setup}
        with Machine(directory, shared) as machine:
            found.install(machine)
            yield found


@pytest.fixture(autouse=True)
def journal(service: Service, request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failure the journal says what the service saw."""
    failed_before = request.session.testsfailed
    service.machine.run("systemctl", "reset-failed", "proxyd.service", *SOCKETS, check=False)
    yield
    if request.session.testsfailed > failed_before:
        print(service.machine.run("systemctl", "status", "--no-pager", "proxyd.service", check=False).stdout)
        print(service.journal())


def test_the_units_are_clean_where_they_are_installed(service: Service) -> None:
    done = service.machine.run("systemd-analyze", "verify", "proxyd.service", *SOCKETS, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_connection_starts_the_service_and_is_answered(service: Service) -> None:
    service.machine.run("systemctl", "stop", "proxyd.service")
    assert service.shown("ActiveState") == "inactive"
    answer = service.ask()
    assert re.fullmatch(r"\*+\S{4}", answer), answer
    assert service.shown("ActiveState") == "active"
    assert service.shown("StatusText").startswith("serving 3 listeners, policy ")


def test_a_connection_to_the_other_socket_starts_it_too(service: Service) -> None:
    service.machine.run("systemctl", "stop", "proxyd.service")
    done = _run(service.ssh_words("echo hello; exit 7"))
    assert (done.stdout, done.returncode) == ("hello\n", 7), done.stderr
    assert service.shown("ActiveState") == "active"
    assert service.ask()


def test_a_request_starts_it_too_and_waits_while_it_restarts(service: Service) -> None:
    service.machine.run("systemctl", "stop", "proxyd.service")
    for _ in range(2):
        done = service.curl("/echo?a=b")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["query"] == "a=b"
        assert service.shown("ActiveState") == "active"
        service.machine.run("kill", "-9", service.shown("MainPID"))


def test_root_sees_and_ends_live_sessions(service: Service, tmp_path: Path) -> None:
    shell = Terminal(service.ssh_words(), tmp_path, dict(os.environ))
    try:
        assert shell.play([Typed("target$ ", "echo $((6 * 7))\n"), Typed("42")], WAIT_S), shell.new_text()
        with service.connect("alice"):
            listed = [line.split() for line in service.proxyd("sessions", "ls").stdout.splitlines()[1:]]
        assert [line[1:5] for line in listed] == [
            ["ssh", "dora", "web1", "deploy"],
            ["postgres", "alice", "shop/shop", "readonly"],
        ]
        service.proxyd("sessions", "end", listed[0][0], "--reason", "the night begins")
        assert shell.finish(WAIT_S) == 255
        assert "ended by an administrator: the night begins" in shell.new_text()
    finally:
        shell.close()


def test_the_admin_socket_is_the_services_own(service: Service) -> None:
    service.ask()
    shown = service.machine.run("stat", "-c", "%a %U", ADMIN_SOCKET).stdout.split()
    assert shown == ["600", "proxyd"]
    refused = service.machine.run(
        *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
        *("/opt/proxyd/bin/proxyd", "sessions", "ls"),
        check=False,
    )
    assert refused.returncode == 3


def test_it_runs_as_nobody_in_particular(service: Service) -> None:
    service.ask()
    status = service.machine.run("cat", f"/proc/{service.shown('MainPID')}/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    uid = service.machine.run("id", "-u", "proxyd").stdout.strip()
    assert set(fields["Uid"].split()) == {uid}
    assert uid != "0"
    assert int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert service.shown("LimitNOFILE") == "65536"


def test_the_health_page_answers(service: Service) -> None:
    service.ask()
    assert service.http("/readyz") == "ready\n"
    assert "proxyd_sessions_total" in service.http("/metrics")


def test_reload_takes_a_new_policy_and_keeps_the_session(service: Service) -> None:
    with service.connect("alice", autocommit=True) as connection:
        before = service.shown("StatusText")
        process = service.shown("MainPID")
        service.policy_path.write_text(POLICY + "# tomorrow\n")
        service.install_documents()
        service.machine.run("systemctl", "reload", "proxyd.service")
        service.wait(lambda: service.shown("StatusText") not in {before, "reloading"}, "the reload")
        assert service.shown("ActiveState") == "active"
        assert service.shown("MainPID") == process
        assert connection.execute("select 1").fetchone() == (1,)


def test_reload_of_a_faulty_policy_fails_aloud_and_changes_nothing(service: Service) -> None:
    service.ask()
    before = service.shown("StatusText")
    service.policy_path.write_text("version: 1\nsurprise: yes\n")
    service.install_documents()
    try:
        done = service.machine.run("systemctl", "reload", "proxyd.service", check=False)
        assert done.returncode != 0
        assert "policy.yaml:2:1: surprise: unknown key" in service.journal()
        assert service.shown("ActiveState") == "active"
        assert service.shown("StatusText") == before
        assert service.ask()
    finally:
        service.policy_path.write_text(POLICY)
        service.install_documents()
        service.machine.run("systemctl", "reload", "proxyd.service")


def test_killed_it_comes_back_and_answers(service: Service) -> None:
    service.ask()
    process = service.shown("MainPID")
    service.machine.run("kill", "-9", process)
    service.wait_until_restarted(process)
    assert service.ask()


def test_a_client_that_comes_while_it_restarts_waits(service: Service) -> None:
    service.ask()
    service.machine.run("kill", "-9", service.shown("MainPID"))
    assert service.ask()


def test_stuck_it_is_restarted_by_the_watchdog(service: Service) -> None:
    service.ask()
    process = service.shown("MainPID")
    service.machine.run("kill", "-STOP", process)
    service.wait_until_restarted(process)
    assert "watchdog" in service.journal().lower()
    assert service.ask()


def test_a_faulty_config_is_not_tried_again_and_again(service: Service) -> None:
    service.machine.run("systemctl", "stop", "proxyd.service", *SOCKETS)
    service.machine.run("sh", "-c", f"echo 'surprise: 1' >> {CONFIG}/proxyd.yaml")
    try:
        service.machine.run("systemctl", "start", "proxyd.service", check=False)
        service.wait(lambda: service.shown("ActiveState") == "failed", "the failure")
        assert service.shown("ExecMainStatus") == "78"
        assert service.shown("NRestarts") == "0"
        assert "surprise: unknown key" in service.journal()
    finally:
        service.install_documents()
        service.machine.run("systemctl", "reset-failed", "proxyd.service")
        service.machine.run("systemctl", "start", *SOCKETS)
    assert service.ask()


def test_stop_is_clean(service: Service) -> None:
    """An idle session is told; a running statement may end."""
    ended: list[subprocess.CompletedProcess[str]] = []

    def work() -> None:
        ended.append(service.psql("dora", "select pg_sleep(2), 'worked'", "-At", check=False))

    with service.connect("alice", autocommit=True) as idle:
        worker = threading.Thread(target=work)
        worker.start()
        service.wait(lambda: _is_running(service.server, "select pg_sleep"), "the statement")
        service.machine.run("systemctl", "stop", "proxyd.service")
        worker.join()
        assert "worked" in ended[0].stdout, ended[0]
        with pytest.raises(psycopg.Error, match="administrator command"):
            idle.execute("select 1")
    assert service.shown("ActiveState") == "inactive"
    assert service.shown("Result") == "success"
    assert service.shown("ExecMainStatus") == "0"
    tapes = service.machine.run("find", "/var/lib/proxyd/tapes", "-name", "*.tape").stdout.split()
    assert tapes
    modes = service.machine.run("stat", "-c", "%a %U", *tapes).stdout.splitlines()
    assert {mode.split()[1] for mode in modes} == {"proxyd"}
    assert all(mode.split()[0].endswith("00") for mode in modes)
    for tape in tapes[-3:]:
        service.machine.run("/opt/proxyd/bin/proxyd", "tape", "verify", tape)


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def _is_running(server: PostgresServer, text: str) -> bool:
    sql = "select count(*) from pg_stat_activity where state = 'active' and query like %s"
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute(sql, (f"{text}%",)).fetchone()
    return row is not None and row[0] > 0
