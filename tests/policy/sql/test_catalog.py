"""The snapshot: look-ups, what stands behind columns, and building from text rows."""

from __future__ import annotations

import msgspec
import pytest

from policy.facts import HIDDEN, ColumnName, Use
from policy.sql.analyze import analyze
from policy.sql.catalog import build_catalog
from policy.sql.catalog_queries import QUERIES
from policy.sql.catalog_rows import CatalogRows, ColumnRow, RelationRow, TypeRow, ViewRow, rows_from_text
from tests.policy.sql.shop import CATALOG, STATE, TEXT, rows


def names(found: tuple[ColumnName, ...] | None) -> list[str] | None:
    return None if found is None else [str(name) for name in found]


def test_identities() -> None:
    assert names(CATALOG.identities(100, 3)) == ["shop.customers.email"]
    assert names(CATALOG.identities(102, 2)) == ["shop.v_customers.mail", "shop.customers.email"]
    assert names(CATALOG.identities(103, 1)) == [
        "shop.v_mail.mail",
        "shop.v_customers.mail",
        "shop.customers.email",
    ]
    assert names(CATALOG.identities(104, 1)) == ["shop.m_customers.email", "shop.customers.email"]
    assert names(CATALOG.identities(105, 2)) == ["shop.events.email", "shop.events_1.email"]
    assert names(CATALOG.identities(106, 2)) == ["shop.events_1.email", "shop.events.email"]
    assert CATALOG.identities(100, -1) == ()  # a system column
    assert CATALOG.identities(100, 0) is None  # a whole row
    assert CATALOG.identities(100, 99) is None
    assert CATALOG.identities(9999, 1) is None
    assert CATALOG.identities(108, 1) is None  # a view that cannot be analysed


def test_derivations() -> None:
    assert names(CATALOG.derived_from(102, 3)) == ["shop.customers.email"]
    assert names(CATALOG.derived_from(103, 2)) == ["shop.customers.email"]
    assert names(CATALOG.derived_from(107, 2)) == ["shop.computed.email"]
    assert CATALOG.derived_from(100, 3) == ()
    assert CATALOG.derived_from(108, 1) is None
    assert CATALOG.is_derived(102, 3)
    assert not CATALOG.is_derived(102, 2)
    assert CATALOG.is_derived(108, 1)


def test_look_ups() -> None:
    relation = CATALOG.relation("shop", "customers")
    assert relation is not None and relation.oid == 100 and relation.qualified == "shop.customers"
    assert CATALOG.relation("shop", "nothing") is None
    assert [found.schema for found in CATALOG.relations_named("customers")] == ["shop", "public"]
    assert CATALOG.relation_by_oid(101) is CATALOG.relation("shop", "orders")
    assert {row.schema for row in CATALOG.functions("lower")} == {"pg_catalog", "public"}
    assert CATALOG.operator_schemas("==>") == ("public",)
    assert CATALOG.operator_schemas("=") == ()
    assert CATALOG.may_use("reader", "shop") and not CATALOG.may_use("stranger", "shop")
    assert CATALOG.may_use("stranger", "public")


def test_version_is_that_of_the_content() -> None:
    assert build_catalog(rows()).version == CATALOG.version
    assert build_catalog(msgspec.structs.replace(rows(), server_version=1)).version != CATALOG.version


def view(definitions: dict[str, str]) -> CatalogRows:
    base = rows()
    relations, columns, views = list(base.relations), list(base.columns), list(base.views)
    for number, (name, text) in enumerate(definitions.items()):
        oid = 500 + number
        relations.append(RelationRow(oid, "shop", name, "v", False))
        columns.append(ColumnRow(oid, 1, "x", TEXT, -1, ""))
        views.append(ViewRow(oid, text))
    return msgspec.structs.replace(
        base, relations=tuple(relations), columns=tuple(columns), views=tuple(views)
    )


def test_views_are_built_after_what_they_are_made_of() -> None:
    definitions = {f"v{number}": f"SELECT v{number + 1}.x FROM shop.v{number + 1}" for number in range(60)}
    definitions["v60"] = "SELECT customers.ssn AS x FROM shop.customers"
    catalog = build_catalog(view(definitions))
    assert "shop.customers.ssn" in (names(catalog.identities(500, 1)) or [])


@pytest.mark.parametrize(
    "definitions",
    [
        {"v": "SELECT v.x FROM shop.v"},
        {"v": "SELECT w.x FROM shop.w", "w": "SELECT v.x FROM shop.v"},
        {"v": "not SQL at all"},
        {"v": "SELECT 1, 2"},
        {"v": "SELECT * FROM shop.gone"},
        {"v": "SELECT gone FROM shop.customers"},
        {"v": "SELECT " + "(" * 5000 + "1" + ")" * 5000 + " FROM shop.customers"},
        {"v": "SELECT " + "1+(" * 3000 + "1" + ")" * 3000},
    ],
    ids=["itself", "circle", "garbage", "width", "relation", "column", "deep", "deeper"],
)
def test_a_definition_that_cannot_be_followed_makes_the_view_opaque(definitions: dict[str, str]) -> None:
    catalog = build_catalog(view(definitions))
    if definitions["v"].startswith("SELECT ((("):
        assert catalog.derived_from(500, 1) == ()  # parentheses leave no trace in the tree
        return
    assert catalog.identities(500, 1) is None
    assert catalog.derived_from(500, 1) is None


