"""Queries: SELECT, VALUES, set operations and common table expressions, and where each output column comes from."""

from __future__ import annotations

from collections.abc import Callable

from policy.facts import Output, Use
from policy.sql.column_titles import title
from policy.sql.parse import Node
from policy.sql.refusal import SqlRefused, unknown_construct
from policy.sql.relations import Relations
from policy.sql.scope import (
    CLEAN,
    UNKNOWN,
    Field,
    Item,
    Level,
    TableExpression,
    TableExpressions,
    Value,
    find_column,
    mixed,
)

# Recursive queries: the columns behind each output can only grow, so this is never reached by honest ones.
MAX_ROUNDS = 25
# The server's own limit (MaxTupleAttributeNumber).
MAX_OUTPUTS = 1664

_SET_OPERATIONS = frozenset({"SETOP_UNION", "SETOP_INTERSECT", "SETOP_EXCEPT"})
_CHANGES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})


class OpenFields(list[Field]):
    """Output columns of which not even the number is known."""


class Queries(Relations):
    """The walk over queries."""

    def change(self, kind: str, body: Node, outer: Level | None) -> list[Field]:
        """INSERT, UPDATE, DELETE or MERGE: the columns of RETURNING."""
        raise NotImplementedError

    def is_open_result(self, fields: list[Field]) -> bool:
        return isinstance(fields, OpenFields)

    def subquery(self, node: Node, level: Level | None) -> list[Field]:
        self.deeper()
        fields = self._query(node, level)
        self.depth -= 1
        return fields

    def _query(self, node: Node, level: Level | None) -> list[Field]:
        for kind, body in node.items():
            if kind == "SelectStmt":
                return self.select(body, level)
            if kind in _CHANGES:
                return self.change(kind, body, level)
            raise unknown_construct(f"{kind} as a query")
        return []

    # -- SELECT

    def select(self, body: Node, outer: Level | None) -> list[Field]:
        """One SELECT, VALUES or set operation; the result is what leaves it, not reported as used."""
        expressions = outer.expressions if outer is not None else None
        if "withClause" in body:
            expressions = self.with_clause(body["withClause"], outer, expressions)
        if body.get("op", "SETOP_NONE") != "SETOP_NONE":
            return self._set_operation(body, outer, expressions)
        level = Level(outer, expressions)
        if "valuesLists" in body:
            fields = self._values(body["valuesLists"], level)
        else:
            fields = self._plain_select(body, level)
        self._sort_and_limit(body, level, fields)
        return fields

    def _plain_select(self, body: Node, level: Level) -> list[Field]:
        self.collected.command("select")
        if "fromClause" in body:
            self.from_list(body["fromClause"], level)
        if "windowClause" in body:
            self._windows(body["windowClause"], level)
        fields = self.targets(body.get("targetList", []), level)
        if "whereClause" in body:
            self.operand(body["whereClause"], level, Use.FILTER)
        for node in body.get("groupClause", ()):
            self._group(node, level, fields)
        if "havingClause" in body:
            self.operand(body["havingClause"], level, Use.FILTER)
        if "distinctClause" in body:
            self._distinct(body["distinctClause"], level, fields)
        if "lockingClause" in body:
            self._lock(body["lockingClause"], level)
        return fields

    def targets(self, nodes: list[Node], level: Level) -> list[Field]:
        """A target list, stars expanded."""
        fields: list[Field] = []
        is_open = False
        for node in nodes:
            target = node["ResTarget"]
            expression = target["val"]
            starred = self._starred(expression, level)
            if starred is not None:
                fields.extend(starred)
                is_open = is_open or isinstance(starred, OpenFields)
                continue
            value = self.value(expression, level, Use.EXPRESSION)
            fields.append(Field(target.get("name") or title(expression, self.subquery_titles), value))
        if len(fields) > MAX_OUTPUTS:
            raise SqlRefused(
                f"target lists can have at most {MAX_OUTPUTS} entries", "54011", is_servers_answer=True
            )
        return OpenFields(fields) if is_open else fields

    def _starred(self, node: Node, level: Level) -> list[Field] | None:
        """The columns of `*`, `t.*` or `(t).*`; None when the target is no such thing."""
        if "ColumnRef" in node:
            fields = node["ColumnRef"]["fields"]
            if "A_Star" not in fields[-1]:
                return None
            if len(fields) == 1:
                return _all_columns(level.by_column)
            item = self.row_item(node["ColumnRef"], level)
            if item is not None:
                return _all_columns([item])
        elif "A_Indirection" in node and "A_Star" in node["A_Indirection"]["indirection"][-1]:
            inner = node["A_Indirection"]
            if "ColumnRef" in inner["arg"] and len(inner["indirection"]) == 1:
                item = self.row_item(inner["arg"]["ColumnRef"], level)
                if item is not None:
                    return _all_columns([item])
        else:
            return None
        value = self.operand(node, level, Use.EXPRESSION)
        self.collected.doubt("the columns of a composite value are not known")
        return OpenFields([Field("*", mixed([value], known=False))])

    def _values(self, lists: list[Node], level: Level) -> list[Field]:
        rows = [row["List"].get("items", []) for row in lists]
        width = max(len(row) for row in rows)
        columns: list[list[Value]] = [[] for _ in range(width)]
        for row in rows:
            for index, node in enumerate(row):
                if "A_Const" in node:
                    self._constant(node["A_Const"])
                else:
                    columns[index].append(self.operand(node, level, Use.EXPRESSION))
        return [Field(f"column{index + 1}", mixed(values)) for index, values in enumerate(columns)]

    def _set_operation(
        self, body: Node, outer: Level | None, expressions: TableExpressions | None
    ) -> list[Field]:
        """A set operation; a chain of them leans to the left and is walked without recursion."""
        reach = Level(outer, expressions)
        rights: list[Node] = []
        drops_duplicates = False
        node = body
        while True:
            if node.get("op") not in _SET_OPERATIONS:
                raise unknown_construct(f"the set operation {node.get('op')}")
            drops_duplicates = drops_duplicates or not node.get("all") or node["op"] != "SETOP_UNION"
            rights.append(node["rarg"])
            left = node["larg"]
            if left.get("op", "SETOP_NONE") == "SETOP_NONE" or left.keys() & _CLAUSES_OF_A_WHOLE:
                break
            node = left
        branches = [self.select(left, reach)]
        branches.extend(self.select(right, reach) for right in reversed(rights))
        fields = _union(branches)
        if drops_duplicates:
            for entry in fields:
                self.consume(entry.value, Use.GROUP)
        level = Level(outer, expressions)
        self._sort_and_limit(body, level, fields)
        return fields

    # -- clauses

    def _windows(self, nodes: list[Node], level: Level) -> None:
        for node in nodes:
            window = node["WindowDef"]
            level.windows[window["name"]] = self.window({**window, "name": ""}, level)

    def _group(self, node: Node, level: Level, fields: list[Field]) -> None:
        if "GroupingSet" in node:
            for part in node["GroupingSet"].get("content", ()):
                self._group(part, level, fields)
            return
        if "RowExpr" in node and node["RowExpr"].get("row_format") != "COERCE_EXPLICIT_CALL":
            for part in node["RowExpr"].get("args", ()):
                self._group(part, level, fields)
            return
        self._key(node, level, fields, Use.GROUP)

    def _distinct(self, nodes: list[Node], level: Level, fields: list[Field]) -> None:
        expressions = [node for node in nodes if node]
        for node in expressions:
            self._key(node, level, fields, Use.GROUP)
        if not expressions:
            for entry in fields:
                self.consume(entry.value, Use.GROUP)

    def _sort_and_limit(self, body: Node, level: Level, fields: list[Field]) -> None:
        for node in body.get("sortClause", ()):
            sort = node["SortBy"]
            self.sort_operator(sort)
            self._key(sort["node"], level, fields, Use.ORDER)
        self.counts_integers, counts = False, self.counts_integers
        for clause in ("limitCount", "limitOffset"):
            if clause in body:
                self.operand(body[clause], level, Use.FILTER)
        self.counts_integers = counts

    def _key(self, node: Node, level: Level, fields: list[Field], use: Use) -> None:
        """A sort or group key: a position or name of an output column, or an expression."""
        constant = node.get("A_Const")
        if constant is not None:
            position = constant.get("ival", {}).get("ival", 0) if "ival" in constant else 0
            if isinstance(fields, OpenFields):
                for entry in fields:
                    self.consume(entry.value, use)
            elif 0 < position <= len(fields):
                self.consume(fields[position - 1].value, use)
            return
        name = _bare_name(node)
        if name is not None:
            self._named_key(name, node, level, fields, use)
            return
        self.key(node, level, use)

    def _named_key(self, name: str, node: Node, level: Level, fields: list[Field], use: Use) -> None:
        """ORDER BY and DISTINCT ON prefer an output column of that name, GROUP BY a column of FROM.

        Where both exist both are reported: for GROUP BY the server asks only for columns of this level.
        """
        titled = [entry for entry in fields if entry.name == name]
        for entry in titled:
            self.consume(entry.value, use)
        here = Level(None, None, level.by_column, level.by_name)
        if not titled or (use is Use.GROUP and find_column(here, name).value is not None):
            self.key(node, level, use)

    def _lock(self, nodes: list[Node], level: Level) -> None:
        self.collected.command("lock")
        for node in nodes:
            names = [
                ref["RangeVar"].get("relname", "") for ref in node["LockingClause"].get("lockedRels", ())
            ]
            for item in level.by_name:
                if not names or item.name in names:
                    for access in item.accesses:
                        self.collected.access_named("lock", access.schema, access.name)

    # -- WITH

    def with_clause(
        self, body: Node, outer: Level | None, parent: TableExpressions | None
    ) -> TableExpressions:
        """Analyse every common table expression; the result is the scope in which they are known."""
        scope = TableExpressions(parent)
        nodes = [node["CommonTableExpr"] for node in body.get("ctes", ())]
        if body.get("recursive"):
            return self._recursive_with(nodes, outer, scope)
        for node in nodes:
            fields = self._expression_fields(node, self.subquery(node["ctequery"], Level(outer, scope)))
            # Those before it are known to it, itself and those after it are not.
            scope = TableExpressions(scope)
            scope.names[node["ctename"]] = TableExpression(node["ctename"], _constantly(fields))
        return scope

    def _recursive_with(
        self, nodes: list[Node], outer: Level | None, scope: TableExpressions
    ) -> TableExpressions:
        """WITH RECURSIVE: each may refer to itself and, in any order, to the others: rounds until nothing grows."""
        known: dict[str, list[Field]] = {}

        def asked(name: str) -> Callable[[], tuple[list[Field], bool]]:
            def answer() -> tuple[list[Field], bool]:
                fields = known.get(name)
                return ([], True) if fields is None else (fields, isinstance(fields, OpenFields))

            return answer

        for node in nodes:
            scope.names[node["ctename"]] = TableExpression(node["ctename"], asked(node["ctename"]))
        for node in nodes:
            first = self._first_branch(node, outer, scope)
            if first is not None:
                known[node["ctename"]] = first
        doubts = dict(self.collected.unresolved)
        for _ in range(MAX_ROUNDS):
            before = {name: _signature(fields) for name, fields in known.items()}
            # A round that knew too little may have doubted what a later one knows.
            self.collected.unresolved = dict(doubts)
            for node in nodes:
                name = node["ctename"]
                found = self._expression_fields(node, self.subquery(node["ctequery"], Level(outer, scope)))
                known[name] = _widened(known.get(name), found)
            if before == {name: _signature(fields) for name, fields in known.items()}:
                return scope
        self.collected.doubt("a recursive query does not settle")
        for name, fields in known.items():
            known[name] = OpenFields([Field(entry.name, UNKNOWN) for entry in fields])
        return scope

    def _first_branch(self, node: Node, outer: Level | None, scope: TableExpressions) -> list[Field] | None:
        """The columns of the part of a recursive query that does not refer to itself."""
        query = node["ctequery"].get("SelectStmt")
        if query is None or query.get("op") != "SETOP_UNION":
            return None
        before = dict(self.collected.unresolved)
        reach = scope
        if "withClause" in query:
            reach = self.with_clause(query["withClause"], outer, scope)
        fields = self.select(query["larg"], Level(outer, reach))
        self.collected.unresolved = before
        if isinstance(fields, OpenFields):
            return None
        return self._expression_fields(node, [Field(f.name, mixed([f.value])) for f in fields])

    def _expression_fields(self, node: Node, fields: list[Field]) -> list[Field]:
        names = [name["String"].get("sval", "") for name in node.get("aliascolnames", ())]
        renamed = [
            Field(names[index] if index < len(names) else entry.name, entry.value)
            for index, entry in enumerate(fields)
        ]
        by_name = {entry.name: entry.value for entry in renamed}
        extra: list[Field] = []
        if "search_clause" in node:
            clause = node["search_clause"]
            value = self._listed(clause.get("search_col_list", []), by_name, Use.ORDER)
            extra.append(Field(clause["search_seq_column"], value))
        if "cycle_clause" in node:
            clause = node["cycle_clause"]
            value = self._listed(clause.get("cycle_col_list", []), by_name, Use.GROUP)
            extra.append(Field(clause["cycle_mark_column"], value))
            extra.append(Field(clause["cycle_path_column"], value))
        have = {entry.name for entry in renamed}
        renamed.extend(entry for entry in extra if entry.name not in have)
        return OpenFields(renamed) if isinstance(fields, OpenFields) else renamed

    def _listed(self, names: list[Node], by_name: dict[str, Value], use: Use) -> Value:
        values = [by_name.get(name["String"]["sval"], UNKNOWN) for name in names]
        for value in values:
            self.consume(value, use)
        return mixed(values)

    # -- what leaves

    def leaves(self, fields: list[Field], use: Use = Use.OUTPUT) -> tuple[Output, ...]:
        """Report the columns of a result as used, and give them as facts."""
        outputs = []
        for entry in fields:
            self.consume(entry.value, use)
            outputs.append(output(entry))
        if isinstance(fields, OpenFields):
            self.collected.doubt("not every output column is known")
            outputs.append(Output("*", known=False))
        return tuple(outputs)


