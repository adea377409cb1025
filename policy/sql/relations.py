"""FROM lists: from names, subqueries, functions and joins to items whose columns are known.

Relations are resolved as the server would; where the server's choice is not certain (an unknown search path, a
temporary relation that may have been rolled back, a schema that the login may not use) every candidate is meant.
"""

from __future__ import annotations

import msgspec

from policy.facts import ColumnName, Use
from policy.sql.calls import SYSTEM_SCHEMA, TEMPORARY_SCHEMA
from policy.sql.collected import Access
from policy.sql.column_titles import title
from policy.sql.parse import Node
from policy.sql.references import Expressions
from policy.sql.refusal import unknown_construct
from policy.sql.scope import CLEAN, Field, Item, Level, Value, mixed
from policy.sql.snapshot import Column, Relation

_ARRAYS_OF_TEXT = frozenset(
    {"string_to_array", "regexp_split_to_array", "regexp_match", "current_schemas", "parse_ident"}
)
_JOIN_TYPES = frozenset({"JOIN_INNER", "JOIN_LEFT", "JOIN_RIGHT", "JOIN_FULL"})


class Relations(Expressions):
    """The walk over FROM."""

    def from_list(self, nodes: list[Node], level: Level) -> None:
        """Add every item of a FROM list to `level`; later ones see earlier ones only when LATERAL."""
        for node in nodes:
            visible = self.from_item(node, level, level.by_name, level.by_column)
            level.by_column.extend(visible.by_column)
            level.by_name.extend(visible.by_name)

    def from_item(self, node: Node, level: Level, left_names: list[Item], left_columns: list[Item]) -> Level:
        """One FROM item as a level of its own; `left_*`: what a LATERAL item may refer to."""
        ((kind, body),) = node.items()
        match kind:
            case "RangeVar":
                item = self.range_variable(body, level)
            case "JoinExpr":
                return self._join(body, level, left_names, left_columns)
            case "RangeSubselect":
                lateral = self._lateral(level, left_names, left_columns)
                outer = lateral if body.get("lateral") else level.parent
                item = self._subselect(body, outer, level)
            case "RangeFunction":
                item = self._functions(body, self._lateral(level, left_names, left_columns))
            case "RangeTableSample":
                return self._sample(body, level, left_names, left_columns)
            case "RangeTableFunc":
                item = self._xml_table(body, self._lateral(level, left_names, left_columns))
            case "JsonTable":
                item = self._json_table(body, self._lateral(level, left_names, left_columns))
            case _:
                raise unknown_construct(f"{kind} in FROM")
        alone = Level(level.parent, level.expressions)
        alone.add(item)
        return alone

    def _lateral(self, level: Level, names: list[Item], columns: list[Item]) -> Level:
        return Level(level.parent, level.expressions, list(columns), list(names))

    # -- relations

    def range_variable(self, body: Node, level: Level, command: str = "select") -> Item:
        """A relation name: a common table expression in reach, or relations of the catalog."""
        name = body.get("relname", "")
        if "schemaname" not in body and level.expressions is not None and command == "select":
            expression = level.expressions.find(name)
            if expression is not None:
                fields, is_open = expression.fields()
                return self._aliased(Item(name, fields, is_open=is_open), body.get("alias"))
        return self._aliased(self.relation_item(body, command), body.get("alias"))

    def relation_item(self, body: Node, command: str) -> Item:
        """The relation(s) that a RangeVar may mean as an item without its alias; the access is noted."""
        name = body.get("relname", "")
        schema = body.get("schemaname", "")
        catalog_name = body.get("catalogname", "")
        if catalog_name and catalog_name != self.catalog.database:
            self.collected.doubt(f'"{catalog_name}.{schema}.{name}" is in another database')
        candidates, temporary = self.candidates(schema, name)
        only = not body.get("inh")
        if any(found.may_set for found in candidates):
            self.set_config.append(("search_path", None, False))
        accesses = [self.collected.access(command, found, only=only) for found in candidates]
        columns = [found.columns for found in candidates]
        open_ended = False
        if temporary is not None:
            accesses.insert(0, self.collected.access_named(command, temporary, name))
            known = self.state.temporary_columns.get(name)
            open_ended = known is None
            made = [
                Column(ColumnName(temporary, name, column), index + 1, 0)
                for index, column in enumerate(known or ())
            ]
            columns.insert(0, made)
        if not accesses:
            accesses.append(self.collected.access_named(command, schema, name))
            if schema:
                self.collected.doubt(f'relation "{schema}.{name}" is not in the catalog')
            else:
                self.collected.doubt(f'no schema of the search path has a relation "{name}"')
            return Item(name, [], is_open=True, schema=schema, accesses=tuple(accesses))
        bare_schema = schema or accesses[0].schema
        if len(accesses) == 1 and temporary is None:
            return Item(name, relation=candidates[0], schema=bare_schema, accesses=tuple(accesses))
        fields = _merged(columns, tuple(accesses))
        is_open = open_ended or any(_names(other) != _names(columns[0]) for other in columns[1:])
        return Item(name, fields, is_open=is_open, schema=bare_schema, accesses=tuple(accesses))

    def candidates(self, schema: str, name: str) -> tuple[list[Relation], str | None]:
        """The relations of the catalog that a name may mean, first the likeliest; and a temporary schema."""
        if schema:
            if schema == TEMPORARY_SCHEMA or schema.startswith("pg_temp_"):
                return [], schema
            found = self.catalog.relation(schema, name)
            return ([] if found is None else [found]), None
        temporary = TEMPORARY_SCHEMA if name in self.state.temporary_names else None
        if self._path is None:
            return list(self.catalog.relations_named(name)), temporary
        relations: list[Relation] = []
        for entry in self._path:
            relation = self.catalog.relation(entry, name)
            if relation is not None:
                relations.append(relation)
                if entry == SYSTEM_SCHEMA or self.catalog.may_use(self.state.login_role, entry):
                    break
        return relations, temporary

    def _aliased(self, item: Item, alias: Node | None) -> Item:
        if alias is None:
            return item
        names = [name["String"].get("sval", "") for name in alias.get("colnames", ())]
        if not names:
            item.name = alias["aliasname"]
            item.schema = ""
            return item
        fields = [
            Field(new, entry.value, entry.accesses) for new, entry in zip(names, item.fields, strict=False)
        ]
        fields.extend(item.fields[len(names) :])
        fields.extend(Field(name, Value(known=False)) for name in names[len(item.fields) :] if item.is_open)
        return Item(alias["aliasname"], fields, is_open=item.is_open, relation=None, accesses=item.accesses)

    def _sample(self, body: Node, level: Level, names: list[Item], columns: list[Item]) -> Level:
        method = [name["String"]["sval"] for name in body.get("method", ())]
        if method[-1:] not in (["bernoulli"], ["system"]) or len(method) > 1:
            self.collected.function(".".join(method) if len(method) > 1 else f"?.{method[0]}")
        lateral = self._lateral(level, names, columns)
        self.counts_integers, counts = False, self.counts_integers
        self.operands(body.get("args", []), lateral, Use.FILTER)
        if "repeatable" in body:
            self.operand(body["repeatable"], lateral, Use.FILTER)
        self.counts_integers = counts
        return self.from_item(body["relation"], level, names, columns)

    # -- derived items

    def _subselect(self, body: Node, outer: Level | None, level: Level) -> Item:
        reach = Level(outer, level.expressions)
        fields = self.subquery(body["subquery"], reach)
        alias = body.get("alias")
        item = Item("", fields, is_open=self.is_open_result(fields))
        return self._aliased(item, alias)

    def _functions(self, body: Node, lateral: Level) -> Item:
        """Functions in FROM, one or several in ROWS FROM."""
        fields: list[Field] = []
        is_open = False
        alias = body.get("alias")
        functions = body.get("functions", [])
        for entry in functions:
            call, definitions = entry["List"]["items"]
            columns = definitions.get("List", {}).get("items", []) or body.get("coldeflist", [])
            made, unsure = self._function(call, columns, lateral, alias if len(functions) == 1 else None)
            fields.extend(made)
            is_open = is_open or unsure
        if body.get("ordinality"):
            fields.append(Field("ordinality", mixed(entry.value for entry in fields)))
        name = alias["aliasname"] if alias else (fields[0].name if len(fields) == 1 else "")
        if not alias and functions:
            name = title(functions[0]["List"]["items"][0], self.subquery_titles)
        return self._aliased(Item(name, fields, is_open=is_open), alias)

    def _function(
        self, call: Node, columns: list[Node], lateral: Level, alias: Node | None
    ) -> tuple[list[Field], bool]:
        """The columns of one function's result, and whether there may be others."""
        value = mixed([self.operand(call, lateral, Use.EXPRESSION)])
        if columns:
            return [Field(column["ColumnDef"]["colname"], value) for column in columns], False
        name = title(call, self.subquery_titles)
        single = alias["aliasname"] if alias else name
        if "FuncCall" not in call:
            return [Field(single, value)], False
        if name == "unnest" and all(
            self._is_plain([argument], lateral) for argument in call["FuncCall"].get("args", ())
        ):
            arrays = call["FuncCall"].get("args", ())
            return [Field(single if len(arrays) == 1 else name, value) for _ in arrays], False
        shapes = self._result_shapes(call["FuncCall"], lateral)
        if len(shapes) != 1:
            return ([] if shapes else [Field(name, value)]), True
        shape = shapes.pop()
        if shape is None:
            return [Field(single, value)], False
        if shape == ("",):
            return [], True
        return [Field(column, value) for column in shape], False

    def _result_shapes(self, body: Node, lateral: Level) -> set[tuple[str, ...] | None]:
        """The column names of what the functions of this name return; None for a single value."""
        names = [name["String"].get("sval", "") for name in body["funcname"]]
        shapes: set[tuple[str, ...] | None] = set()
        arguments = body.get("args", [])
        for row in self.catalog.functions(names[-1]):
            if not (row.schema == names[-2] if len(names) > 1 else self.is_on_path(row.schema)):
                continue
            relation = self.catalog.relation_by_oid(row.relation_oid) if row.relation_oid else None
            if row.out_names:
                shapes.add(_out_names(row.out_names, names[-1]))
            elif relation is not None:
                shapes.add(tuple(column.name.column for column in relation.columns))
            elif row.returns_record or (row.is_polymorphic and not self._is_plain(arguments, lateral)):
                shapes.add(("",))
            else:
                shapes.add(None)
        return shapes

    def _is_plain(self, arguments: list[Node], level: Level) -> bool:
        """Is the first certainly an array or range of values that are not rows?"""
        for kind, body in arguments[0].items() if arguments else ():
            match kind:
                case "TypeCast":
                    target = {key: part for key, part in body["typeName"].items() if key != "arrayBounds"}
                    return self._is_plain_type(self.resolve_type(target))
                case "A_ArrayExpr":
                    return all("A_Const" in element for element in body.get("elements", ()))
                case "FuncCall":
                    return body["funcname"][-1]["String"]["sval"] in _ARRAYS_OF_TEXT
                case "ColumnRef":
                    found = (
                        self.column_reference(body, level) if self.row_item(body, level) is None else CLEAN
                    )
                    return found.column is not None and self._is_plain_type(found.type_oid)
        return False

    def _is_plain_type(self, oid: int) -> bool:
        row = self.catalog.type_by_oid(oid)
        if row is not None and row.element_oid:
            row = self.catalog.type_by_oid(row.element_oid)
        return row is not None and row.kind in "ber"

    def _xml_table(self, body: Node, lateral: Level) -> Item:
        parts = [self.operand(body["docexpr"], lateral, Use.EXPRESSION)]
        parts.append(self.operand(body["rowexpr"], lateral, Use.EXPRESSION))
        parts.append(self.operands(body.get("namespaces", []), lateral, Use.EXPRESSION))
        columns = [column["RangeTableFuncCol"] for column in body.get("columns", ())]
        for column in columns:
            for part in ("colexpr", "coldefexpr"):
                if part in column:
                    parts.append(self.operand(column[part], lateral, Use.EXPRESSION))
            if "typeName" in column:
                self.cast(column["typeName"])
        value = mixed(parts)
        fields = [Field(column["colname"], value) for column in columns]
        return self._aliased(Item("xmltable", fields), body.get("alias"))

    def _json_table(self, body: Node, lateral: Level) -> Item:
        parts = [self.operand({"JsonValueExpr": body["context_item"]}, lateral, Use.EXPRESSION)]
        parts.append(self.operand(body["pathspec"]["string"], lateral, Use.EXPRESSION))
        parts.append(self.operands(body.get("passing", []), lateral, Use.EXPRESSION))
        if "on_error" in body:
            parts.append(self.operand({"JsonBehavior": body["on_error"]}, lateral, Use.EXPRESSION))
        names: list[str] = []
        self._json_columns(body.get("columns", []), lateral, names, parts)
        value = mixed(parts)
        return self._aliased(Item("json_table", [Field(name, value) for name in names]), body.get("alias"))

    def _json_columns(self, nodes: list[Node], lateral: Level, names: list[str], parts: list[Value]) -> None:
        for node in nodes:
            column = node["JsonTableColumn"]
            if column.get("coltype") == "JTC_NESTED":
                self._json_columns(column.get("columns", []), lateral, names, parts)
                continue
            names.append(column["name"])
            if "typeName" in column:
                self.cast(column["typeName"])
            for behavior in ("on_empty", "on_error"):
                if behavior in column:
                    parts.append(self.operand({"JsonBehavior": column[behavior]}, lateral, Use.EXPRESSION))

    # -- joins

    def _join(self, body: Node, level: Level, names: list[Item], columns: list[Item]) -> Level:
        if body.get("jointype") not in _JOIN_TYPES:
            raise unknown_construct(f"the join {body.get('jointype')}")
        left = self.from_item(body["larg"], level, names, columns)
        right = self.from_item(body["rarg"], level, [*names, *left.by_name], [*columns, *left.by_column])
        joined = self._join_columns(body, left, right)
        both = Level(level.parent, level.expressions)
        both.by_name = [*left.by_name, *right.by_name]
        both.by_column = [*left.by_column, *right.by_column] if joined is None else [joined]
        if "quals" in body:
            self._on(body["quals"], both)
        if "alias" in body:
            item = joined or Item(
                "",
                [entry for part in both.by_column for entry in part.fields],
                is_open=any(part.is_open for part in both.by_column),
            )
            alone = Level(level.parent, level.expressions)
            alone.add(self._aliased(item, body["alias"]))
            return alone
        return both

    def _join_columns(self, body: Node, left: Level, right: Level) -> Item | None:
        """The columns of JOIN USING or NATURAL JOIN: the merged ones, then the rest of either side."""
        sides = [[entry for item in side.by_column for entry in item.fields] for side in (left, right)]
        is_open = any(item.is_open for side in (left, right) for item in side.by_column)
        if body.get("isNatural"):
            others = {entry.name for entry in sides[1]}
            shared = [entry.name for entry in sides[0] if entry.name in others]
            if is_open:
                self.collected.doubt("the columns of a NATURAL JOIN are not known")
        elif "usingClause" in body:
            shared = [name["String"].get("sval", "") for name in body["usingClause"]]
        else:
            return None
        merged = [self._merged_column(name, sides, body["jointype"], is_open) for name in shared]
        rest = [entry for side in sides for entry in side if entry.name not in shared]
        using_alias = body.get("join_using_alias")
        if using_alias is not None:
            right.by_name.append(Item(using_alias["aliasname"], merged))
        return Item("", [*merged, *rest], is_open=is_open)

    def _merged_column(self, name: str, sides: list[list[Field]], kind: str, is_open: bool) -> Field:
        found = [[entry for entry in side if entry.name == name] for side in sides]
        self.operator(["="])
        if len(found[0]) != 1 or len(found[1]) != 1:
            self.collected.doubt(f'column "{name}" of a JOIN is not known')
            for entries in found:
                for entry in entries:
                    self.consume(entry.read(), Use.FILTER)
            value = mixed([entry.value for entries in found for entry in entries], known=False)
            return Field(name, value)
        left, right = found[0][0].read(), found[1][0].read()
        use = Use.JOIN if _is_stored(left) and _is_stored(right) else Use.FILTER
        self.consume(left, use)
        self.consume(right, use)
        accesses = (*found[0][0].accesses, *found[1][0].accesses)
        if kind == "JOIN_FULL" or left.type_oid != right.type_oid or not left.type_oid:
            return Field(name, mixed([left, right], known=not is_open), accesses)
        return Field(name, right if kind == "JOIN_RIGHT" else left, accesses)

    def _on(self, node: Node, level: Level) -> None:
        """A join condition: equality of two stored columns is a JOIN, all else a FILTER."""
        if "BoolExpr" in node and node["BoolExpr"].get("boolop") == "AND_EXPR":
            for part in node["BoolExpr"]["args"]:
                self._on(part, level)
            return
        comparison = node.get("A_Expr")
        if (
            comparison is not None
            and comparison.get("kind") == "AEXPR_OP"
            and comparison.get("name") == [{"String": {"sval": "="}}]
            and "ColumnRef" in comparison.get("lexpr", ())
            and "ColumnRef" in comparison.get("rexpr", ())
        ):
            self.operator(["="])
            left = self.value(comparison["lexpr"], level, Use.FILTER)
            right = self.value(comparison["rexpr"], level, Use.FILTER)
            use = Use.JOIN if _is_stored(left) and _is_stored(right) else Use.FILTER
            self.consume(left, use)
            self.consume(right, use)
            return
        self.operand(node, level, Use.FILTER)


def _is_stored(value: Value) -> bool:
    """Is it the column of a permanent relation (so that the caller did not choose what it is compared with)?"""
    return value.column is not None and not value.column.name.schema.startswith(TEMPORARY_SCHEMA)


def _names(columns: list[Column]) -> list[str]:
    return [column.name.column for column in columns]


def _merged(relations: list[list[Column]], accesses: tuple[Access, ...]) -> list[Field]:
    """Fields of a name that may mean several relations: a column of any of them."""
    fields: dict[str, Field] = {}
    for columns in relations:
        for column in columns:
            name = column.name.column
            known = fields.get(name)
            if known is None:
                fields[name] = Field(name, Value(column), accesses)
            else:
                first = known.value
                fields[name] = Field(name, Value(first.column, (*first.others, column)), accesses)
    return list(fields.values())


def _out_names(text: str, function: str) -> tuple[str, ...] | None:
    names = tuple(_json_names(text))
    if len(names) == 1:
        return (names[0] or function,)
    return tuple(name or f"column{index + 1}" for index, name in enumerate(names))


def _json_names(text: str) -> list[str]:
    return msgspec.json.decode(text.encode(), type=list[str])
