"""Real PostgreSQL servers that hold the shop of the demo, for the end-to-end tests.

The gateway's accounts on them are stronger than the gateway should ever let through: what a test sees
refused was refused by the gateway, because the target would have done it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from demo import shop
from tests.end_to_end.servers import PostgresServer, TlsFiles, postgres_15, postgres_18
from tests.pki import SERVER, Authority

READER, ADMIN, CATALOG = shop.ACCOUNTS
PASSWORDS = {account: f"the password of {account}, never seen" for account in shop.ACCOUNTS}
SHOP = shop.make_shop()

# The reader may read and write files, run programs and look at everybody's statements, and owns a schema to
# make objects in. The admin is a superuser: whatever dora may not do, the gateway keeps her from.
_POWERS = f"""
GRANT pg_read_server_files, pg_write_server_files, pg_execute_server_program, pg_monitor, pg_signal_backend
    TO {READER};
GRANT CREATE ON DATABASE {shop.DATABASE} TO {READER};
GRANT CREATE, USAGE ON SCHEMA public, shop TO {READER};
ALTER ROLE {ADMIN} SUPERUSER;
"""


@contextmanager
def shop_server(major: int, target_ca: Authority | None = None, **settings: str) -> Iterator[PostgresServer]:
    """A server of that major version with the shop in it; with TLS of `target_ca` when that is given (15 only)."""
    tls = None
    if target_ca is not None:
        credential = target_ca.issue("localhost", dns=["localhost"], ips=["127.0.0.1"], purpose=SERVER)
        tls = TlsFiles(credential.certificate_pem(), credential.key_pem())
    hba = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "host all all 127.0.0.1/32 scram-sha-256",
    ]
    install = postgres_15() if major == 15 else postgres_18()
    # Tests compare what is asked twice, sizes of tables included: nothing may tidy up in between.
    quiet = {"autovacuum": "off", **settings}
    with PostgresServer(install, hba=hba, tls=tls, settings=quiet) as server:
        fill(server)
        yield server


def fill(server: PostgresServer, database: str = shop.DATABASE) -> None:
    """Make the shop, its accounts and their powers on a server that has none yet."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}")
    with psycopg.connect(server.dsn(database)) as connection:
        shop.fill(connection, SHOP, PASSWORDS)
    server.psql(_POWERS, database)