_CLAUSES_OF_A_WHOLE = frozenset({"sortClause", "limitCount", "limitOffset", "withClause", "lockingClause"})


def output(entry: Field) -> Output:
    """The fact of one output column."""
    value = entry.value
    names = {name for column in value.derived for name in (*column.names, *column.derived)}
    known = value.is_known and all(column.known for column in value.derived)
    column = value.column
    if column is None:
        if not names and known:
            return Output(entry.name)
        return Output(entry.name, None, (), tuple(sorted(names)), known)
    also = list(column.also)
    names.update(column.derived)
    for other in value.others:
        also.extend(other.names)
        names.update(other.derived)
        known = known and other.known
    return Output(entry.name, column.name, tuple(dict.fromkeys(also)), tuple(sorted(names)), known)


def _all_columns(items: list[Item]) -> list[Field]:
    fields = [entry for item in items for entry in item.read_all()]
    return OpenFields(fields) if any(item.is_open for item in items) else fields


def _union(branches: list[list[Field]]) -> list[Field]:
    """The columns of a set operation: each position is made of that position of every branch."""
    is_open = any(isinstance(branch, OpenFields) for branch in branches)
    width = len(branches[0])
    if is_open or any(len(branch) != width for branch in branches):
        everything = mixed([entry.value for branch in branches for entry in branch], known=False)
        return OpenFields([Field(entry.name, everything) for entry in branches[0]])
    return [
        Field(entry.name, mixed([branch[index].value for branch in branches]))
        for index, entry in enumerate(branches[0])
    ]


def _bare_name(node: Node) -> str | None:
    fields = node.get("ColumnRef", {}).get("fields", ())
    if len(fields) == 1 and "String" in fields[0]:
        return str(fields[0]["String"].get("sval", ""))
    return None


def _constantly(fields: list[Field]) -> Callable[[], tuple[list[Field], bool]]:
    return lambda: (fields, isinstance(fields, OpenFields))


def _signature(fields: list[Field]) -> tuple[object, ...]:
    return (
        isinstance(fields, OpenFields),
        *((entry.name, entry.value.all_columns(), entry.value.is_known) for entry in fields),
    )


def _widened(before: list[Field] | None, found: list[Field]) -> list[Field]:
    """What a common table expression is known to hold, after another round."""
    if before is None or len(before) != len(found):
        return found
    fields = [
        entry
        if old.value.all_columns() <= entry.value.all_columns()
        else Field(entry.name, mixed([old.value, entry.value]))
        for old, entry in zip(before, found, strict=True)
    ]
    return OpenFields(fields) if isinstance(found, OpenFields) else fields


__all__ = ["CLEAN", "OpenFields", "Queries", "output"]
