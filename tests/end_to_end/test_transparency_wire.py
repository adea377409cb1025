"""The same messages give the same replies, byte for byte, with and without the gateway: pipelines, errors, portals,
names, COPY, and messages in orders that no driver sends.

Each conversation is a list of steps: what is sent at once, then how many ReadyForQuery to wait for (or another type of
message). It ends with Terminate, and everything up to the end of the connection is compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from demo import shop
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
    copy_data,
    copy_fail,
    describe,
    error_fields,
    execute,
    message,
    parse,
    query,
)

Step = tuple[bytes, bytes, int]
INT4, TEXT = 23, 25


def sends(*messages: bytes, awaits: bytes = b"Z", count: int = 1) -> Step:
    return b"".join(messages), awaits, count


ROWS = "select g, 'row ' || g from generate_series(1, 10) g"
INSERT = "insert into wire.t (id, name) values ($1, $2) returning id, name"

CONVERSATIONS: dict[str, Sequence[Step]] = {
    "simple": [
        sends(query("select 1, 'a'; select 2; ; select null")),
        sends(query("")),
        sends(query(" -- nothing")),
        sends(query(";")),
        sends(query("select 1"), query("select 2/0"), query("selec"), query("select 3"), count=4),
    ],
    "error in a pipeline": [
        sends(
            *(parse("select 1"), bind(), describe("P"), execute()),
            *(parse("select 1/0"), bind(), execute()),
            *(parse("select 2"), bind(), execute(), SYNC),
            *(parse("select 3"), bind(), execute(), SYNC),
            count=2,
        ),
    ],
    "syntax error in a pipeline": [
        sends(
            *(parse("select 1"), bind(), execute(), parse("selec 2"), bind(), execute()),
            *(query("select 'skipped?'"), SYNC, query("select 4")),
            count=2,
        ),
        sends(SYNC),
    ],
    "implicit transaction rolled back by a later error": [
        sends(
            *(parse(INSERT, types=(INT4, TEXT)), bind([b"100", b"x"]), execute()),
            *(parse("select 1/0"), bind(), execute(), SYNC),
        ),
        sends(query("select * from wire.t where id = 100")),
    ],
    "errors inside a transaction": [
        sends(query("begin"), query("select 1"), query("selec"), query("select 2"), count=4),
        sends(parse("select 3"), bind(), execute(), SYNC),
        sends(parse("rollback"), bind(), execute(), SYNC),
        sends(query("begin"), parse("selec"), SYNC, query("select 5"), query("commit"), count=4),
        sends(query("begin"), bind(name="nowhere"), SYNC, query("select 5"), query("commit"), count=4),
        sends(query("begin; select 1; selec; commit")),
        sends(query("begin; select 1/0; commit"), query("select 6"), query("rollback"), count=3),
        sends(query("insert into wire.t (id) values (55); select 1/0"), query("table wire.t"), count=2),
    ],
    "flush shows what is done so far": [
        sends(parse("select 1 as x", "s"), FLUSH, awaits=b"1"),
        sends(describe("S", "s"), FLUSH, awaits=b"T"),
        sends(bind(name="s"), execute(), FLUSH, awaits=b"C"),
        sends(FLUSH, FLUSH, close("S", "s"), FLUSH, awaits=b"3"),
        sends(SYNC),
    ],
    "portals in parts": [
        sends(parse(ROWS), bind(portal="p"), execute("p", 3), execute("p", 3), SYNC),
        sends(execute("p", 3), SYNC),
        sends(query("begin"), count=1),
        sends(parse(ROWS), bind(portal="p"), execute("p", 4), SYNC),
        sends(describe("P", "p"), execute("p", 4), FLUSH, awaits=b"s"),
        sends(execute("p", 4), execute("p", 4), SYNC),
        sends(bind(portal="q"), execute("q", 1), close("P", "q"), execute("q", 1), SYNC),
        sends(query("rollback")),
    ],
    "names": [
        sends(parse("select 1", "a"), parse("select 2", "a"), SYNC),
        sends(bind(name="a"), execute(), SYNC),
        sends(close("S", "a"), close("S", "never"), close("P", "never"), SYNC),
        sends(bind(name="a"), SYNC),
        sends(
            query("begin; savepoint s"),
            query("execute a"),
            query("execute a"),
            query("rollback to s"),
            count=4,
        ),
        sends(query("fetch a"), query("fetch a"), query("rollback"), count=3),
        sends(query("execute a"), query("move a"), query("begin"), bind(name="a"), SYNC, count=4),
        sends(bind(name="a"), SYNC, query("end"), count=2),
        sends(describe("S", "a"), SYNC),
        sends(describe("P", "a"), SYNC),
        sends(execute("a"), SYNC),
        sends(parse("select 'first'"), parse("select 'second'"), bind(), execute(), SYNC),
        sends(bind(), execute(), SYNC),
        sends(query("select 'drops the unnamed statement'"), bind(), SYNC, count=2),
        sends(parse("select 'kept'"), SYNC, parse("selec"), SYNC, bind(), SYNC, count=3),
        sends(parse("select 'kept'"), SYNC, query("selec"), bind(), SYNC, count=3),
        sends(parse("select 1", "n" * 70), bind(name="n" * 63), execute(), SYNC),
        sends(query("prepare made as select 7"), bind(name="made"), describe("P"), execute(), SYNC, count=2),
        sends(query("deallocate made"), bind(name="made"), SYNC, count=2),
        sends(parse("select 9", "wired"), SYNC, query("execute wired"), query("deallocate all"), count=3),
        sends(bind(name="wired"), SYNC),
    ],
    "cursors of both protocols are one": [
        sends(query("begin; declare c cursor for select generate_series(1, 5)")),
        sends(describe("P", "c"), execute("c", 2), SYNC),
        sends(query("fetch 2 from c"), execute("c", 1), SYNC, count=2),
        sends(parse("select 8"), bind(portal="d"), SYNC, query("fetch all from d"), count=2),
        sends(query("close c"), execute("c"), SYNC, query("commit"), count=3),
    ],
    "describe": [
        sends(parse("select $1 + 1, $2::text", types=(INT4,)), describe("S"), SYNC),
        sends(parse("insert into wire.t values ($1, $2)"), describe("S"), SYNC),
        sends(parse(""), describe("S"), bind(), describe("P"), execute(), SYNC),
        sends(
            parse("select * from wire.t"), describe("S"), bind(results=(1,)), describe("P"), execute(), SYNC
        ),
        sends(parse("select $1"), describe("S"), SYNC),
        sends(parse("select 1; select 2"), describe("S"), SYNC),
        sends(parse("select * from wire.nowhere"), describe("S"), SYNC),
    ],
    "formats": [
        sends(
            parse("select 1, 2.5::float8, 'x'::bytea, null, '{1,2}'::int[]"),
            bind(results=(1,)),
            execute(),
            SYNC,
        ),
        sends(bind(results=(0, 1, 0, 1, 1)), execute(), SYNC),
        sends(bind(results=(0, 1)), execute(), SYNC),
        sends(parse("select $1::int"), bind([b"\0\0\0\x07"], formats=(1,)), execute(), SYNC),
        sends(bind([b"7", b"8"]), execute(), SYNC),
        sends(bind([b"seven"]), execute(), SYNC),
        sends(bind([b"\0\7"], formats=(1,)), execute(), SYNC),
        sends(bind([None]), execute(), SYNC),
    ],
    "copy in": [
        sends(query("copy wire.t from stdin"), copy_data(b"1\tone\n2\tt"), copy_data(b"wo\n"), COPY_DONE),
        sends(query("copy wire.t from stdin"), awaits=b"G"),
        sends(copy_data(b"3\tthree\n"), copy_fail("changed my mind")),
        sends(query("copy wire.t from stdin"), awaits=b"G"),
        sends(copy_data(b"bad\trow\n"), awaits=b"E"),
        sends(copy_data(b"4\tignored\n"), COPY_DONE, awaits=b"Z"),
        sends(query("select * from wire.t order by id")),
        sends(parse("copy wire.t from stdin"), bind(), execute(), FLUSH, awaits=b"G"),
        sends(copy_data(b"5\tfive\n"), COPY_DONE, SYNC),
        sends(parse("copy wire.t from stdin"), bind(), execute(), SYNC, awaits=b"G"),
        sends(copy_data(b"6\tsix\n"), COPY_DONE, SYNC),
        sends(query("copy wire.t from stdin; select 'after'; copy wire.t from stdin"), awaits=b"G"),
        sends(COPY_DONE, awaits=b"G"),
        sends(COPY_DONE),
        sends(query("table wire.t")),
        sends(copy_data(b"stray"), COPY_DONE, copy_fail("stray"), query("truncate wire.t")),
    ],
    "copy out": [
        sends(
            query("copy (select g, g * g from generate_series(1, 5) g) to stdout"), query("select 1"), count=2
        ),
        sends(query("copy (select g from generate_series(1, 5) g) to stdout (format binary)")),
        sends(query("copy (select 1 / (4 - g) from generate_series(1, 5) g) to stdout")),
        sends(parse("copy wire.t to stdout (format csv, header)"), bind(), describe("P"), execute(), SYNC),
    ],
    "a simple query in a batch that was not synced": [
        sends(parse("select 1"), bind(), execute(), query("select 2"), count=1),
        sends(
            parse(INSERT, types=(INT4, TEXT)), bind([b"70", b"x"]), execute(), query("select 1/0"), count=1
        ),
        sends(SYNC, query("select count(*) from wire.t where id = 70"), count=2),
        sends(parse("begin"), bind(), execute(), query("select 3"), SYNC, query("rollback"), count=3),
    ],
    "many at once": [
        sends(
            *(
                part
                for number in range(300)
                for part in (
                    parse(f"select {number}", f"m{number}"),
                    bind(name=f"m{number}"),
                    execute(),
                    SYNC,
                )
            ),
            count=300,
        ),
        sends(*(query(f"select {number} where {number} = {number}") for number in range(300)), count=300),
    ],
    "notices and settings": [
        sends(
            query("do $$ begin raise notice 'one'; raise warning 'two'; end $$; set timezone = 'Asia/Tokyo'")
        ),
        sends(query("set application_name = 'wire'; reset timezone; select 1")),
        sends(query("set client_min_messages = debug5; select 1; reset client_min_messages")),
        sends(query("listen news"), query("unlisten *"), count=2),
    ],
    "bad texts": [
        sends(query(b"select '\xff'"), query("select 1"), count=2),
        sends(parse(b"select '\xc3('"), SYNC),
        sends(query("begin"), query(b"select '\xff'"), query("rollback"), count=3),
        sends(parse("select $1::text"), bind([b"\xff"]), execute(), SYNC),
    ],
    "sync alone": [sends(SYNC, SYNC, FLUSH, SYNC, count=3)],
}


def conversation(connection: RawConnection, steps: Sequence[Step]) -> list[Message]:
    found: list[Message] = []
    with connection:
        for data, awaited, count in steps:
            connection.send(data)
            found += connection.read_until(awaited, count)
        connection.send(TERMINATE)
        found += connection.replies()
    return found


def forget(gateway: Gateway) -> None:
    """Empty the one table that the conversations write to. It is never made anew: its number is in the replies."""
    gateway.server.psql("truncate wire.t", shop.DATABASE)


@pytest.fixture
def wired(either_gateway: Gateway) -> Gateway:
    made = (
        "create schema if not exists wire; create table if not exists wire.t (id int primary key, name text)"
    )
    either_gateway.server.psql(f"set client_min_messages = error; {made}", shop.DATABASE)
    return either_gateway


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_same_messages_give_the_same_replies(wired: Gateway, name: str) -> None:
    steps = CONVERSATIONS[name]
    forget(wired)
    expected = conversation(RawConnection.direct(wired), steps)
    forget(wired)
    found = conversation(RawConnection.through(wired, "dora"), steps)
    assert shown(found) == shown(expected)
    assert found == expected


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(message(b"@", b"x"), id="unknown type"),
        pytest.param(b"Q\0\0\0\x02", id="impossible length"),
        pytest.param(message(b"Q", b"no end"), id="a text without its end"),
        pytest.param(message(b"S", b"x"), id="bytes behind a message's end"),
        pytest.param(message(b"p", b"secret\0"), id="a password nobody asked for"),
    ],
)
def test_what_breaks_the_protocol_ends_the_session_on_both_ways(gateway: Gateway, broken: bytes) -> None:
    """The words are the gateway's own, for the one who caused it."""
    with RawConnection.through(gateway, "dora") as connection:
        connection.ask(query("select 1"))
        connection.send(broken)
        *_, (kind, body) = list(connection.replies())
    assert kind == b"E"
    fields = error_fields(body)
    assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
    assert fields["M"].startswith("proxyd: ")


@pytest.mark.parametrize("minor", [0, 2])
def test_the_welcome_is_the_targets_but_for_the_key(gateway: Gateway, minor: int) -> None:
    """Of PostgreSQL 18, which speaks the newest protocol, as the gateway does before any target."""
    with RawConnection.direct(gateway, minor=minor) as direct:
        one = direct.welcome
    with RawConnection.through(gateway, "dora", minor=minor) as through:
        other = through.welcome
    assert sorted(kind for kind, _ in one) == sorted(kind for kind, _ in other)
    assert statuses(one) == statuses(other)
    key, own = (next(body for kind, body in welcome if kind == b"K") for welcome in (one, other))
    assert key != own
    assert len(key) == len(own)


def statuses(welcome: list[Message]) -> list[bytes]:
    return sorted(body for kind, body in welcome if kind in b"SRvZ")


def shown(messages: list[Message]) -> list[str]:
    """One line a message, for the report of a difference."""
    return [f"{kind.decode()} {body[:300]!r}" for kind, body in messages]
