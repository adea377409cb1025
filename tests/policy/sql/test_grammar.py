"""The tables of the analysis against the whole grammar: every node and field is known, or refused on purpose."""

from __future__ import annotations

import inspect

import pglast.ast
import pytest
from pglast import enums

from policy.sql import references, relations
from policy.sql.classify import (
    DEFINITIONS,
    DISCARDS,
    KINDS_OF_OBJECT,
    NEVER_ALONE,
    QUERIES,
    TRANSACTIONS,
)
from policy.sql.harmless import (
    HARMLESS_CATALOG_RELATIONS,
    HARMLESS_FUNCTIONS,
    REVEALING_CATALOG_RELATIONS,
)
from policy.sql.references import CONSTANTS, PARTS, Expressions
from policy.sql.statements import _HANDLERS as STATEMENT_HANDLERS
from policy.sql.words import words

NODES = {
    name: kind
    for name, kind in vars(pglast.ast).items()
    if inspect.isclass(kind) and issubclass(kind, pglast.ast.Node)
}


def test_every_statement_is_classified_exactly_once() -> None:
    statements = {name for name in NODES if name.endswith("Stmt")}
    tables = [set(DEFINITIONS), set(STATEMENT_HANDLERS), set(QUERIES), set(NEVER_ALONE)]
    assert set().union(*tables) == statements
    assert sum(len(table) for table in tables) == len(statements)


def fields_of(name: str) -> dict[str, str]:
    slots = NODES[name].__slots__
    return {field: slots[field].c_type for field in slots} if isinstance(slots, dict) else {}


# Fields that can hold trees but say nothing of tables, functions or operators, or are handled by hand.
IGNORED = {
    ("CollateClause", "collname"),
    ("RowExpr", "colnames"),
    ("GroupingFunc", "refs"),
    ("XmlExpr", "arg_names"),
    ("XmlSerialize", "typeName"),
    ("JsonValueExpr", "format"),
    ("JsonFuncExpr", "output"),
    ("JsonObjectConstructor", "output"),
    ("JsonArrayConstructor", "output"),
    ("JsonIsPredicate", "format"),
    ("JsonParseExpr", "output"),
    ("JsonScalarExpr", "output"),
    ("JsonSerializeExpr", "output"),
    ("ResTarget", "indirection"),
}


@pytest.mark.parametrize("name", sorted(set(PARTS) - {"List"}))
def test_no_part_of_an_expression_is_passed_over(name: str) -> None:
    taken = {field for field, _ in PARTS[name]}
    for field, c_type in fields_of(name).items():
        if c_type.endswith("*") and c_type != "char*" and (name, field) not in IGNORED:
            assert field in taken, f"{name}.{field}: {c_type}"


