"""Node's client `pg` through the gateway. The scenes are in `node/client.js`; `make test` sees to Node and to `pg`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.shop_server import SHOP

SCRIPT = Path(__file__).parent / "node" / "client.js"
# Where `.ci/node` puts the client, and where Debian does.
MODULES = f"{Path(__file__).parents[2] / '.node' / 'node_modules'}:/usr/share/nodejs"


def play(gateway: Gateway, person: str, scene: str) -> Any:
    done = subprocess.run(
        ["node", str(SCRIPT), json.dumps(gateway.words(person)), scene],
        env={**os.environ, "NODE_PATH": MODULES},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def masked(rows: list[dict[str, Any]]) -> None:
    """These are the first customers, as an analyst may see them."""
    assert rows
    for row, customer in zip(rows, SHOP.customers, strict=False):
        assert row == {
            "id": customer.id,
            "name": customer.name,
            "email": "*" * (len(customer.email) - 4) + customer.email[-4:],
            "ssn": "[redacted]",
            "birth_date": None,
            "balance": customer.balance,
        }


@pytest.mark.parametrize(
    ("scene", "count"), [("simple", 3), ("parametrized", 3), ("prepared", 30), ("portal", 240)]
)
def test_an_analyst_sees_masked_rows(either_gateway: Gateway, scene: str, count: int) -> None:
    found = play(either_gateway, "alice", scene)
    assert len(found["rows"]) == count
    masked(found["rows"])
    if scene == "simple":
        assert found["fields"] == ["id", "name", "email", "ssn", "birth_date", "balance"]
        assert found["many"] == [[{"a": 1}], [{"b": 2}]]


def test_binary_results(either_gateway: Gateway) -> None:
    rows = play(either_gateway, "alice", "binary")["rows"]
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert {row["ssn"] for row in rows} == {"[redacted]"}
    assert not [value for value in SHOP.private_values() if value in json.dumps(rows)]


def test_a_dba_sees_everything(either_gateway: Gateway) -> None:
    rows = play(either_gateway, "dora", "prepared")["rows"]
    assert [row["email"] for row in rows] == [customer.email for customer in SHOP.customers[:30]]


def test_refusals_are_errors_and_the_session_goes_on(either_gateway: Gateway) -> None:
    found = play(either_gateway, "alice", "errors")
    assert found["denied"]["code"] == found["simple"]["code"] == "42501"
    assert "API keys" in found["denied"]["message"]
    assert "no-secrets-table" in found["denied"]["detail"]
    assert found["simple"]["hint"]
    assert found["violated"]["code"] == "23505"
    assert found["after"] == [{"n": len(SHOP.orders)}]


def test_transactions(either_gateway: Gateway) -> None:
    assert play(either_gateway, "alice", "transaction") == [{"status": SHOP.orders[0][2]}]


def test_a_statement_that_takes_too_long_is_cancelled(either_gateway: Gateway) -> None:
    found = play(either_gateway, "dora", "timeout")
    assert found["cancelled"]["code"] == "57014"
    assert found["after"] == [{"one": 1}]


def test_notifications_and_notices(gateway: Gateway) -> None:
    assert play(gateway, "dora", "notifications") == {"payload": "extra", "notice": "hear"}


def test_a_pool_of_sessions(gateway: Gateway) -> None:
    rows = play(gateway, "alice", "pool")["rows"]
    assert [row["id"] for row in rows] == list(range(1, 41))
    assert all(row["email"].startswith("****") for row in rows)
