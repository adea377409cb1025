"""pgbench in its three modes, of both versions, through both gateways."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from demo import shop
from demo.postgres_installs import client_programs
from tests.end_to_end.gateway import Gateway, psql_env
from tests.end_to_end.servers import PostgresServer, postgres_15

TRANSACTIONS = 40
CLIENTS = 4


def pgbench(major: int, dsn: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = postgres_15().program("pgbench") if major == 15 else str(client_programs() / "pgbench")
    return subprocess.run(
        [program, *arguments, dsn],
        env=psql_env(major),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture(scope="module", autouse=True)
def tables(shop18: PostgresServer, shop15: PostgresServer) -> Iterator[None]:
    """The bench's tables, small, in each server."""
    servers = (shop18, shop15)
    for server in servers:
        done = pgbench(15, server.dsn(shop.DATABASE), "-i", "-s", "1", "-q")
        assert done.returncode == 0, done.stderr
    yield
    for server in servers:
        server.psql(
            "drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers", shop.DATABASE
        )


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("major", [18, 15])
def test_every_transaction_is_done(either_gateway: Gateway, major: int, mode: str) -> None:
    history = "select count(*) from pgbench_history"
    before = int(either_gateway.server.psql(history, shop.DATABASE))
    done = pgbench(
        major,
        either_gateway.dsn("dora"),
        *("-M", mode, "-c", str(CLIENTS), "-j", "2", "-t", str(TRANSACTIONS), "--no-vacuum"),
    )
    assert done.returncode == 0, done.stderr
    assert f"number of transactions actually processed: {CLIENTS * TRANSACTIONS}/" in done.stdout
    assert re.search(r"number of failed transactions: 0 ", done.stdout)
    assert int(either_gateway.server.psql(history, shop.DATABASE)) == before + CLIENTS * TRANSACTIONS


def test_a_pipeline_of_the_bench(gateway: Gateway, tmp_path: object) -> None:
    script = f"{tmp_path}/pipeline.sql"
    with open(script, "w") as file:
        file.write(
            "\\set n random(1, 500)\n\\startpipeline\n"
            "select status from shop.orders where id = :n;\nselect count(*) from shop.orders where id <= :n;\n"
            "select name from shop.products where id = 1 + :n % 24;\n\\endpipeline\n"
        )
    for person in ("alice", "dora"):
        done = pgbench(18, gateway.dsn(person), "-M", "prepared", "-c", "2", "-t", "30", "-n", "-f", script)
        assert done.returncode == 0, done.stderr
        assert "actually processed: 60/60" in done.stdout
