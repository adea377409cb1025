"""Fixtures of the end-to-end tests: servers, the everyday gateways before them, factories.

`gateway18` stands before PostgreSQL 18 without TLS behind it, `gateway15` before Debian's 15 with TLS all the
way. Both live for the whole run under `ALICE_AND_DORA`: a test that reloads, restarts or breaks one takes
`make_gateway` instead. A test that changes data works in objects of its own or rolls back.

For HTTP `http_app` is hypercorn with TLS and `http_gateway` stands before it, open to everything but /admin: as `app`
over HTTP/1.1 and as `app2` over HTTP/2. Both live for the whole run; `make_http_gateway` makes others.

For SSH `sshd` is a real server and `ssh_gateway` stands before it, open to everything; `route` goes to it directly and
through the gateway in turn.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from demo.issuer import LocalIssuer
from demo.postgres_installs import Account
from demo.ssh_keys import SshKeys
from demo.sshd import SshServer
from tests.end_to_end.gateway import Gateway
from tests.end_to_end.http_gateway import HttpGateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.issuers import running_issuer
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import shop_server
from tests.end_to_end.ssh_gateway import AUTHORITY, SshGateway
from tests.end_to_end.ssh_route import SshRoute, direct_route
from tests.pki import Authority

GatewayFactory = Callable[..., Gateway]
SshdFactory = Callable[..., SshServer]
HttpGatewayFactory = Callable[..., HttpGateway]
SshGatewayFactory = Callable[..., SshGateway]


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


@pytest.fixture(scope="session")
def ssh_keys(tmp_path_factory: pytest.TempPathFactory) -> SshKeys:
    """`person` may log in to every sshd; `gateway_ca` signs for the gateway, `people_ca` for people."""
    return SshKeys(tmp_path_factory.mktemp("ssh_keys"))


def new_sshd(keys: SshKeys, *settings: str, account: Account | None = None) -> SshServer:
    return SshServer(
        authorized_keys=[keys.public("person")],
        user_authorities=[keys.public(AUTHORITY)],
        settings=settings,
        account=account or Account(),
    )


@pytest.fixture(scope="session")
def sshd(ssh_keys: SshKeys) -> Iterator[SshServer]:
    with new_sshd(ssh_keys) as server:
        yield server


@pytest.fixture(scope="session")
def ssh_gateway(
    sshd: SshServer, ssh_keys: SshKeys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    with SshGateway(sshd, tmp_path_factory.mktemp("ssh_gateway"), ssh_keys) as gateway:
        yield gateway


@pytest.fixture(params=["direct", "gateway"])
def route(request: pytest.FixtureRequest, sshd: SshServer, ssh_keys: SshKeys, tmp_path: Path) -> SshRoute:
    """Both ways to the same server in turn: what works on one works on the other."""
    if request.param == "direct":
        return direct_route(sshd, ssh_keys, tmp_path / "direct")
    gateway: SshGateway = request.getfixturevalue("ssh_gateway")
    return gateway.route()


@pytest.fixture(params=["direct", "gateway"])
def ordinary_route(
    request: pytest.FixtureRequest,
    make_sshd: SshdFactory,
    make_ssh_gateway: SshGatewayFactory,
    ssh_keys: SshKeys,
    tmp_path: Path,
) -> SshRoute:
    """Like `route`, to a server of an account that is not root's."""
    server = make_sshd(account=_ordinary_account())
    if request.param == "direct":
        return direct_route(server, ssh_keys, tmp_path / "direct")
    return make_ssh_gateway(server).route()


def _ordinary_account() -> Account:
    """Whoever runs the tests; when that is root, an account that Debian's PostgreSQL brings.

    Its group is the terminals': an sshd without rights cannot give them to it where the kernel does not (devpts(5)).
    """
    if os.geteuid() != 0:
        return Account()
    return Account(pwd.getpwnam("postgres").pw_uid, grp.getgrnam("tty").gr_gid)


@pytest.fixture
def make_sshd(ssh_keys: SshKeys) -> Iterator[SshdFactory]:
    """`make_sshd("RekeyLimit 1M", account=...)`: a server of one's own, with lines for its sshd_config."""
    with ExitStack() as stack:

        def make(*settings: str, account: Account | None = None) -> SshServer:
            return stack.enter_context(new_sshd(ssh_keys, *settings, account=account))

        yield make


@pytest.fixture
def make_ssh_gateway(sshd: SshServer, ssh_keys: SshKeys, tmp_path: Path) -> Iterator[SshGatewayFactory]:
    """`make_ssh_gateway(server=sshd, policy=..., adjust=...)`: a gateway of one's own; ends with the test."""
    with ExitStack() as stack:
        count = 0

        def make(server: SshServer = sshd, **options: Any) -> SshGateway:
            nonlocal count
            count += 1
            gateway = SshGateway(server, tmp_path / f"ssh_gateway{count}", ssh_keys, **options)
            return stack.enter_context(gateway)

        yield make


@pytest.fixture(scope="session")
def http_app(target_ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hypercorn]:
    server = Hypercorn(tmp_path_factory.mktemp("http_app"), target_ca)
    with server:
        yield server


@pytest.fixture(scope="session")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIssuer]:
    with running_issuer(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="session")
def http_gateway(
    http_app: Hypercorn, issuer: LocalIssuer, target_ca: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpGateway]:
    targets = {
        "app": {"url": http_app.url, "hosts": ["app.internal"]},
        "app2": {"url": http_app.url, "protocols": ["h2"]},
    }
    directory = tmp_path_factory.mktemp("http_gateway")
    with HttpGateway(directory, targets, issuer=issuer, ca=target_ca) as gateway:
        yield gateway


@pytest.fixture
def make_http_gateway(tmp_path: Path, target_ca: Authority) -> Iterator[HttpGatewayFactory]:
    """make(targets, **settings): another gateway, started; ends with the test."""
    with ExitStack() as stack:
        made = 0

        def make(targets: dict[str, Any], **settings: Any) -> HttpGateway:
            nonlocal made
            made += 1
            settings.setdefault("ca", target_ca)
            return stack.enter_context(HttpGateway(tmp_path / f"http{made}", targets, **settings))

        yield make


@pytest.fixture(autouse=True)
def shown_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failed test print the logs of the gateways that it used."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed == failed_before:
        return
    for name in ("gateway18", "gateway15", "ssh_gateway", "http_gateway"):
        if name in request.fixturenames:
            request.getfixturevalue(name).show_log()
