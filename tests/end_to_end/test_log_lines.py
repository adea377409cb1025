"""What operators find in the log about a connection: always its session, as soon as it is known who it was, and
never a secret."""

from __future__ import annotations

import psycopg
import pytest

from tests.end_to_end.conftest import GatewayFactory
from tests.end_to_end.gateway import Gateway, wait_until
from tests.end_to_end.shop_server import PASSWORDS, SHOP

OF_THE_DAEMON = {"listening", "ready", "catalog loaded", "stopping", "draining", "stopped"}


def test_every_line_of_a_connection_has_its_session(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()
    gateway.psql("alice", "select email from shop.customers; select 1 / 0", check=False)
    with pytest.raises(psycopg.OperationalError, match="no access"):
        gateway.connect("mallory")
    wait_until(lambda: bool(gateway.logged("connection refused", subject="mallory")), "the log line")
    lines = [line for line in gateway.log_lines() if line["event"] not in OF_THE_DAEMON]
    assert lines
    for line in lines:
        assert len(str(line.get("session", ""))) == 16, line


@pytest.mark.parametrize(
    ("database", "known"),
    [
        ("nowhere", {"subject": "dora", "failure": "not_admitted"}),
        ("shop", {"subject": "dora", "target": "shop", "login": "admin", "failure": "target"}),
    ],
)
def test_a_refusal_names_who_it_was_and_where_it_wanted_to_go(
    make_gateway: GatewayFactory, database: str, known: dict[str, str]
) -> None:
    gateway = make_gateway(adjust=lambda config: config["targets"][0].update(address="127.0.0.1:1"))
    with pytest.raises(psycopg.OperationalError):
        gateway.connect("dora", database=database)
    wait_until(lambda: bool(gateway.logged("connection refused", **known)), "the log line")
    refused = gateway.logged("connection refused", **known)[-1]["session"]
    assert all(line["session"] == refused for line in gateway.logged("session ended"))


def test_no_secret_and_no_value_is_in_the_log(gateway: Gateway) -> None:
    gateway.psql(
        "dora", "select email from shop.customers; select email::int from shop.customers", check=False
    )
    gateway.last_session("dora")
    text = gateway.daemon.log_path.read_text()
    for secret in (*PASSWORDS.values(), *(customer.email for customer in SHOP.customers)):
        assert secret not in text
