"""Targets that a reload brings, changes and takes away: new sessions go by them, open ones as they began."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import psycopg
import pytest
import yaml

from tests.end_to_end.conftest import GatewayFactory, HttpGatewayFactory, SshGatewayFactory
from tests.end_to_end.gateway import HOST, Gateway
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import Document, RunningGateway
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.test_http_life import targets

VERSION = "show server_version_num"


def reconfigure(gateway: RunningGateway, change: Callable[[Document], None]) -> None:
    config = yaml.safe_load(gateway.config_path.read_text())
    change(config)
    gateway.config_path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert gateway.reload(), gateway.logged("configuration fault")


def major(connection: psycopg.Connection[tuple[str]]) -> int:
    row = connection.execute(VERSION).fetchone()
    assert row is not None
    return int(row[0]) // 10000


def test_the_address_of_a_postgres_target(make_gateway: GatewayFactory, shop15: PostgresServer) -> None:
    gateway: Gateway = make_gateway()

    def move(config: Document) -> None:
        config["targets"][0]["address"] = f"{HOST}:{shop15.port}"

    def remove(config: Document) -> None:
        config["targets"][0]["name"] = "store"

    with gateway.connect("alice") as before:
        assert major(before) == 18
        reconfigure(gateway, move)
        assert gateway.logged("targets changed")[-1]["targets"] == ["shop"]
        with gateway.connect("alice") as after:
            assert major(after) == 15
            assert after.execute("select count(*) from shop.orders").fetchone() is not None
            # What is under way goes on where it is, judged by the catalog of there.
            assert major(before) == 18
            assert before.execute("select count(*) from shop.orders").fetchone() is not None
            reconfigure(gateway, remove)
            for session in (before, after):
                with pytest.raises(psycopg.errors.AdminShutdown, match="shop has no such login any more"):
                    session.execute("select 1")
    with gateway.connect("alice", dbname="store") as renamed:
        assert major(renamed) == 15


def test_labels_by_which_a_session_was_judged(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()

    def relabel(config: Document) -> None:
        config["targets"][0]["labels"]["team"] = "another"

    with gateway.connect("alice") as session:
        reconfigure(gateway, relabel)
        with pytest.raises(psycopg.errors.AdminShutdown, match="what the policy goes by of shop has changed"):
            session.execute("select 1")
    with gateway.connect("alice") as again:
        assert again.execute("select 1").fetchone() == (1,)


def test_a_new_http_target(make_http_gateway: HttpGatewayFactory, http_app: Hypercorn) -> None:
    gateway = make_http_gateway(targets(http_app))

    def add(config: Document) -> None:
        config["targets"].append({**deepcopy(config["targets"][0]), "name": "newcomer", "hosts": []})

    with gateway.client() as client:
        assert client.get("/t/newcomer/echo").status_code == 403
        assert client.get("/t/app/echo").status_code == 200
        reconfigure(gateway, add)
        assert client.get("/t/newcomer/echo").status_code == 200
        assert client.get("/t/app/echo").status_code == 200
    assert gateway.logged("targets changed")[-1]["targets"] == ["newcomer"]
    assert not gateway.logged("sessions ended by the reload")


def test_a_new_name_of_an_ssh_target(make_ssh_gateway: SshGatewayFactory) -> None:
    gateway = make_ssh_gateway()

    def add(config: Document) -> None:
        config["targets"].append({**deepcopy(config["targets"][0]), "name": "web2"})

    reconfigure(gateway, add)
    assert gateway.route(target="web2").output("echo there").strip() == "there"


def test_what_waits_for_a_restart_is_named(make_gateway: GatewayFactory) -> None:
    gateway = make_gateway()

    def change(config: Document) -> None:
        config["listeners"][0]["limits"]["connections"] = 201
        config["limits"] = {"statement": "1KiB"}

    reconfigure(gateway, change)
    (line,) = gateway.logged("changed, but needs a restart to take effect")
    assert line["keys"] == ["listeners.postgres.limits.connections"]
    with gateway.connect("dora") as session, pytest.raises(psycopg.errors.ProgramLimitExceeded):
        session.execute(f"select '{'x' * 2000}'")
