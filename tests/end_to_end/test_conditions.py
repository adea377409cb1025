"""Rules with conditions, met by real clients: a PostgreSQL statement, an HTTP body, a command over SSH."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway

SQL_RULE = """
  - name: no-products-by-readonly
    effect: deny
    postgres: {commands: [select], relations: ["shop.*"]}
    when: 'sql.relations.exists(name, name == "shop.products") && login == "readonly"'
"""
HTTP_RULE = """
  - name: large-orders
    effect: deny
    http: {methods: [POST], paths: ["/echo"]}
    when: "http.body.amount > 100.0"
    message: "Orders over 100 are not taken."
"""
SSH_RULE = """
  - name: no-uptime-for-alice
    effect: deny
    ssh: {exec: ["uptime *"]}
    when: 'subject.name.startsWith("alice")'
"""


def test_a_condition_on_a_statement(make_gateway: Callable[..., Gateway]) -> None:
    policy = ALICE_AND_DORA.replace("rules:\n", f"rules:{SQL_RULE}", 1)
    with make_gateway(policy=policy).connect("alice") as connection:
        connection.autocommit = True
        assert connection.execute("select count(*) from shop.orders").fetchone()
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="no-products-by-readonly"):
            connection.execute("select count(*) from shop.products")
        assert connection.execute("select count(*) from shop.orders").fetchone()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"amount": 99}', 200),
        (b'{"amount": 100.5}', 403),
        (b'{"amount": 101}', 403),
        (b'{"total": 1}', 403),  # not known: a deny rule holds
        (b'{"amount": "99"}', 403),
        (b'{"amount": 99, "amount": 101}', 403),
        (b'{"amount": ', 403),
    ],
)
def test_a_condition_on_a_body(
    make_http_gateway: Callable[..., HttpGateway], http_app: Hypercorn, body: bytes, status: int
) -> None:
    policy = EVERYTHING_BY_HTTP.replace("rules:\n", f"rules:{HTTP_RULE}", 1)
    gateway = make_http_gateway({"app": {"url": http_app.url}}, policy=policy)
    with gateway.client(headers={"content-type": "application/json"}) as client:
        answer = client.post("/t/app/echo", content=body)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert answer.json()["rule"] == "large-orders"
        assert client.get("/t/app/echo").status_code == 200


def test_a_condition_on_a_command(make_ssh_gateway: Callable[..., SshGateway]) -> None:
    policy = EVERYTHING_BY_SSH.replace("rules:\n", f"rules:{SSH_RULE}", 1)
    route = make_ssh_gateway(policy=policy).route("alice")
    denied = route.ssh("uptime", status=126)
    assert b"no-uptime-for-alice" in denied.stderr
    assert route.output("echo fine") == "fine\n"
