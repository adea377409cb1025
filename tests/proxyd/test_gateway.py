"""What a gateway knows: targets, the policy in force, one catalog source a database."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import trio
import trio.testing

from policy.document import load_document
from proxyd import catalogs as module
from proxyd.catalog import CatalogUnavailable
from proxyd.gateway import Gateway, target_runtime
from proxyd.references import Material
from proxyd.telemetry import Telemetry
from tests.end_to_end.servers import PASSWORD, PostgresServer
from tests.proxyd.documents import CONFIG, POLICY, write_secret, write_setup, write_ssh_setup
from tests.proxyd.test_sessions import session_of


def build(directory: Path, config: str = CONFIG) -> Gateway:
    material = Material.read(write_setup(directory, config=config), 0.0)
    return Gateway.from_config(material.config, material.policy, telemetry=Telemetry(stream=io.StringIO()))


def test_targets_as_the_policy_sees_them(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    target = gateway.target("shop")
    assert target is not None
    assert (target.facts.name, target.facts.protocol, target.facts.labels) == (
        "shop",
        "postgres",
        {"env": "prod"},
    )
    assert gateway.target("stop") is None


def test_a_target_of_the_other_protocol_is_none(tmp_path: Path) -> None:
    material = Material.read(write_ssh_setup(tmp_path), 0.0)
    gateway = Gateway.from_config(material.config, material.policy, telemetry=Telemetry(stream=io.StringIO()))
    assert gateway.ssh_target("shop") is None
    assert gateway.postgres_target("web1") is None
    web1, shop = gateway.ssh_target("web1"), gateway.postgres_target("shop")
    assert web1 is not None
    assert (web1.facts.protocol, web1.config.address.port) == ("ssh", 22)
    assert shop is not None
    assert shop is gateway.target("shop")


def test_a_swap_is_another_policy_in_force(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    before = gateway.in_force
    assert gateway.in_force is before
    gateway.swap_policy(load_document(POLICY + "# later\n", "p"))
    assert gateway.in_force is not before
    assert (before.serial, gateway.in_force.serial) == (1, 2)
    assert gateway.policy.version != before.document.version


def test_denials_are_labelled_by_the_policy_in_force(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    for name in ("read-the-shop", "analysts-read", "identity-numbers", "made-up"):
        gateway.metrics.denied_by(name)
    shown = gateway.metrics.render().decode()
    for name in ("read-the-shop", "analysts-read", "identity-numbers", "(other)"):
        assert f'proxyd_denials_total{{rule="{name}"}} 1.0' in shown
    gateway.swap_policy(load_document(POLICY.replace("read-the-shop", "made-up"), "p"))
    gateway.metrics.denied_by("made-up")
    assert 'rule="made-up"} 1.0' in gateway.metrics.render().decode()


def test_lost_log_lines_are_a_metric(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    gateway.telemetry.lost_lines = 3
    assert "proxyd_log_lines_lost_total 3.0" in gateway.metrics.render().decode()


async def test_one_catalog_source_a_database(tmp_path: Path, pg18: PostgresServer) -> None:
    config = CONFIG.replace("127.0.0.1:5432", f"127.0.0.1:{pg18.port}").replace(
        "{name: catalog,", "{name: catalog, user: by_scram,"
    )
    config = config.replace("database: shop", 'database: postgres\n    databases: ["*"]')
    gateway = build(tmp_path, config)
    write_secret(tmp_path / "secrets/reader", PASSWORD)
    target = gateway.postgres_target("shop")
    assert target is not None
    async with trio.open_nursery() as nursery:
        gateway.catalogs.nursery = nursery
        source = gateway.catalog(target, "postgres")
        assert gateway.catalog(target, "postgres") is source
        assert source.latest is None
        await source.refresh()
        assert gateway.catalog(target, "postgres") is source
        assert len(nursery.child_tasks) == 1  # it is polled from now on
        assert (
            'proxyd_catalog_loads_total{outcome="loaded",target="shop"} 1.0'
            in gateway.metrics.render().decode()
        )

        made_up = gateway.catalog(target, "made_up")
        with pytest.raises(CatalogUnavailable):
            await made_up.refresh()
        assert gateway.catalog(target, "made_up") is not made_up
        assert len(nursery.child_tasks) == 1
        nursery.cancel_scope.cancel()


def test_catalogs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CATALOGS", 2)
    gateway = build(tmp_path)
    target = gateway.postgres_target("shop")
    assert target is not None
    first = gateway.catalog(target, "a")
    gateway.catalog(target, "b")
    with pytest.raises(CatalogUnavailable, match="followed already"):
        gateway.catalog(target, "c")
    assert gateway.catalog(target, "a") is first


def test_targets_that_stay_as_they_are_are_kept(tmp_path: Path) -> None:
    gateway = build(tmp_path)
    before = gateway.target("shop")
    changed = CONFIG.replace("127.0.0.1:5432", "127.0.0.1:5433")
    assert gateway.take_targets(gateway.prepare_targets(gateway.config.targets)) == ()
    assert gateway.target("shop") is before
    wanted = Material.read(write_setup(tmp_path, config=changed), 0.0).config.targets
    assert gateway.take_targets(gateway.prepare_targets(wanted)) == ("shop",)
    now = gateway.postgres_target("shop")
    assert now is not None
    assert now is not before
    assert now.config.address.port == 5433
    assert gateway.take_targets({}) == ("shop",)
    assert gateway.target("shop") is None


async def test_a_changed_target_has_another_catalog_and_sessions_keep_theirs(
    tmp_path: Path, pg18: PostgresServer
) -> None:
    config = CONFIG.replace("127.0.0.1:5432", f"127.0.0.1:{pg18.port}").replace(
        "{name: catalog,", "{name: catalog, user: by_scram,"
    )
    config = config.replace("database: shop", 'database: postgres\n    databases: ["*"]')
    gateway = build(tmp_path, config)
    write_secret(tmp_path / "secrets/reader", PASSWORD)
    target = gateway.postgres_target("shop")
    assert target is not None
    session = session_of(target="shop", detail="postgres")
    async with trio.open_nursery() as nursery:
        gateway.catalogs.nursery = nursery
        with gateway.sessions.entered(session, 10):
            source = gateway.catalog(target, "postgres")
            await source.refresh()
            gateway.take_targets({"shop": target_runtime(target.config)})
            other = gateway.postgres_target("shop")
            assert other is not None
            assert gateway.catalog(other, "postgres") is not source
            await trio.testing.wait_all_tasks_blocked()
            assert len(nursery.child_tasks) == 2  # what polls the old one, and what waits for the session
        while nursery.child_tasks:
            await trio.sleep(0.01)
        assert source.latest is not None
