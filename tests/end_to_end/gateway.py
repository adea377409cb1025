"""proxyd as its users meet it: a real daemon in front of a real PostgreSQL, and real clients through it.

    with Gateway(server, directory, policy=ALICE_AND_DORA) as gateway:
        gateway.psql("alice", "select email from shop.customers").stdout
        with gateway.connect("dora") as connection: ...          # psycopg
        gateway.reload(another_policy); gateway.tapes(); gateway.log_lines(); gateway.metrics()

alice's certificate says group data, dora's dba, mallory's guests (in no role). Owns the certificates, the
two documents, the secrets and the process; the server is the caller's. The fixtures are in `conftest`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import yaml

from demo import shop
from demo.gateway import Gateway as Daemon
from demo.gateway import program
from demo.postgres_server import free_port
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.servers import PostgresServer, client_env, postgres_15, psql_command
from tests.end_to_end.shop_server import ADMIN, CATALOG, PASSWORDS, READER
from tests.pki import CLIENT, SERVER, Authority

HOST = "127.0.0.1"
TARGET = "shop"
WAIT_S = 20.0
PEOPLE = {"alice": ("data", "readonly"), "dora": ("dba", "admin"), "mallory": ("guests", "readonly")}

Document = dict[str, Any]


def wait_until(is_true: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Poll until `is_true()`; TimeoutError naming `what` when it never is."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {timeout_s:g} s")
        time.sleep(0.01)


class Gateway:
    """A running proxyd. `adjust` may change the configuration (the mapping that proxyd.yaml is written from).

    server: has the shop (`shop_server`). target_ca: with it the gateway speaks TLS to the target, verify-full.
    After a failure in its block the daemon's log is printed, for pytest to show.
    """

    def __init__(
        self,
        server: PostgresServer,
        directory: Path,
        *,
        policy: str = ALICE_AND_DORA,
        target_ca: Authority | None = None,
        database: str = shop.DATABASE,
        adjust: Callable[[Document], None] | None = None,
    ) -> None:
        self.server = server
        self.directory = directory
        self.database = database
        self.authority = Authority.root("People's CA")
        self.people = dict(PEOPLE)
        self.policy_path = directory / "policy.yaml"
        self.config_path = directory / "proxyd.yaml"
        self.tape_directory = directory / "tapes"
        self.metrics_port = free_port(HOST)
        self.daemon = Daemon(self.config_path, directory / "proxyd.log")
        self._write_files(target_ca)
        config = self._config(target_ca)
        if adjust is not None:
            adjust(config)
        self.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.policy_path.write_text(policy)

    # Life

    def start(self) -> None:
        """Start and wait until it is ready (its own word to the service manager)."""
        self.daemon.start()

    def stop(self) -> int | None:
        """SIGTERM, and wait; the exit status. Safe to call twice."""
        return self.daemon.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            self.show_log()

    @property
    def port(self) -> int:
        """Where the first listener listens."""
        return int(self.logged("listening")[-1]["address"].rpartition(":")[2])

    def reload(self, policy: str | None = None) -> bool:
        """Put another policy in force (None: read the same files again); False when the daemon refused it."""
        if policy is not None:
            self.policy_path.write_text(policy)
        before = self._reloads()
        self.daemon.reload()
        wait_until(lambda: len(self._reloads()) > len(before), "the reload")
        return bool(self._reloads()[-1] == "reloaded")

    def _reloads(self) -> list[str]:
        return [str(line["event"]) for line in self.log_lines() if str(line["event"]).startswith("reload")]

    # What it left behind

    def log_lines(self) -> list[Document]:
        """Every complete line of the log; one that is not JSON (a traceback) as {"event": line}."""
        path = self.daemon.log_path
        text = path.read_text(errors="replace") if path.exists() else ""
        return [_log_line(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def logged(self, event: str, **values: object) -> list[Document]:
        """The log lines with this event (and these values)."""
        wanted = {"event": event, **values}
        return [line for line in self.log_lines() if all(line.get(key) == wanted[key] for key in wanted)]

    def show_log(self) -> None:
        print(f"--- the log of proxyd in {self.directory}\n{self.daemon.log_tail(200)}\n---")

    def tapes(self) -> list[Path]:
        """The tape files, oldest first."""
        found = (path for path in self.tape_directory.rglob("*") if path.is_file())
        return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))

    def tape_bytes(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.tapes())

    def tape(self, session: str) -> Path:
        """The tape of a session, by its id as the log gives it."""
        return Path(self.logged("session opened", session=session)[0]["tape"])

    def last_session(self, subject: str | None = None) -> str:
        """The id of the newest session (of `subject`), once it has ended: its tape is whole then."""

        def ended() -> list[Document]:
            opened = [line for line in self.logged("session opened") if subject in (None, line["subject"])]
            return self.logged("session ended", session=opened[-1]["session"]) if opened else []

        wait_until(lambda: bool(ended()), "the end of the session")
        return str(ended()[0]["session"])

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels, as in `proxyd_sessions_total{listener="postgres"}`."""
        found = {}
        for line in self.http("/metrics").splitlines():
            sample = re.fullmatch(r"([^#\s]\S*(?:\{.*\})?) (\S+)", line)
            if sample is not None:
                found[sample[1]] = float(sample[2])
        return found

    def http(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{HOST}:{self.metrics_port}{path}", timeout=WAIT_S) as answer:
            return str(answer.read().decode())

    def proxyd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Another command of the program, as in `proxyd("tape", "ls", ...)`."""
        command = [program(), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    # Clients

    def issue(self, person: str, group: str, login: str, **fields: Any) -> None:
        """A certificate for somebody new, who comes as `login`. `fields` are those of Authority.issue."""
        self.people[person] = (group, login)
        credential = self.authority.issue(person, unit=[group], purpose=CLIENT, **fields)
        credential.write(self.directory / "pki", person)

    def words(self, person: str, login: str | None = None, database: str = TARGET) -> dict[str, str]:
        """The libpq keywords by which `person` comes through the gateway."""
        pki = self.directory / "pki"
        return {
            "host": HOST,
            "port": str(self.port),
            "dbname": database,
            "user": login or self.people[person][1],
            "sslmode": "verify-full",
            "sslrootcert": str(pki / "ca.crt"),
            "sslcert": str(pki / f"{person}.crt"),
            "sslkey": str(pki / f"{person}.key"),
        }

    def dsn(self, person: str, login: str | None = None, database: str = TARGET, **more: object) -> str:
        return _dsn(self.words(person, login, database) | {key: str(value) for key, value in more.items()})

    def direct_dsn(self, login: str = "admin", **more: object) -> str:
        """The same account on the target itself, round the gateway: what a transparent gateway is compared with."""
        user = {"admin": ADMIN, "readonly": READER, "catalog": CATALOG}[login]
        words = {
            "host": HOST,
            "port": str(self.server.port),
            "dbname": self.database,
            "user": user,
            "password": PASSWORDS[user],
        }
        return _dsn(words | {key: str(value) for key, value in more.items()})

    def connect(self, person: str, **options: Any) -> psycopg.Connection[Any]:
        """psycopg. `options`: `login`, `database`, and those of psycopg.connect."""
        place = {key: options.pop(key) for key in ("login", "database") if key in options}
        return psycopg.connect(self.dsn(person, **place), **options)

    def psql(
        self,
        person: str,
        sql: str,
        *arguments: str,
        major: int = 18,
        check: bool = True,
        database: str = TARGET,
        login: str | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run `sql` from standard input by psql (18, or Debian's 15), errors in `stderr`.

        check: stop at the first error and raise AssertionError with what psql said; without it go on after errors.
        """
        dsn = self.dsn(person, login, database)
        return run_psql(dsn, sql, *arguments, major=major, check=check, **environment)

    # Files

    def _write_files(self, target_ca: Authority | None) -> None:
        pki, secrets = self.directory / "pki", self.directory / "secrets"
        for directory in (pki, secrets, self.tape_directory):
            directory.mkdir(parents=True, exist_ok=True)
        server = self.authority.issue("localhost", dns=["localhost"], ips=[HOST], purpose=SERVER)
        server.write(pki, "server")
        self.authority.write_bundle(pki / "ca.crt")
        self.authority.write_crl(pki / "ca.crl")
        for person, (group, login) in PEOPLE.items():
            self.issue(person, group, login)
        if target_ca is not None:
            target_ca.write_bundle(pki / "target-ca.crt")
        for name, value in (*PASSWORDS.items(), ("pseudonym", "0123456789abcdef0123456789abcdef")):
            path = secrets / name
            path.touch(mode=0o600)
            path.write_text(value + "\n")

    def _config(self, target_ca: Authority | None) -> Document:
        return {
            "version": 1,
            "listeners": [
                {
                    "name": "postgres",
                    "protocol": "postgres",
                    "address": f"{HOST}:0",
                    "tls": {
                        "certificate": "pki/server.crt",
                        "key": "pki/server.key",
                        "client_ca": "pki/ca.crt",
                        "client_certificates": "required",
                        "crl": "pki/ca.crl",
                    },
                    "limits": {
                        "connections": 200,
                        "connections_per_subject": 100,
                        "handshake_timeout": "10s",
                    },
                }
            ],
            "identity": {"certificates": {"name": ["cn"], "groups": {"from": ["ou"]}}},
            "targets": [
                {
                    "name": TARGET,
                    "protocol": "postgres",
                    "address": f"{HOST}:{self.server.port}",
                    "labels": {"env": "prod"},
                    "database": self.database,
                    "databases": ["*"],
                    "tls": {"mode": "disable"}
                    if target_ca is None
                    else {"mode": "verify-full", "ca": "pki/target-ca.crt"},
                    "logins": [
                        _login("readonly", READER),
                        _login("admin", ADMIN),
                        _login("catalog", CATALOG),
                    ],
                    "catalog": {"login": "catalog", "poll": "1s"},
                }
            ],
            "masking": {"keys": {"customers": {"file": "secrets/pseudonym"}}},
            "policy": "policy.yaml",
            "tapes": {"directory": "tapes", "reply_limit": "16MiB"},
            "metrics": {"address": f"{HOST}:{self.metrics_port}"},
            "log": {"level": "info"},
            "drain_timeout": "5s",
        }


def run_psql(
    dsn: str, sql: str, *arguments: str, major: int = 18, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """psql on any connection string, `sql` on its standard input. See `Gateway.psql`."""
    done = subprocess.run(
        psql_words(dsn, *arguments, major=major, stop=check),
        input=sql.encode(),
        env=psql_env(major, **environment),
        capture_output=True,
        check=False,
        timeout=60,
    )
    text = subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )
    if check and done.returncode != 0:
        raise AssertionError(f"psql ended with {done.returncode}:\n{text.stdout}\n{text.stderr}")
    return text


def psql_words(dsn: str, *arguments: str, major: int = 18, stop: bool = True) -> list[str]:
    """The command line of psql; `stop`: at the first error. Run it with `psql_env`."""
    words = psql_command(dsn, *arguments)
    if major == 15:
        words[0] = postgres_15().program("psql")
    if not stop:
        words[words.index("ON_ERROR_STOP=1")] = "ON_ERROR_STOP=0"
    return words


def psql_env(major: int = 18, **variables: str) -> dict[str, str]:
    """Debian's programs have TLS of their own; the wheel's get it by a preloaded library."""
    environment = client_env(**variables)
    if major == 15:
        del environment["LD_PRELOAD"]
    return environment


def _login(name: str, account: str) -> Document:
    return {"name": name, "user": account, "password": {"file": f"secrets/{account}"}}


def _dsn(words: Mapping[str, str]) -> str:
    return " ".join(f"{key}='{_escaped(value)}'" for key, value in words.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _log_line(line: str) -> Document:
    try:
        found = json.loads(line)
    except ValueError:
        return {"event": line.rstrip("\n")}
    return found if isinstance(found, dict) else {"event": line.rstrip("\n")}


def is_alive(process_id: int) -> bool:
    """Does the process exist?"""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
