"""Expressions: which columns, functions and operators they use, and what their values are made of.

`Expressions` walks one expression tree; every node type has an entry in a table and one without is refused.
Subqueries inside expressions are left to `policy.sql.lineage`, which extends this class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policy.facts import Use
from policy.sql.calls import Calls
from policy.sql.collected import Collected
from policy.sql.parse import Node, nested_too_deeply
from policy.sql.refusal import unknown_construct
from policy.sql.scope import (
    CLEAN,
    UNKNOWN,
    Field,
    Item,
    Level,
    Value,
    find_column,
    find_item,
    in_order,
    mixed,
)
from policy.sql.snapshot import Catalog
from policy.sql.state import SessionState

MAX_DEPTH = 150
MAX_STEPS = 400_000

# Parts of an expression node that are expressions themselves: (field, how it is held). "node": wrapped in its
# type; "nodes": a list of those; otherwise the field holds the fields of a node of that type.
PARTS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "BoolExpr": (("args", "nodes"),),
    "CoalesceExpr": (("args", "nodes"),),
    "MinMaxExpr": (("args", "nodes"),),
    "NullTest": (("arg", "node"),),
    "BooleanTest": (("arg", "node"),),
    "CollateClause": (("arg", "node"),),
    "RowExpr": (("args", "nodes"),),
    "A_ArrayExpr": (("elements", "nodes"),),
    "NamedArgExpr": (("arg", "node"),),
    "GroupingFunc": (("args", "nodes"),),
    "List": (("items", "nodes"),),
    "ResTarget": (("val", "node"),),
    "CaseExpr": (("arg", "node"), ("args", "nodes"), ("defresult", "node")),
    "A_Indices": (("lidx", "node"), ("uidx", "node")),
    "XmlExpr": (("named_args", "nodes"), ("args", "nodes")),
    "XmlSerialize": (("expr", "node"),),
    "JsonValueExpr": (("raw_expr", "node"), ("formatted_expr", "node")),
    "JsonArgument": (("val", "JsonValueExpr"),),
    "JsonBehavior": (("expr", "node"),),
    "JsonKeyValue": (("key", "node"), ("value", "JsonValueExpr")),
    "JsonFuncExpr": (
        ("context_item", "JsonValueExpr"),
        ("pathspec", "node"),
        ("passing", "nodes"),
        ("on_empty", "JsonBehavior"),
        ("on_error", "JsonBehavior"),
    ),
    "JsonObjectConstructor": (("exprs", "nodes"),),
    "JsonArrayConstructor": (("exprs", "nodes"),),
    "JsonObjectAgg": (("constructor", "JsonAggConstructor"), ("arg", "JsonKeyValue")),
    "JsonArrayAgg": (("constructor", "JsonAggConstructor"), ("arg", "JsonValueExpr")),
    "JsonIsPredicate": (("expr", "node"),),
    "JsonParseExpr": (("expr", "JsonValueExpr"),),
    "JsonScalarExpr": (("expr", "node"),),
    "JsonSerializeExpr": (("expr", "JsonValueExpr"),),
}

# Values in which nothing of a table can be.
CONSTANTS: Final = frozenset({"ParamRef", "SQLValueFunction", "SetToDefault", "MergeSupportFunc"})

_EXPRESSION_KINDS: Final = {
    "AEXPR_OP": None,
    "AEXPR_OP_ANY": None,
    "AEXPR_OP_ALL": None,
    "AEXPR_DISTINCT": ("=",),
    "AEXPR_NOT_DISTINCT": ("=",),
    "AEXPR_NULLIF": ("=",),
    "AEXPR_IN": None,
    "AEXPR_LIKE": None,
    "AEXPR_ILIKE": None,
    "AEXPR_SIMILAR": None,
    "AEXPR_BETWEEN": (">=", "<="),
    "AEXPR_NOT_BETWEEN": ("<", ">"),
    "AEXPR_BETWEEN_SYM": (">=", "<="),
    "AEXPR_NOT_BETWEEN_SYM": ("<", ">"),
}

_TESTING_SUBLINKS: Final = frozenset({"ALL_SUBLINK", "ANY_SUBLINK"})
_VALUE_SUBLINKS: Final = frozenset({"EXPR_SUBLINK", "ARRAY_SUBLINK"})


class Expressions(Calls):
    """The walk over expressions. One instance serves one statement.

    `safe_integers` gathers the byte offsets of plain integer constants that stand where their value cannot
    change the facts.
    """

    def __init__(self, catalog: Catalog, state: SessionState) -> None:
        super().__init__(catalog, state, Collected())
        self.depth = 0
        self.steps = 0
        self.safe_integers: set[int] = set()
        self.counts_integers = True
        self.subquery_titles: dict[int, str] = {}

    def subquery(self, node: Node, level: Level | None) -> list[Field]:
        """The output columns of the query `node` (wrapped). Its own facts are collected."""
        raise NotImplementedError

    def is_open_result(self, fields: list[Field]) -> bool:
        raise NotImplementedError

    # -- entry points

    def value(self, node: Node, level: Level, use: Use) -> Value:
        """What the expression is made of. Its parts are reported with `use`; a bare column is not: see operand."""
        self.deeper()
        result = CLEAN
        for kind, body in node.items():
            if kind == "ColumnRef":
                result = self.column_reference(body, level)
            elif kind == "A_Const":
                self._constant(body)
            elif kind in PARTS:
                result = self._parts(kind, body, level, use)
            elif kind not in CONSTANTS:
                handler = _HANDLERS.get(kind)
                if handler is None:
                    raise unknown_construct(f"the expression {kind}")
                result = handler(self, body, level, use)
        self.depth -= 1
        return result

    def operand(self, node: Node, level: Level, use: Use) -> Value:
        """As `value`, and a bare column is reported as used this way."""
        result = self.value(node, level, use)
        self.consume(result, use)
        return result

    def operands(self, nodes: list[Node], level: Level, use: Use) -> Value:
        return mixed([self.operand(node, level, use) for node in nodes])

    def consume(self, value: Value, use: Use) -> None:
        """Report `value` as used; a computed value that leaves is an expression over its columns."""
        collected = self.collected
        if value.column is not None:
            collected.use(value.column, use)
            for other in value.others:
                collected.use(other, use)
        if value.derived:
            computed = Use.EXPRESSION if use is Use.OUTPUT else use
            for column in in_order(value.derived):
                collected.use(column, computed)

    def deeper(self) -> None:
        """Count one step down; bounds both the depth and, for queries walked several times, the whole work."""
        self.depth += 1
        self.steps += 1
        if self.depth > MAX_DEPTH or self.steps > MAX_STEPS:
            raise nested_too_deeply()

    # -- columns

    def column_reference(self, body: Node, level: Level) -> Value:
        fields = body["fields"]
        if "A_Star" in fields[-1]:
            return self._star_as_row([field["String"]["sval"] for field in fields[:-1]], level)
        names = [field["String"].get("sval", "") for field in fields]
        if len(names) == 1:
            return self._bare_column(names[0], level)
        item = self._qualified_item(names[:-1], level)
        if item is None:
            return self._composite_path(names, level)
        return self._field_of(item, names[-1])

    def _bare_column(self, name: str, level: Level) -> Value:
        found = find_column(level, name)
        if found.value is not None:
            if found.problem:
                self.collected.doubt(found.problem)
            return found.value
        item = find_item(level, name)
        if item is not None:
            return self.whole_row(item)
        self.collected.doubt(f'column "{name}" does not exist')
        return UNKNOWN

    def _qualified_item(self, names: list[str], level: Level) -> Item | None:
        match names:
            case [name]:
                return find_item(level, name)
            case [schema, name]:
                return find_item(level, name, schema)
            case [database, schema, name] if database == self.catalog.database:
                return find_item(level, name, schema)
            case _:
                return None

    def _field_of(self, item: Item, name: str) -> Value:
        found = item.find(name)
        if len(found) == 1:
            return found[0].read()
        if len(found) > 1:
            self.collected.doubt(f'column reference "{name}" is ambiguous')
            return mixed([entry.read() for entry in found], known=False)
        if item.is_open:
            self.collected.doubt(f'column "{name}" is of a relation with unknown columns')
            for access in item.accesses:
                access.read(name)
            return mixed([entry.value for entry in item.fields], known=False)
        return self.functional_notation(name, self.whole_row(item))

    def _composite_path(self, names: list[str], level: Level) -> Value:
        """column.field or table.column.field without parentheses: an error on the server, but looked at."""
        found = find_column(level, names[0])
        self.collected.doubt(f'"{".".join(names)}" is not a column of a relation in the statement')
        if found.value is not None:
            self.consume(found.value, Use.EXPRESSION)
            return mixed([found.value], known=False)
        return UNKNOWN

    def _star_as_row(self, names: list[str], level: Level) -> Value:
        """t.* where a single value is meant: an argument, a part of a row."""
        if not names:
            return mixed([self.whole_row(item) for item in level.by_column])
        item = self._qualified_item(names, level)
        if item is None:
            self.collected.doubt(f'relation "{".".join(names)}" is not in the statement')
            return UNKNOWN
        return self.whole_row(item)

    def whole_row(self, item: Item) -> Value:
        """A row as one value: every column of it is used so."""
        row = item.whole_row()
        for column in in_order(row.derived):
            self.collected.use(column, Use.ROW)
        if not row.known:
            self.collected.doubt(f'not every column of "{item.name}" is known')
        return row

    def functional_notation(self, name: str, value: Value) -> Value:
        """(x).name or t.name where name is not a column: a call of the function `name`, if there is one."""
        if not self.catalog.functions(name):
            self.collected.doubt(f'column "{name}" does not exist')
            return mixed([value], known=False)
        self.consume(value, Use.EXPRESSION)
        return mixed([value], known=self.call([name]))

    # -- nodes

    def _constant(self, body: Node) -> None:
        if self.counts_integers and "ival" in body:
            self.safe_integers.add(body.get("location", 0))

    def _parts(self, kind: str, body: Node, level: Level, use: Use) -> Value:
        values: list[Value] = []
        for name, how in PARTS[kind]:
            part = body.get(name)
            if part is None:
                continue
            if how == "nodes":
                values.extend(self.operand(node, level, use) for node in part)
            elif how == "node":
                values.append(self.operand(part, level, use))
            else:
                values.append(self.operand({how: part}, level, use))
        if kind == "GroupingFunc":
            return CLEAN
        return mixed(values)

    def _operator(self, body: Node, level: Level, use: Use) -> Value:
        kind = body.get("kind", "")
        if kind not in _EXPRESSION_KINDS:
            raise unknown_construct(f"the expression kind {kind}")
        implied = _EXPRESSION_KINDS[kind]
        if implied is None:
            self.operator([name["String"]["sval"] for name in body["name"]])
        else:
            for name in implied:
                self.operator([name])
        values = []
        # A long chain a || b || c leans to the left: it is walked without recursion.
        while "lexpr" in body:
            if "rexpr" in body:
                values.append(self.operand(body["rexpr"], level, use))
            left = body["lexpr"]
            if "A_Expr" not in left or left["A_Expr"].get("kind") != "AEXPR_OP":
                values.append(self.operand(left, level, use))
                return mixed(values)
            body = left["A_Expr"]
            self.operator([name["String"]["sval"] for name in body["name"]])
        if "rexpr" in body:
            values.append(self.operand(body["rexpr"], level, use))
        return mixed(values)

    def _case_when(self, body: Node, level: Level, use: Use) -> Value:
        condition = self.operand(body["expr"], level, Use.FILTER)
        return mixed((condition, self.operand(body["result"], level, use)))

    def _indirection(self, body: Node, level: Level, use: Use) -> Value:
        steps = body["indirection"]
        argument = body["arg"]
        value, steps = self._first_step(argument, steps, level, use)
        values = [value]
        for step in steps:
            for kind, part in step.items():
                match kind:
                    case "A_Indices":
                        values.append(self._parts(kind, part, level, use))
                    case "String":
                        self._field_step(part.get("sval", ""))
                    case "A_Star":
                        pass
                    case _:
                        raise unknown_construct(f"the indirection {kind}")
        if not steps:
            return value
        if value.column is not None:
            self.consume(value, use)
        return mixed(values)

    def _first_step(
        self, argument: Node, steps: list[Node], level: Level, use: Use
    ) -> tuple[Value, list[Node]]:
        """(t).column is the column itself where t is a relation."""
        if "ColumnRef" in argument and "String" in steps[0]:
            item = self.row_item(argument["ColumnRef"], level)
            if item is not None:
                return self._field_of(item, steps[0]["String"].get("sval", "")), steps[1:]
        return self.operand(argument, level, use), steps

    def row_item(self, body: Node, level: Level) -> Item | None:
        """The FROM item that a column reference means as a whole row, None when it means something else."""
        fields = body["fields"]
        if "A_Star" in fields[-1]:
            names = [field["String"]["sval"] for field in fields[:-1]]
            return self._qualified_item(names, level) if names else None
        names = [field["String"].get("sval", "") for field in fields]
        if len(names) == 1:
            if find_column(level, names[0]).value is not None:
                return None
            return find_item(level, names[0])
        return (
            self._qualified_item(names, level) if len(names) == 2 and self._is_table(names, level) else None
        )

    def _is_table(self, names: list[str], level: Level) -> bool:
        return find_item(level, names[0]) is None

    def _field_step(self, name: str) -> None:
        """A field of a composite value; the server would also call a function of that name."""
        if self.catalog.functions(name):
            self.call([name])

    def _cast(self, body: Node, level: Level, use: Use) -> Value:
        type_name = body["typeName"]
        self.counts_integers, counts = (
            self.counts_integers and not type_name.get("typmods"),
            self.counts_integers,
        )
        value = self.value(body["arg"], level, use)
        self.counts_integers = counts
        target = self.resolve_type(type_name)
        if target and target == value.type_oid and not value.others and value.has_no_modifier:
            return value
        self.consume(value, use)
        self.cast(type_name)
        return mixed((value,))

    def _call(self, body: Node, level: Level, use: Use) -> Value:
        names = [name["String"].get("sval", "") for name in body["funcname"]]
        arguments = body.get("args", [])
        column = self._column_notation(names, body, arguments, level)
        if column is not None:
            return column
        known = self.call(names, arguments)
        values = [self.operand(argument, level, use) for argument in arguments]
        values.extend(self.returned_rows(names))
        values.extend(self.sort_values(body.get("agg_order", ()), level, Use.ORDER))
        if "agg_filter" in body:
            values.append(self.operand(body["agg_filter"], level, Use.FILTER))
        if "over" in body:
            values.append(self.window(body["over"], level))
        return mixed(values, known=known)

    def returned_rows(self, names: list[str]) -> list[Value]:
        """A function that returns rows of a relation may well give rows that are in it."""
        relations = [
            relation
            for row in self.catalog.functions(names[-1])
            if row.relation_oid and (len(names) == 1 or row.schema == names[-2])
            if (relation := self.catalog.relation_by_oid(row.relation_oid)) is not None and relation.has_rows
        ]
        return [Value(derived=frozenset(relation.columns)) for relation in relations]

    def _column_notation(
        self, names: list[str], body: Node, arguments: list[Node], level: Level
    ) -> Value | None:
        """email(t) is t.email when t has such a column and there is no function of that name."""
        if len(names) != 1 or len(arguments) != 1 or "ColumnRef" not in arguments[0]:
            return None
        if body.keys() & {"agg_order", "agg_filter", "over", "agg_distinct", "func_variadic"}:
            return None
        item = self.row_item(arguments[0]["ColumnRef"], level)
        if item is None or not item.find(names[0]) or self.catalog.functions(names[0]):
            return None
        return self._field_of(item, names[0])

    def sort_values(self, clauses: list[Node], level: Level, use: Use) -> list[Value]:
        """The expressions of an ORDER BY inside an aggregate or window."""
        values = []
        for clause in clauses:
            sort = clause["SortBy"]
            self.sort_operator(sort)
            values.append(self.key(sort["node"], level, use))
        return values

    def sort_operator(self, sort: Node) -> None:
        if "useOp" in sort:
            self.operator([name["String"]["sval"] for name in sort["useOp"]])

    def key(self, node: Node, level: Level, use: Use) -> Value:
        """An expression that sorts or groups: the parts of a computed one are reported as EXPRESSION too."""
        value = self.value(node, level, Use.EXPRESSION)
        self.consume(value, use)
        return value

    def window(self, body: Node, level: Level) -> Value:
        """A window definition or a reference to a named one; its value is what rows are told apart by."""
        values = []
        for reference in (body.get("refname"), body.get("name")):
            if reference is not None and reference in level.windows:
                values.append(level.windows[reference])
        values.extend(self.key(node, level, Use.GROUP) for node in body.get("partitionClause", ()))
        values.extend(self.sort_values(body.get("orderClause", ()), level, Use.ORDER))
        for bound in ("startOffset", "endOffset"):
            if bound in body:
                values.append(self.operand(body[bound], level, Use.FILTER))
        return mixed(values)

    def _sublink(self, body: Node, level: Level, use: Use) -> Value:
        kind = body.get("subLinkType", "")
        fields = self.subquery(body["subselect"], level)
        if fields:
            self.subquery_titles[id(body)] = fields[0].name
        if kind == "EXISTS_SUBLINK":
            return CLEAN
        if kind in _VALUE_SUBLINKS:
            return self._consumed(fields, use)
        if kind not in _TESTING_SUBLINKS:
            raise unknown_construct(f"the subquery kind {kind}")
        self.operator([name["String"]["sval"] for name in body.get("operName", ())] or ["="])
        tested = self.operand(body["testexpr"], level, use)
        return mixed((tested, self._consumed(fields, use)))

    def _consumed(self, fields: list[Field], use: Use) -> Value:
        for entry in fields:
            self.consume(entry.value, use)
        return mixed([entry.value for entry in fields], known=not self.is_open_result(fields))

    def _array_query(self, body: Node, level: Level, use: Use) -> Value:
        return self._consumed(self.subquery(body["query"], level), use)

    def _aggregate_constructor(self, body: Node, level: Level, use: Use) -> Value:
        values = self.sort_values(body.get("agg_order", ()), level, Use.ORDER)
        if "agg_filter" in body:
            values.append(self.operand(body["agg_filter"], level, Use.FILTER))
        if "over" in body:
            values.append(self.window(body["over"], level))
        return mixed(values)

    def _multiple_assignment(self, body: Node, level: Level, use: Use) -> Value:
        """One column of SET (a, b) = (...)."""
        source = body["source"]
        number: int = body.get("colno", 1) - 1
        if "RowExpr" in source:
            parts = source["RowExpr"].get("args", [])
            if len(parts) == body.get("ncolumns") and number < len(parts):
                return self.value(parts[number], level, use)
        elif "SubLink" in source and source["SubLink"].get("subLinkType") == "EXPR_SUBLINK":
            fields = self.subquery(source["SubLink"]["subselect"], level)
            if len(fields) == body.get("ncolumns") and not self.is_open_result(fields):
                return fields[number].value
        return self.operand(source, level, use)

    def _current_of(self, body: Node, level: Level, use: Use) -> Value:
        name = body.get("cursor_name", "")
        if name not in self.state.cursors:
            self.collected.doubt(f'cursor "{name}" is not known')
        return CLEAN


_Handler = Callable[[Expressions, Node, Level, Use], Value]

_HANDLERS: Final[dict[str, _Handler]] = {
    "A_Expr": Expressions._operator,
    "A_Indirection": Expressions._indirection,
    "CaseWhen": Expressions._case_when,
    "CurrentOfExpr": Expressions._current_of,
    "FuncCall": Expressions._call,
    "JsonAggConstructor": Expressions._aggregate_constructor,
    "JsonArrayQueryConstructor": Expressions._array_query,
    "MultiAssignRef": Expressions._multiple_assignment,
    "SubLink": Expressions._sublink,
    "TypeCast": Expressions._cast,
}
