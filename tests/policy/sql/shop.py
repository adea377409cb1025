"""A small catalog made by hand: what the tests of the SQL analysis resolve names by, without a server."""

from __future__ import annotations

from policy.facts import ColumnName, Output, SqlFacts
from policy.sql.analyze import Statement, analyze
from policy.sql.catalog import Catalog, build_catalog
from policy.sql.catalog_rows import (
    CastRow,
    CatalogRows,
    ColumnRow,
    FunctionRow,
    InheritanceRow,
    OperatorRow,
    RelationRow,
    TypeRow,
    UsageRow,
    ViewRow,
)
from policy.sql.state import SessionState

TEXT, INT, JSONB, TEXTS, TIMESTAMP, VARCHAR = 25, 23, 3802, 1009, 1184, 1043

# relation: (oid, kind, columns)
RELATIONS: dict[str, tuple[int, str, list[tuple[str, int]]]] = {
    "shop.customers": (
        100,
        "r",
        [("id", INT), ("name", TEXT), ("email", TEXT), ("phone", VARCHAR), ("ssn", TEXT), ("tags", TEXTS)],
    ),
    "shop.orders": (101, "r", [("id", INT), ("customer_id", INT), ("total", INT), ("note", TEXT)]),
    "shop.v_customers": (102, "v", [("id", INT), ("mail", TEXT), ("big", TEXT)]),
    "shop.v_mail": (103, "v", [("mail", TEXT), ("big", TEXT)]),
    "shop.m_customers": (104, "m", [("email", TEXT)]),
    "shop.events": (105, "p", [("id", INT), ("email", TEXT)]),
    "shop.events_1": (106, "r", [("id", INT), ("email", TEXT)]),
    "shop.computed": (107, "r", [("email", TEXT), ("loud", TEXT)]),
    "shop.v_broken": (108, "v", [("x", TEXT)]),
    "shop.ruled": (109, "r", [("a", INT)]),
    "public.customers": (110, "r", [("id", INT), ("email", TEXT)]),
    "public.t": (111, "r", [("a", INT), ("b", TEXT)]),
    "public.u": (112, "r", [("a", INT), ("d", TEXT)]),
    "other.secrets": (113, "r", [("key", TEXT)]),
    "shop.order_seq": (114, "S", [("last_value", INT), ("log_cnt", INT), ("is_called", INT)]),
    "shop.v_setting": (115, "v", [("s", TEXT)]),
    "shop.v_of_setting": (116, "v", [("s", TEXT)]),
    "pg_catalog.pg_class": (1259, "r", [("oid", INT), ("relname", TEXT)]),
    "pg_catalog.pg_settings": (1260, "v", [("name", TEXT), ("setting", TEXT)]),
    "pg_catalog.pg_stats": (1261, "v", [("attname", TEXT), ("most_common_vals", TEXT)]),
}
VIEWS = {
    102: "SELECT id, email AS mail, upper(email) AS big FROM shop.customers WHERE ssn IS NOT NULL",
    103: "SELECT v.mail, v.big FROM shop.v_customers v",
    104: "SELECT customers.email FROM shop.customers",
    108: "SELECT gone.x FROM shop.gone",
    115: "SELECT set_config('search_path'::text, 'public'::text, false) AS s",
    116: "SELECT v_setting.s FROM shop.v_setting",
}


def _system(
    name: str, *, relation: int = 0, outs: str = "", record: bool = False, any_: bool = False
) -> FunctionRow:
    return FunctionRow("pg_catalog", name, True, relation, outs, record, True, any_)


