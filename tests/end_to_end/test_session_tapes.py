"""The tapes of real sessions, as `proxyd tape` lists, shows, plays and verifies them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import SHOP

SCRIPT = """\
select id, name, email from shop.customers order by id limit 3;
select key from shop.api_keys;
\\copy (select id, ssn from shop.customers where id = 1) to stdout csv
begin;
update shop.orders set status = 'new' where id = 1 returning id, status;
rollback;
"""


@pytest.fixture(scope="module")
def recorded(
    shop18: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Path]]:
    """A gateway with one finished session of alice; whoever comes besides is somebody else, and sees no masks."""
    with Gateway(shop18, tmp_path_factory.mktemp("recorded")) as gateway:
        gateway.psql("alice", SCRIPT, check=False)
        yield gateway, gateway.tape(gateway.last_session("alice"))


def test_ls_lists_who_went_where(recorded: tuple[Gateway, Path]) -> None:
    gateway, _ = recorded
    gateway.psql("dora", "select 1")
    gateway.last_session("dora")
    listed = gateway.proxyd("tape", "ls", "--config", str(gateway.config_path)).stdout
    assert gateway.last_session("alice") in listed
    assert "alice" in listed
    assert "dora" in listed
    assert "shop" in listed


def test_show_tells_each_statement_with_its_decision(recorded: tuple[Gateway, Path]) -> None:
    gateway, tape = recorded
    shown = gateway.proxyd("tape", "show", str(tape)).stdout
    assert "select id, name, email from shop.customers order by id limit 3" in shown
    assert "no-secrets-table" in shown
    assert "read-the-shop" in shown
    assert not [value for value in SHOP.private_values() if value in shown]


def test_play_shows_what_the_client_saw(recorded: tuple[Gateway, Path]) -> None:
    gateway, tape = recorded
    played = gateway.proxyd("tape", "play", "--speed", "0", str(tape))
    customer = SHOP.customers[0]
    assert customer.name in played.stdout
    assert "*" * (len(customer.email) - 4) + customer.email[-4:] in played.stdout
    assert "API keys are not readable" in played.stdout
    assert not [value for value in SHOP.private_values() if value in played.stdout]


def test_a_session_is_named_by_its_id_as_the_log_gives_it(recorded: tuple[Gateway, Path]) -> None:
    gateway, tape = recorded
    (ended,) = gateway.logged("session ended", subject="alice")
    by_id = gateway.proxyd(
        "tape", "show", "--directory", str(gateway.tape_directory), ended["session"]
    ).stdout
    assert by_id == gateway.proxyd("tape", "show", str(tape)).stdout


WHOLE, TORN, TAMPERED = 0, 1, 2


def test_verify_tells_whole_from_torn_from_tampered(recorded: tuple[Gateway, Path]) -> None:
    gateway, tape = recorded
    assert verify(gateway, tape) == WHOLE
    data = bytearray(tape.read_bytes())
    data[len(data) // 2] ^= 1
    changed = gateway.directory / "changed.tape"
    changed.write_bytes(data)
    assert verify(gateway, changed) == TAMPERED
    torn = gateway.directory / "torn.tape"
    torn.write_bytes(tape.read_bytes()[:-20])
    assert verify(gateway, torn) == TORN
    assert "select id, name, email" in gateway.proxyd("tape", "show", str(torn), check=False).stdout


def verify(gateway: Gateway, tape: Path) -> int:
    return gateway.proxyd("tape", "verify", str(tape), check=False).returncode


def test_a_session_of_every_protocol_feature_leaves_a_whole_tape(either_gateway: Gateway) -> None:
    with either_gateway.connect("alice") as connection, connection.cursor("c") as cursor:
        cursor.execute("select email from shop.customers")
        cursor.fetchmany(3)
        with connection.cursor().copy("copy shop.orders to stdout (format binary)") as copy:
            assert b"".join(copy)
    tape = either_gateway.tape(either_gateway.last_session("alice"))
    assert verify(either_gateway, tape) == WHOLE
    assert either_gateway.proxyd("tape", "play", str(tape)).returncode == 0
    assert either_gateway.proxyd("tape", "show", "--json", str(tape)).stdout.count("\n") > 5


def test_the_targets_passwords_are_on_no_tape_and_in_no_log(recorded: tuple[Gateway, Path]) -> None:
    gateway, _ = recorded
    kept = gateway.tape_bytes() + gateway.daemon.log_path.read_bytes() + gateway.http("/metrics").encode()
    assert b"never seen" not in kept
    assert b"0123456789abcdef" not in kept


def test_what_happened_is_counted(recorded: tuple[Gateway, Path]) -> None:
    gateway, _ = recorded
    counted = gateway.metrics()
    assert counted['proxyd_operations_total{effect="deny",protocol="postgres"}'] == 1
    assert counted['proxyd_operations_total{effect="allow",protocol="postgres"}'] >= 5
    assert counted["proxyd_masked_rows_total"] == 4
    assert counted["proxyd_masked_results_total"] == 2
    assert counted["proxyd_tape_bytes_total"] > 0
