"""A shop on the PostgreSQL 18 of the test run, for the commands that look at a target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.servers import PASSWORD, PostgresServer
from tests.proxyd.documents import write_secret


@pytest.fixture
def pg18_shop(pg18: PostgresServer, config: Path) -> Iterator[int]:
    """The port of a server with shop.customers, which by_scram finds by its search path."""
    pg18.psql(
        "create schema shop; create table shop.customers (id int, name text, ssn text);"
        "grant usage on schema shop to by_scram; grant select on shop.customers to by_scram;"
        "alter role by_scram set search_path = shop;"
    )
    write_secret(config.parent / "secrets/reader", PASSWORD)
    yield pg18.port
    pg18.psql(
        "alter role by_scram reset search_path; set client_min_messages = error; drop schema shop cascade;"
    )