FUNCTIONS = (
    _system("unnest", any_=True),
    _system("generate_series"),
    _system("jsonb_each", outs='["key","value"]'),
    _system("jsonb_to_record", record=True),
    _system("upper"),
    _system("lower"),
    _system("count"),
    _system("pg_sleep"),
    _system("query_to_xml"),
    _system("set_config"),
    _system("jsonb_populate_record", any_=True),
    FunctionRow("shop", "f", False, 0, "", False, False, False),
    FunctionRow("shop", "all_customers", False, 100, "", False, False, False),
    FunctionRow("public", "lower", False, 0, "", False, False, False),
    FunctionRow("public", "replace", False, 0, "", False, True, False),
    FunctionRow("other", "upper", False, 0, "", False, False, False),
)
TYPES = (
    TypeRow(TEXT, "pg_catalog", "text", "b", 0, 0, 0, False, True),
    TypeRow(INT, "pg_catalog", "int4", "b", 0, 0, 0, False, True),
    TypeRow(VARCHAR, "pg_catalog", "varchar", "b", 0, 0, 0, False, True),
    TypeRow(TEXTS, "pg_catalog", "_text", "b", 0, TEXT, 0, False, True),
    TypeRow(JSONB, "pg_catalog", "jsonb", "b", 0, 0, 0, False, True),
    TypeRow(900, "shop", "written", "b", 0, 0, 0, False, False),
)


def rows() -> CatalogRows:
    relations, columns = [], []
    for qualified, (oid, kind, names) in RELATIONS.items():
        schema, name = qualified.split(".")
        relations.append(RelationRow(oid, schema, name, kind, name == "ruled"))
        for number, (column, type_oid) in enumerate(names, 1):
            modifier = 24 if type_oid == VARCHAR else -1
            generated = "upper(email)" if column == "loud" else ""
            columns.append(ColumnRow(oid, number, column, type_oid, modifier, generated))
    return CatalogRows(
        server_version=180001,
        database="shopdb",
        schemas=("information_schema", "other", "pg_catalog", "public", "shop"),
        usage=(UsageRow("", "public"), UsageRow("reader", "shop")),
        relations=tuple(relations),
        columns=tuple(columns),
        inheritance=(InheritanceRow(106, 105),),
        views=tuple(ViewRow(oid, text) for oid, text in VIEWS.items()),
        functions=FUNCTIONS,
        operators=(OperatorRow("public", "==>"), OperatorRow("other", "+")),
        types=TYPES,
        casts=(CastRow(TEXT, 900),),
    )


CATALOG: Catalog = build_catalog(rows())
STATE = SessionState(search_path=("shop", "public"), login_role="reader")


def statements(text: str, state: SessionState = STATE) -> tuple[Statement, ...]:
    return analyze(text, CATALOG, state)


def facts(text: str, state: SessionState = STATE) -> SqlFacts:
    """The facts of the last statement of `text`."""
    return statements(text, state)[-1].facts


def outputs(text: str, state: SessionState = STATE) -> tuple[Output, ...]:
    found = facts(text, state).outputs
    assert found is not None
    return found


def shown(output: Output) -> str:
    """An output in one line: `name`, `name=source`, `name~derived,derived`, with `?` when not known."""
    text = output.name
    if output.source is not None:
        text += f"={short(output.source)}"
    if output.derived:
        text += "~" + ",".join(short(name) for name in output.derived)
    return text if output.known else text + "?"


def short(name: ColumnName) -> str:
    return str(name).removeprefix("shop.")


def uses(text: str, state: SessionState = STATE) -> set[str]:
    """Uses as `customers.email:filter`, with ` via shop.v` when through another relation."""
    return {
        f"{short(use.column)}:{use.use.value}" + (f" via {use.via}" if use.via else "")
        for use in facts(text, state).uses
    }


def accesses(text: str, state: SessionState = STATE) -> set[str]:
    """Accesses as `select shop.customers(email,id)`; `*` for unknown columns, `!` when unbounded."""
    found = set()
    for access in facts(text, state).accesses:
        columns = "*" if access.columns is None else ",".join(access.columns)
        via = f" via {access.via}" if access.via else ""
        bounded = "" if access.bounded else "!"
        found.add(f"{access.command} {access.schema}.{access.name}({columns}){bounded}{via}")
    return found
