"""Real PostgreSQL servers for tests: the throw-away servers of the demo, and the roles by which tests log in.

`tests/conftest.py` makes the fixtures `pg18` and `pg15_tls` of it.
"""

from __future__ import annotations

from demo.postgres_installs import InstallMissing, client_env, postgres_15, postgres_18, psql_command
from demo.postgres_server import SUPERUSER, PostgresServer, ServerFailed, TlsFiles

__all__ = [
    "PASSWORD",
    "ROLES",
    "SUPERUSER",
    "InstallMissing",
    "PostgresServer",
    "ServerFailed",
    "TlsFiles",
    "authentication_hba",
    "client_env",
    "create_roles",
    "postgres_15",
    "postgres_18",
    "psql_command",
]

PASSWORD = "correct horse, battery staple"

# Each role logs in by the method in its name: tests pick a method by picking a user.
ROLES = ("by_trust", "by_password", "by_md5", "by_scram", "by_cert", "by_reject")


def authentication_hba(*, tls: bool) -> list[str]:
    """pg_hba.conf for `ROLES`. by_cert exists with TLS only; by_tls_only (SCRAM) is refused in clear."""
    lines = [
        "local all all trust",
        "host all postgres 127.0.0.1/32 trust",
        "host all by_trust 127.0.0.1/32 trust",
        "host all by_password 127.0.0.1/32 password",
        "host all by_md5 127.0.0.1/32 md5",
        "host all by_scram 127.0.0.1/32 scram-sha-256",
        "host all by_reject 127.0.0.1/32 reject",
    ]
    return [*lines, "hostssl all by_cert 127.0.0.1/32 cert"] if tls else lines


def create_roles(server: PostgresServer) -> None:
    """Create `ROLES`, all with `PASSWORD`; by_md5 has an md5 verifier, the others SCRAM's."""
    statements = [
        f"set password_encryption = '{'md5' if role == 'by_md5' else 'scram-sha-256'}';"
        f"create role {role} login password '{PASSWORD}';"
        for role in ROLES
    ]
    server.psql("\n".join(["set client_min_messages = error;", *statements]))
