"""Fixtures of the end-to-end tests: servers with the shop, the everyday gateways before them, a factory.

`gateway18` stands before PostgreSQL 18 without TLS behind it, `gateway15` before Debian's 15 with TLS all the
way. Both live for the whole run under `ALICE_AND_DORA`: a test that reloads, restarts or breaks one takes
`make_gateway` instead. A test that changes data works in objects of its own or rolls back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import shop_server
from tests.pki import Authority

GatewayFactory = Callable[..., Gateway]


@pytest.fixture(scope="session")
def shop18() -> Iterator[PostgresServer]:
    with shop_server(18) as server:
        yield server


@pytest.fixture(scope="session")
def shop15(target_ca: Authority) -> Iterator[PostgresServer]:
    with shop_server(15, target_ca) as server:
        yield server


@pytest.fixture(scope="session")
def gateway18(shop18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(shop18, tmp_path_factory.mktemp("gateway18")) as gateway:
        yield gateway


@pytest.fixture(scope="session")
def gateway15(
    shop15: PostgresServer, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with Gateway(shop15, tmp_path_factory.mktemp("gateway15"), target_ca=target_ca) as gateway:
        yield gateway


@pytest.fixture
def gateway(gateway18: Gateway) -> Gateway:
    return gateway18


@pytest.fixture(params=[18, 15])
def either_gateway(request: pytest.FixtureRequest) -> Gateway:
    """Both gateways in turn."""
    found: Gateway = request.getfixturevalue(f"gateway{request.param}")
    return found


@pytest.fixture
def make_gateway(shop18: PostgresServer, tmp_path: Path) -> Iterator[GatewayFactory]:
    """`make_gateway(server=shop18, policy=..., adjust=...)`: a gateway of one's own, started; ends with the test."""
    with ExitStack() as stack:
        count = 0

        def make(server: PostgresServer = shop18, **options: Any) -> Gateway:
            nonlocal count
            count += 1
            return stack.enter_context(Gateway(server, tmp_path / f"gateway{count}", **options))

        yield make


@pytest.fixture(autouse=True)
def shown_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failed test print the logs of the gateways that it used."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed == failed_before:
        return
    for name in ("gateway18", "gateway15"):
        if name in request.fixturenames:
            request.getfixturevalue(name).show_log()
