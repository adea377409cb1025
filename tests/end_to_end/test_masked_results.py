"""Masked columns in every form in which a result can leave: no raw value in any byte received, nor on the tape."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable, Iterable

import pytest

from tests.end_to_end.gateway import Gateway
from tests.end_to_end.raw import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Message,
    RawConnection,
    bind,
    close,
    describe,
    error_fields,
    execute,
    parse,
    query,
    row_values,
)
from tests.end_to_end.shop_server import SHOP

MASKED = "id, email, phone, ssn, card_number, id_number, birth_date"
ALL = f"select {MASKED} from shop.customers order by id"
POSTGRES_EPOCH = datetime.date(2000, 1, 1)


def secrets() -> list[bytes]:
    """Every masked value as text, and each date of birth as the binary format has it (days since 2000)."""
    found = [value.encode() for value in SHOP.private_values()]
    return found + [
        # A field of four bytes with its length before it: four bytes alone may stand anywhere by chance. Days
        # that are also numbers of customers tell nothing.
        struct.pack("!ii", 4, days)
        for customer in SHOP.customers
        if not 0 < (days := (customer.birth_date - POSTGRES_EPOCH).days) <= len(SHOP.customers)
    ]


def leaked(data: bytes) -> list[bytes]:
    return [value for value in secrets() if value in data]


def rows(messages: Iterable[Message]) -> list[list[bytes | None]]:
    return [row_values(body) for kind, body in messages if kind == b"D"]


def is_masked(row: list[bytes | None], *, binary: bool = False) -> None:
    """`row` has the columns of MASKED."""
    number = struct.unpack("!i", row[0] or b"")[0] if binary else int(row[0] or b"")
    customer = SHOP.customers[number - 1]
    assert row[1] == b"*" * (len(customer.email) - 4) + customer.email[-4:].encode()
    assert row[2] == b"*" * (len(customer.phone) - 4) + customer.phone[-4:].encode()
    assert row[3] == row[4] == b"[redacted]"
    assert row[5] is not None
    assert row[5].startswith(b"p_")
    assert row[6] is None


Scene = Callable[[RawConnection], list[Message]]


def simple(connection: RawConnection) -> list[Message]:
    return connection.ask(query(ALL))


def several_texts(connection: RawConnection) -> list[Message]:
    half = f"select {MASKED} from shop.customers where id"
    return connection.ask(query(f"{half} <= 120; select 1 where false; {half} > 120"))


def extended(connection: RawConnection) -> list[Message]:
    return connection.ask(parse(ALL), bind(), describe("P"), execute(), SYNC)


def never_described(connection: RawConnection) -> list[Message]:
    return connection.ask(parse(ALL), bind(), execute(), SYNC)


def described_as_a_statement(connection: RawConnection) -> list[Message]:
    return connection.ask(parse(ALL, "s"), describe("S", "s"), bind(name="s"), execute(), SYNC)


def one_by_one(connection: RawConnection) -> list[Message]:
    """Prepared and described once, executed with other parameters each time."""
    text = f"select {MASKED} from shop.customers where id = $1"
    found = connection.ask(parse(text, "one", (23,)), describe("S", "one"), SYNC)
    for customer in SHOP.customers:
        found += connection.ask(bind([str(customer.id).encode()], name="one"), execute(), SYNC)
    return found


def in_one_pipeline(connection: RawConnection) -> list[Message]:
    text = f"select {MASKED} from shop.customers where id = $1"
    connection.send(parse(text, "piped"))
    for customer in SHOP.customers:
        connection.send(bind([str(customer.id).encode()], name="piped"), execute(), SYNC)
    return connection.read_until(b"Z", len(SHOP.customers))


def in_parts(connection: RawConnection) -> list[Message]:
    found = connection.ask(query("begin"), parse(ALL), bind(portal="p"), execute("p", 1), SYNC, syncs=2)
    for _ in range(5):
        found += connection.ask(execute("p", 50), SYNC)
    return found + connection.ask(close("P", "p"), query("commit"))


def flushed(connection: RawConnection) -> list[Message]:
    connection.send(parse(ALL), bind(), FLUSH)
    found = connection.read_until(b"2")
    connection.send(execute(), FLUSH)
    found += connection.read_until(b"C")
    return found + connection.ask(SYNC)


def by_sql_cursor(connection: RawConnection) -> list[Message]:
    found = connection.ask(query(f"begin; declare c cursor for {ALL}; fetch 100 from c"))
    found += connection.ask(execute("c", 100), SYNC)
    return found + connection.ask(query("fetch all from c; commit"))


def by_sql_prepare(connection: RawConnection) -> list[Message]:
    found = connection.ask(query(f"prepare every as {ALL}"), query("execute every"), syncs=2)
    return found + connection.ask(query("deallocate every"))


def returned(connection: RawConnection) -> list[Message]:
    text = f"update shop.customers set balance = balance returning {MASKED}"
    return connection.ask(query("begin"), query(text), query("rollback"), syncs=3)


def returned_by_delete(connection: RawConnection) -> list[Message]:
    clear = "delete from shop.order_items; delete from shop.orders"
    text = f"delete from shop.customers where id > 0 returning {MASKED}"
    return connection.ask(
        query(f"begin; {clear}"), parse(text), bind(), execute(), SYNC, query("rollback"), syncs=3
    )


def through_subqueries(connection: RawConnection) -> list[Message]:
    text = f"with w as (select * from shop.customers) select {MASKED} from (select w.* from w) x order by 1"
    return connection.ask(query(text))


SCENES = [
    simple,
    several_texts,
    extended,
    never_described,
    described_as_a_statement,
    one_by_one,
    in_one_pipeline,
    in_parts,
    flushed,
    by_sql_cursor,
    by_sql_prepare,
    returned,
    returned_by_delete,
    through_subqueries,
]


def watched(gateway: Gateway, scene: Scene) -> list[Message]:
    """The replies of a scene that alice plays, after nothing was found in the bytes received and on the tape."""
    with RawConnection.through(gateway, "alice") as connection:
        found = scene(connection)
        connection.send(TERMINATE)
        list(connection.replies())
        data = bytes(connection.received)
    assert leaked(data) == []
    recorded = gateway.tape(gateway.last_session("alice")).read_bytes()
    assert recorded
    assert leaked(recorded) == []
    return found


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_rows_in_text(either_gateway: Gateway, scene: Scene) -> None:
    messages = watched(either_gateway, scene)
    assert not [error_fields(body) for kind, body in messages if kind == b"E"]
    found = rows(messages)
    assert sorted(int(row[0] or b"") for row in found) == [customer.id for customer in SHOP.customers]
    for row in found:
        is_masked(row)


BINARY: dict[str, Scene] = {
    "all columns": lambda c: c.ask(parse(ALL), bind(results=(1,)), execute(), SYNC),
    "each column": lambda c: c.ask(parse(ALL), bind(results=(1,) * 7), describe("P"), execute(), SYNC),
    "portal in parts": lambda c: c.ask(
        parse(ALL), bind(results=(1,), portal="p"), execute("p", 100), execute("p", 100), execute("p"), SYNC
    ),
    "one name, both formats": lambda c: c.ask(
        parse(ALL, "b"), bind(name="b", portal="t"), bind(name="b", results=(1,)), execute(), SYNC
    ),
    "cursor": lambda c: c.ask(
        query(f"begin; declare c binary cursor for {ALL}"), query("fetch all from c"), syncs=2
    ),
}


@pytest.mark.parametrize("name", BINARY)
def test_rows_in_binary(either_gateway: Gateway, name: str) -> None:
    messages = watched(either_gateway, BINARY[name])
    assert not [error_fields(body) for kind, body in messages if kind == b"E"]
    found = rows(messages)
    assert len(found) == len(SHOP.customers)
    for row in found:
        is_masked(row, binary=True)


COPIES = [
    "",
    " (format csv)",
    " (format csv, header, force_quote *)",
    " (format binary)",
    " (delimiter '|')",
]
SOURCES = ["shop.customers", f"({ALL})", "shop.customers (id, ssn, birth_date)", "shop.contacts"]


@pytest.mark.parametrize("options", COPIES)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("is_extended", [False, True], ids=["simple", "extended"])
def test_copies(gateway: Gateway, source: str, options: str, is_extended: bool) -> None:
    """A copy is masked as it streams; one that cannot be is refused. Nothing leaks either way."""
    text = f"copy {source} to stdout{options}"

    def scene(connection: RawConnection) -> list[Message]:
        if is_extended:
            return connection.ask(parse(text), bind(), execute(), SYNC)
        return connection.ask(query(text))

    messages = watched(gateway, scene)
    data = b"".join(body for kind, body in messages if kind == b"d")
    if source == "shop.contacts":  # COPY of a view is an error of the target
        assert [error_fields(body)["C"] for kind, body in messages if kind == b"E"] == ["42809"]
        assert not data
        return
    assert (b"C", b"COPY 240\0") in messages
    assert data.count(b"[redacted]") in (240, 480)


def test_a_copy_in_which_a_mask_could_be_read_as_null_is_refused(gateway: Gateway) -> None:
    text = "copy shop.customers to stdout (null '-')"
    messages = watched(gateway, lambda c: c.ask(query(text)))
    assert [kind for kind, _ in messages] == [b"E", b"Z"]
    assert error_fields(messages[0][1])["C"] == "42501"


def test_a_view_of_masked_columns_is_masked(either_gateway: Gateway) -> None:
    messages = watched(either_gateway, lambda c: c.ask(query("select * from shop.contacts order by id")))
    active = [customer for customer in SHOP.customers if customer.is_active]
    assert [row[2] for row in rows(messages)] == [
        b"*" * (len(customer.email) - 4) + customer.email[-4:].encode() for customer in active
    ]


def test_the_same_masks_in_both_formats_and_in_copies(gateway: Gateway) -> None:
    """A pseudonym is the same token wherever it is shown, so joins and counts still work."""
    text = "select id_number from shop.customers order by id"
    shown = rows(watched(gateway, lambda c: c.ask(query(text))))
    binary = rows(watched(gateway, lambda c: c.ask(parse(text), bind(results=(1,)), execute(), SYNC)))
    copied = watched(gateway, lambda c: c.ask(query(f"copy ({text}) to stdout")))
    assert shown == binary
    lines = b"".join(body for kind, body in copied if kind == b"d").splitlines()
    assert [[line] for line in lines] == shown


def test_a_copy_in_is_not_changed(gateway: Gateway) -> None:
    def scene(connection: RawConnection) -> list[Message]:
        found = connection.ask(query("begin"))
        connection.send(query("copy shop.products from stdin"))
        found += connection.read_until(b"G")
        line = b"d" + struct.pack("!i", 4 + len(b"777\tNew\t1\n")) + b"777\tNew\t1\n"
        found += connection.ask(line, COPY_DONE)
        return found + connection.ask(
            query("select * from shop.products where id = 777"), query("rollback"), syncs=2
        )

    assert [b"777", b"New", b"1.00"] in rows(watched(gateway, scene))
