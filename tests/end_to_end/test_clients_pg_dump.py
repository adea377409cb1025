"""pg_dump through the gateway: for a dba the same bytes as without it, for an analyst a refusal that says why."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from demo.postgres_installs import client_programs
from tests.end_to_end.gateway import Gateway, psql_env
from tests.end_to_end.servers import postgres_15
from tests.end_to_end.shop_server import SHOP


def dump(major: int, dsn: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    program = postgres_15().program("pg_dump") if major == 15 else str(client_programs() / "pg_dump")
    return subprocess.run(
        [program, *arguments, "--dbname", dsn],
        env=psql_env(major),
        capture_output=True,
        check=False,
        timeout=60,
    )


def without_token(script: bytes) -> bytes:
    """Newer versions write a random word into \\restrict and \\unrestrict."""
    return re.sub(rb"^\\(un)?restrict \w+$", rb"\\\1restrict X", script, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--inserts", "--rows-per-insert=50"),
        ("--schema-only",),
        ("--clean", "--create"),
        ("--column-inserts",),
    ],
    ids=lambda options: "".join(options) or "plain",
)
@pytest.mark.parametrize("major", [18, 15])
def test_a_dba_gets_the_same_bytes(
    request: pytest.FixtureRequest, major: int, options: tuple[str, ...]
) -> None:
    gateway: Gateway = request.getfixturevalue(f"gateway{major}")
    arguments = ("--schema=shop", *options)
    direct = dump(major, gateway.direct_dsn(), *arguments)
    through = dump(major, gateway.dsn("dora", database="shop"), *arguments)
    assert direct.returncode == 0, direct.stderr
    assert through.returncode == 0, through.stderr
    assert through.stderr == direct.stderr
    assert without_token(through.stdout) == without_token(direct.stdout)
    assert b"CREATE TABLE shop.customers" in through.stdout


@pytest.mark.parametrize("major", [18, 15])
def test_several_jobs_at_once(request: pytest.FixtureRequest, major: int, tmp_path: Path) -> None:
    """Its workers share a snapshot that the first session exports."""
    gateway: Gateway = request.getfixturevalue(f"gateway{major}")
    for name, dsn in (("direct", gateway.direct_dsn()), ("through", gateway.dsn("dora"))):
        options = (
            "--schema=shop",
            "--format=directory",
            "--jobs=3",
            "--compress=0",
            "--file",
            str(tmp_path / name),
        )
        done = dump(major, dsn, *options)
        assert done.returncode == 0, done.stderr
    data = [_tables(tmp_path / name) for name in ("direct", "through")]
    assert data[0] == data[1]
    assert len(data[0]) == 5


def _tables(directory: Path) -> list[tuple[str, bytes]]:
    """The data files of a dump; its table of contents holds the time."""
    return sorted((path.name, path.read_bytes()) for path in directory.glob("[0-9]*.dat"))


@pytest.mark.parametrize("major", [18, 15])
def test_an_analyst_is_refused(request: pytest.FixtureRequest, major: int) -> None:
    gateway: Gateway = request.getfixturevalue(f"gateway{major}")
    done = dump(major, gateway.dsn("alice"), "--schema=shop")
    assert done.returncode == 1
    assert b"proxyd: refused by policy" in done.stderr
    assert b"HINT" in done.stderr
    assert not [value for value in SHOP.private_values() if value.encode() in done.stdout + done.stderr]
    assert gateway.psql("alice", "select 1", "-At").stdout == "1\n"
