"""What all contestants lead to: Debian's PostgreSQL 15 with TLS, filled by pgbench and by us.

Owns the server, its certificates and its tables. Nothing of it is durable; everything is gone after `stop`.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg

from demo.pki import DemoPki
from demo.postgres_installs import client_env, postgres_15
from demo.postgres_server import PostgresServer, TlsFiles

DATABASE = "bench"
ACCOUNT = "bencher"
PASSWORD = "bench-only"  # noqa: S105  (its server is gone with the bench)
ROWS = 200_000
WIDE_ROWS = 5_000
WIDE_ROW_BYTES = 1_000

# Real rows differ in length and content; these do, in a way that is the same at every run.
TABLES = f"""
CREATE TABLE people (
    id integer PRIMARY KEY, name text, email text, city text, balance numeric(10, 2), seen date
);
INSERT INTO people
    SELECT n, 'Person ' || md5(n::text), 'person.' || n || '@example.com', 'City ' || n % 977,
           (n * 7919 % 1000000) / 100.0, date '2020-01-01' + n % 1500
    FROM generate_series(1, {ROWS}) AS n;
CREATE TABLE wide (id integer PRIMARY KEY, filler text);
INSERT INTO wide
    SELECT n, repeat(chr(97 + n % 26), {WIDE_ROW_BYTES}) FROM generate_series(1, {WIDE_ROWS}) AS n;
CREATE TABLE times (n integer PRIMARY KEY);
INSERT INTO times SELECT n FROM generate_series(1, 1000) AS n;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ACCOUNT};
"""

SETTINGS = {
    "shared_buffers": "256MB",
    "max_parallel_workers_per_gather": "0",
    "autovacuum": "off",
    "jit": "off",
    "max_connections": "100",
}


class Target:
    """The server, and `pki` with the certificates that every contestant shows."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.directory = Path(tempfile.mkdtemp(prefix="proxyd-bench-"))
        self.pki = DemoPki(self.directory / "pki")
        self.pki.issue_server()
        self.pki.issue_client("bench", "bench")
        tls = TlsFiles(self.pki.certificate("server").read_bytes(), self.pki.key("server").read_bytes())
        hba = ("local all postgres trust", "host all all 127.0.0.1/32 scram-sha-256")
        settings = SETTINGS | {"unix_socket_permissions": "0700"}
        self.server = PostgresServer(postgres_15(), hba=hba, settings=settings, tls=tls)

    @property
    def pgbench(self) -> str:
        return self.server.install.program("pgbench")

    def start(self) -> None:
        self.server.start()
        superuser = self.server.dsn(host=str(self.server.directory))
        with psycopg.connect(superuser, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {ACCOUNT} LOGIN PASSWORD '{PASSWORD}'")
            connection.execute(f"CREATE DATABASE {DATABASE}")
        owner = self.server.dsn(DATABASE, host=str(self.server.directory))
        command = [self.pgbench, "-i", "-q", "-s", str(self.scale), owner]
        subprocess.run(command, env=client_env(), check=True, capture_output=True)
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute(TABLES)
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def stop(self) -> None:
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