def test_what_a_view_calls_is_told_wherever_it_is_touched() -> None:
    definitions = {
        "v": "SELECT 1 AS x FROM shop.customers WHERE customers.id = shop.f()",
        "w": "SELECT v.x FROM shop.v",
        "plain": "SELECT upper(customers.name) AS x FROM shop.customers",
        "opaque": "SELECT gone.x FROM shop.gone",
        "above": "SELECT opaque.x FROM shop.opaque",
    }
    catalog = build_catalog(view(definitions))
    for name in ("v", "w"):
        for text in (f"SELECT count(*) FROM shop.{name}", f"CREATE TABLE t AS TABLE shop.{name}"):
            (found,) = analyze(text, catalog, STATE)
            assert (found.facts.functions, found.facts.hidden_functions) == ((), ("shop.f",))
    (found,) = analyze("SELECT x FROM shop.plain", catalog, STATE)
    assert (found.facts.hidden_functions, found.facts.unresolved) == ((), ())
    for name in ("opaque", "above"):
        (found,) = analyze(f"SELECT upper(x) FROM shop.{name}", catalog, STATE)
        assert [reason.startswith(HIDDEN) for reason in found.facts.unresolved] == [True]


def holders(*column_types: int) -> CatalogRows:
    """shop.holders with columns c1, c2... of these types, and a view of it."""
    base = rows()
    columns = [
        ColumnRow(600, number, f"c{number}", oid, -1, "") for number, oid in enumerate(column_types, 1)
    ]
    columns.append(ColumnRow(601, 1, "x", column_types[0], -1, ""))
    columns.append(ColumnRow(602, 1, "owner", 910, -1, ""))
    return msgspec.structs.replace(
        base,
        relations=(
            *base.relations,
            RelationRow(600, "shop", "holders", "r", False),
            RelationRow(601, "shop", "v_holders", "v", False),
            RelationRow(602, "shop", "pair", "c", False),
        ),
        columns=(*base.columns, *columns),
        views=(ViewRow(601, "SELECT holders.c1 AS x FROM shop.holders"), *base.views),
        types=(
            *base.types,
            TypeRow(910, "shop", "customers", "c", 0, 0, 100, False, False),
            TypeRow(911, "shop", "_customers", "b", 0, 910, 0, False, False),
            TypeRow(912, "shop", "some", "d", 911, 0, 0, False, False),
            TypeRow(913, "shop", "pair", "c", 0, 0, 602, False, False),
            TypeRow(914, "shop", "span", "r", 0, 913, 0, False, False),
            TypeRow(915, "shop", "v_mail", "c", 0, 0, 103, False, False),
            TypeRow(916, "shop", "v_broken", "c", 0, 0, 108, False, False),
            TypeRow(917, "shop", "v_holders", "c", 0, 0, 601, False, False),
        ),
    )


@pytest.mark.parametrize("type_oid", [910, 911, 912, 913, 914, 915])
def test_a_column_that_holds_rows_is_computed_from_all_their_columns(type_oid: int) -> None:
    catalog = build_catalog(holders(type_oid, TEXT))
    for oid in (600, 601):
        assert "shop.customers.email" in (names(catalog.derived_from(oid, 1)) or [])
    assert catalog.derived_from(600, 2) == ()
    column = catalog.column(600, 1)
    assert column is not None
    found = {(str(use.column), use.use, use.via) for use in column.uses(Use.OUTPUT)}
    assert ("shop.customers.email", Use.EXPRESSION, "shop.holders") in found


@pytest.mark.parametrize("type_oid", [916, 917])
def test_a_column_that_holds_rows_of_an_opaque_or_circular_view_is_not_known(type_oid: int) -> None:
    catalog = build_catalog(holders(type_oid))
    assert catalog.derived_from(600, 1) is None or catalog.derived_from(601, 1) is None


def test_uses_of_a_column() -> None:
    column = CATALOG.column(102, 3)
    assert column is not None
    assert {(str(use.column), use.use, use.via) for use in column.uses(Use.OUTPUT)} == {
        ("shop.v_customers.big", Use.OUTPUT, ""),
        ("shop.customers.email", Use.EXPRESSION, "shop.v_customers"),
    }


def test_rows_from_text() -> None:
    results: dict[str, list[list[str | None]]] = {name: [] for name in QUERIES}
    results["server"] = [["180001", "shop"]]
    results["schemas"] = [["shop"]]
    results["usage"] = [["", "shop"]]
    results["relations"] = [["10", "shop", "t", "r", "f"]]
    results["columns"] = [["10", "1", "a", "25", "-1", ""]]
    results["functions"] = [["shop", "f", "f", None, '["x"]', "t", "f", "t"]]
    results["types"] = [["25", "pg_catalog", "text", "b", "0", "0", "0", "f", "t"]]
    built = rows_from_text(results)
    assert built.database == "shop"
    assert names(build_catalog(built).identities(10, 1)) == ["shop.t.a"]
    assert built.functions[0].out_names == '["x"]' and built.functions[0].is_polymorphic
    results["columns"] = [["10", "one", "a", "25", "-1", ""]]
    with pytest.raises(ValueError, match="one"):
        rows_from_text(results)