HANDLED = {
    "SelectStmt": "distinctClause intoClause targetList fromClause whereClause groupClause havingClause windowClause"
    " valuesLists sortClause limitOffset limitCount lockingClause withClause larg rarg",
    "InsertStmt": "relation cols selectStmt onConflictClause returningClause withClause",
    "OnConflictClause": "infer targetList whereClause",
    "InferClause": "indexElems whereClause",
    "UpdateStmt": "relation targetList whereClause fromClause returningClause withClause",
    "DeleteStmt": "relation usingClause whereClause returningClause withClause",
    "MergeStmt": "relation sourceRelation joinCondition mergeWhenClauses returningClause withClause",
    "MergeWhenClause": "condition targetList values",
    "ReturningClause": "options exprs",
    "FuncCall": "funcname args agg_order agg_filter over",
    "WindowDef": "partitionClause orderClause startOffset endOffset",
    "SortBy": "node useOp",
    "SubLink": "testexpr operName subselect",
    "A_Expr": "name lexpr rexpr",
    "A_Indirection": "arg indirection",
    "CaseWhen": "expr result",
    "TypeCast": "arg typeName",
    "MultiAssignRef": "source",
    "JsonAggConstructor": "agg_filter agg_order over",
    "JsonArrayQueryConstructor": "query",
    "JoinExpr": "larg rarg usingClause join_using_alias quals alias",
    "RangeVar": "alias",
    "RangeSubselect": "subquery alias",
    "RangeFunction": "functions alias coldeflist",
    "RangeTableSample": "relation method args repeatable",
    "RangeTableFunc": "docexpr rowexpr namespaces columns alias",
    "RangeTableFuncCol": "typeName colexpr coldefexpr",
    "JsonTable": "context_item pathspec passing columns on_error alias",
    "JsonTableColumn": "typeName pathspec format columns on_empty on_error",
    "WithClause": "ctes",
    "CommonTableExpr": "aliascolnames ctequery search_clause cycle_clause",
    "CTESearchClause": "search_col_list",
    "CTECycleClause": "cycle_col_list cycle_mark_value cycle_mark_default",
    "CopyStmt": "relation query attlist options whereClause",
    "ExplainStmt": "query options",
    "PrepareStmt": "argtypes query",
    "ExecuteStmt": "params",
    "DeclareCursorStmt": "query",
    "CreateTableAsStmt": "query into",
    "CallStmt": "funccall",
}
BY_THE_SERVER_ONLY = {
    "CommonTableExpr": {"ctecolnames", "ctecoltypes", "ctecoltypmods", "ctecolcollations"},
    "CallStmt": {"funcexpr", "outargs"},
    "JsonAggConstructor": {"output"},
    "JsonArrayQueryConstructor": {"output", "format"},
}


@pytest.mark.parametrize("name", sorted(HANDLED))
def test_no_new_field_slips_by(name: str) -> None:
    """Fields of the nodes with a handler, as this code knows them: a newer grammar has to be looked at."""
    holding = {
        field for field, c_type in fields_of(name).items() if c_type.endswith("*") and c_type != "char*"
    }
    if not holding:
        pytest.fail(f"{name} tells nothing of its fields")
    assert holding - BY_THE_SERVER_ONLY.get(name, set()) == set(HANDLED[name].split())


def test_enumerations_are_known_whole() -> None:
    assert set(references._EXPRESSION_KINDS) == {kind.name for kind in enums.A_Expr_Kind}
    assert set(TRANSACTIONS) == {kind.name for kind in enums.TransactionStmtKind}
    assert set(DISCARDS) == {mode.name for mode in enums.DiscardMode}
    assert {kind.name for kind in enums.ObjectType} - set(KINDS_OF_OBJECT) == {"OBJECT_PARAMETER_ACL"}
    assert {kind.name for kind in enums.JoinType} > relations._JOIN_TYPES


def test_expressions_without_a_rule_are_none_that_the_parser_makes() -> None:
    known = set(PARTS) | set(CONSTANTS) | set(references._HANDLERS) | {"ColumnRef", "A_Const"}
    assert all(name == "List" or name in NODES for name in known)
    assert issubclass(Expressions, object)


def test_lists_do_not_contradict_each_other() -> None:
    assert not HARMLESS_CATALOG_RELATIONS & REVEALING_CATALOG_RELATIONS
    for name in words("""
        set_config nextval setval currval lastval pg_sleep pg_sleep_for pg_sleep_until query_to_xml
        table_to_xml schema_to_xml database_to_xml cursor_to_xml ts_stat ts_rewrite lo_import lo_export
        lo_get loread pg_read_file pg_read_binary_file pg_ls_dir pg_stat_file pg_notify
        pg_terminate_backend pg_cancel_backend pg_advisory_lock pg_try_advisory_lock pg_export_snapshot
        pg_stat_get_activity pg_prepared_statement pg_cursor pg_mcv_list_items pg_relation_filepath
        pg_logical_emit_message pg_switch_wal pg_reload_conf pg_create_restore_point
        pg_logical_slot_get_changes pg_hba_file_rules currtid2 pg_get_sequence_data pg_stat_reset
        pg_import_system_collations pg_nextoid pg_current_logfile brin_summarize_new_values
    """):
        assert name not in HARMLESS_FUNCTIONS
