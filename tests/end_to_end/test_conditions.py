"""Rules with conditions, met by real clients: a PostgreSQL statement, an HTTP body, a command over SSH."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.policies import ALICE_AND_DORA
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway
from tests.pki import Authority

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


@pytest.fixture(scope="module")
def http(
    http_app: Hypercorn, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    policy = EVERYTHING_BY_HTTP.replace("rules:\n", f"rules:{HTTP_RULE}", 1)
    targets = {"app": {"url": http_app.url}}
    with HttpGateway(tmp_path_factory.mktemp("conditions"), targets, policy=policy, ca=target_ca) as gateway:
        yield gateway


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
def test_a_condition_on_a_body(http: HttpGateway, body: bytes, status: int) -> None:
    with http.client(headers={"content-type": "application/json"}) as client:
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
