"""The name that PostgreSQL gives to an output column without AS (FigureColname in parse_target.c)."""

from __future__ import annotations

from collections.abc import Mapping

from policy.sql.parse import Node

NAMELESS = "?column?"

_FIXED = {
    "GroupingFunc": "grouping",
    "MergeSupportFunc": "merge_action",
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "XmlSerialize": "xmlserialize",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
}
_BY_OPERATION = {
    "IS_XMLCONCAT": "xmlconcat",
    "IS_XMLELEMENT": "xmlelement",
    "IS_XMLFOREST": "xmlforest",
    "IS_XMLPARSE": "xmlparse",
    "IS_XMLPI": "xmlpi",
    "IS_XMLROOT": "xmlroot",
    "IS_XMLSERIALIZE": "xmlserialize",
    "IS_GREATEST": "greatest",
    "IS_LEAST": "least",
    "JSON_QUERY_OP": "json_query",
    "JSON_VALUE_OP": "json_value",
    "JSON_EXISTS_OP": "json_exists",
    "SVFOP_CURRENT_DATE": "current_date",
    "SVFOP_CURRENT_TIME": "current_time",
    "SVFOP_CURRENT_TIME_N": "current_time",
    "SVFOP_CURRENT_TIMESTAMP": "current_timestamp",
    "SVFOP_CURRENT_TIMESTAMP_N": "current_timestamp",
    "SVFOP_LOCALTIME": "localtime",
    "SVFOP_LOCALTIME_N": "localtime",
    "SVFOP_LOCALTIMESTAMP": "localtimestamp",
    "SVFOP_LOCALTIMESTAMP_N": "localtimestamp",
    "SVFOP_CURRENT_ROLE": "current_role",
    "SVFOP_CURRENT_USER": "current_user",
    "SVFOP_USER": "user",
    "SVFOP_SESSION_USER": "session_user",
    "SVFOP_CURRENT_CATALOG": "current_catalog",
    "SVFOP_CURRENT_SCHEMA": "current_schema",
}


def title(node: Node, of_subqueries: Mapping[int, str]) -> str:
    """The column name of the expression `node` (wrapped in its type).

    of_subqueries: the name of the first column of each scalar subquery, by the identity of its node.
    """
    return _figure(node, of_subqueries)[1] or NAMELESS


def _last_name(names: list[Node]) -> str:
    for name in reversed(names):
        if "String" in name:
            return str(name["String"].get("sval", ""))
    return ""


def _figure(node: Node, of_subqueries: Mapping[int, str]) -> tuple[int, str]:
    """(strength, name): 0 none, 1 weak (a type name or `case`), 2 strong."""
    for kind, body in node.items():
        if kind in _FIXED:
            return 2, _FIXED[kind]
        match kind:
            case "ColumnRef":
                found = _last_name(body["fields"])
                return (2, found) if found else (0, "")
            case "A_Indirection":
                found = _last_name(body["indirection"])
                return (2, found) if found else _figure(body["arg"], of_subqueries)
            case "FuncCall":
                return 2, _last_name(body["funcname"])
            case "A_Expr":
                return (2, "nullif") if body.get("kind") == "AEXPR_NULLIF" else (0, "")
            case "TypeCast":
                strength, name = _figure(body["arg"], of_subqueries)
                return (strength, name) if strength == 2 else (1, _last_name(body["typeName"]["names"]))
            case "CollateClause":
                return _figure(body["arg"], of_subqueries)
            case "SubLink":
                return _sublink(body, of_subqueries)
            case "CaseExpr":
                strength, name = _figure(body["defresult"], of_subqueries) if "defresult" in body else (0, "")
                return (strength, name) if strength == 2 else (1, "case")
            case "MinMaxExpr" | "XmlExpr" | "SQLValueFunction" | "JsonFuncExpr":
                found = _BY_OPERATION.get(body.get("op", ""), "")
                return (2, found) if found else (0, "")
            case _:
                return 0, ""
    return 0, ""


def _sublink(body: Node, of_subqueries: Mapping[int, str]) -> tuple[int, str]:
    match body.get("subLinkType"):
        case "EXISTS_SUBLINK":
            return 2, "exists"
        case "ARRAY_SUBLINK":
            return 2, "array"
        case "EXPR_SUBLINK":
            name = of_subqueries.get(id(body), "")
            return (2, name) if name else (0, "")
    return 0, ""
