"""COPY under masks gives what SELECT gives, and writes are refused before they run."""

from __future__ import annotations

from policy.sql.catalog import build_catalog
from policy.sql.catalog_rows import CatalogRows, ColumnRow, RelationRow
from protocols.postgres.messages import (
    CopyData,
    CopyDone,
    CopyResponse,
    Query,
    command_complete,
    ready_for_query,
)
from tests.proxyd.gates.postgres.playbook import POLICY, Playbook

VARCHAR, INET = 1043, 869
VARCHAR_3 = 3 + 4
READY = ready_for_query("I")


def catalog(type_oid: int, modifier: int = -1) -> Playbook:
    rows = CatalogRows(
        server_version=180000,
        database="shop",
        schemas=("shop", "pg_catalog"),
        relations=(
            RelationRow(20001, "shop", "customers", "r", False),
            RelationRow(20002, "shop", "orders", "r", False),
        ),
        columns=(
            ColumnRow(20001, 1, "id", 23, -1, ""),
            ColumnRow(20001, 2, "email", type_oid, modifier, ""),
            ColumnRow(20002, 1, "id", 23, -1, ""),
        ),
    )
    policy = POLICY.replace('relations: ["shop.orders"]}}', 'relations: ["shop.*"]}}')
    return Playbook(policy=policy, catalog=build_catalog(rows))


def test_copy_keeps_to_the_length_of_the_column() -> None:
    play = catalog(VARCHAR, VARCHAR_3)
    copy = Query("copy customers (email) to stdout").encode()
    play.client(copy).forwards(copy)
    opened = CopyResponse("out", 0, (0,)).encode()
    rest = CopyDone().encode() + command_complete("COPY 1") + READY
    play.target(opened, CopyData(b"abc\n").encode(), rest)
    play.tells(opened, CopyData(b"[re\n").encode(), rest)
    play.done()


def test_a_write_whose_returning_cannot_be_masked_is_refused_before_it_runs() -> None:
    play = catalog(INET)
    play.client(Query("update customers set id = 2 where id = 1 returning email").encode()).forwards()
    play.tells_error("42501", "mail", "type", then=READY)
    play.done()
