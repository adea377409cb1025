"""INSERT, UPDATE, DELETE and MERGE: what they write, what they read for it, and what RETURNING gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policy.facts import Use
from policy.sql.collected import Access
from policy.sql.lineage import OpenFields, Queries
from policy.sql.parse import Node
from policy.sql.refusal import unknown_construct
from policy.sql.scope import CLEAN, Field, Item, Level, mixed

_MERGE_ACTIONS: Final = {
    "CMD_INSERT": "insert",
    "CMD_UPDATE": "update",
    "CMD_DELETE": "delete",
    "CMD_NOTHING": "",
}


class Changes(Queries):
    """The walk over statements that change rows."""

    def change(self, kind: str, body: Node, outer: Level | None) -> list[Field]:
        expressions = outer.expressions if outer is not None else None
        if "withClause" in body:
            expressions = self.with_clause(body["withClause"], outer, expressions)
        return _KINDS[kind](self, body, Level(outer, expressions))

    # -- INSERT

    def insert(self, body: Node, level: Level) -> list[Field]:
        self.collected.command("insert")
        relation = body["relation"]
        target = self._target(relation, level, "insert")
        source = self._source(body, level)
        for entry in source:
            self.consume(entry.value, Use.COPY)
        named = [column["ResTarget"]["name"] for column in body.get("cols", ())]
        written = self._written(target, named, source, "selectStmt" in body)
        for column in body.get("cols", ()):
            self._target_indirection(column["ResTarget"], level)
        self._assign(target, written)
        level.add(target)
        if "onConflictClause" in body:
            self._on_conflict(body["onConflictClause"], relation, target, written, source, level)
        return self._returning(body, target, level)

    def _source(self, body: Node, level: Level) -> list[Field]:
        if "selectStmt" not in body:
            return []
        return self.subquery(body["selectStmt"], Level(level.parent, level.expressions))

    def _written(
        self, target: Item, named: list[str], source: list[Field], has_source: bool
    ) -> list[str] | None:
        """Names of the columns that get a value; None when they cannot be told."""
        if named or not has_source:
            return named
        if target.is_open or isinstance(source, OpenFields):
            return None
        return [entry.name for entry in target.fields[: len(source)]]

    def _assign(self, target: Item, names: list[str] | None) -> None:
        if names is None:
            for access in target.accesses:
                access.read_any()
            for entry in target.fields:
                self.consume(entry.value, Use.ASSIGN)
            return
        for name in names:
            for access in target.accesses:
                access.read(name)
            found = target.find(name)
            for entry in found:
                self.consume(entry.value, Use.ASSIGN)
            if not found:
                self.collected.doubt(f'column "{name}" to be written does not exist')

    def _target_indirection(self, target: Node, level: Level) -> None:
        """SET a[1].b = ...: the subscripts are expressions."""
        for step in target.get("indirection", ()):
            if "A_Indices" in step:
                self.operand(step, level, Use.EXPRESSION)
            elif "String" not in step and "A_Star" not in step:
                raise unknown_construct("the target of an assignment")

    def _on_conflict(
        self,
        body: Node,
        relation: Node,
        target: Item,
        written: list[str] | None,
        source: list[Field],
        level: Level,
    ) -> None:
        inferred = body.get("infer", {})
        if "indexElems" not in inferred:
            # Any unique column, or those of a named constraint: whether a row is left out tells of their values.
            for entry in target.fields:
                self.consume(entry.value, Use.FILTER)
        if inferred:
            for element in inferred.get("indexElems", ()):
                self._index_element(element["IndexElem"], level)
            if "whereClause" in inferred:
                self.operand(inferred["whereClause"], level, Use.FILTER)
        if body.get("action") == "ONCONFLICT_NOTHING":
            return
        if body.get("action") != "ONCONFLICT_UPDATE":
            raise unknown_construct(f"the ON CONFLICT action {body.get('action')}")
        self.collected.command("update")
        updated = self.relation_item({**relation, "alias": None}, "update")
        proposed = mixed([entry.value for entry in source])
        by_name = {name: entry.value for name, entry in zip(written or (), source, strict=False) if written}
        excluded = Item(
            "excluded",
            [
                Field(
                    entry.name,
                    CLEAN if written and entry.name not in by_name else by_name.get(entry.name, proposed),
                )
                for entry in target.fields
            ],
            is_open=target.is_open,
        )
        inner = Level(level.parent, level.expressions, list(level.by_column), [*level.by_name, excluded])
        self._set(body.get("targetList", []), updated, inner)
        if "whereClause" in body:
            self.operand(body["whereClause"], inner, Use.FILTER)

    def _index_element(self, element: Node, level: Level) -> None:
        if "name" in element:
            self.operand(
                {"ColumnRef": {"fields": [{"String": {"sval": element["name"]}}]}}, level, Use.FILTER
            )
        elif "expr" in element:
            self.operand(element["expr"], level, Use.FILTER)

    # -- UPDATE and DELETE

    def update(self, body: Node, level: Level) -> list[Field]:
        self.collected.command("update")
        target = self._target(body["relation"], level, "update")
        level.add(target)
        self._bounded(target, "whereClause" in body)
        self.from_list(body.get("fromClause", []), level)
        self._set(body.get("targetList", []), target, level)
        if "whereClause" in body:
            self.operand(body["whereClause"], level, Use.FILTER)
        return self._returning(body, target, level)

    def delete(self, body: Node, level: Level) -> list[Field]:
        self.collected.command("delete")
        target = self._target(body["relation"], level, "delete")
        level.add(target)
        self._bounded(target, "whereClause" in body)
        self.from_list(body.get("usingClause", []), level)
        if "whereClause" in body:
            self.operand(body["whereClause"], level, Use.FILTER)
        return self._returning(body, target, level)

    def _bounded(self, target: Item, has_where: bool) -> None:
        if has_where:
            return
        for access in target.accesses:
            access.bounded = False

    def _set(self, nodes: list[Node], target: Item, level: Level) -> None:
        """SET column = value, ...: stored values are copies of what they are made of."""
        for node in nodes:
            assignment = node["ResTarget"]
            self._assign(target, [assignment["name"]])
            self._target_indirection(assignment, level)
            self.operand(assignment["val"], level, Use.COPY)

    # -- MERGE

    def merge(self, body: Node, level: Level) -> list[Field]:
        self.collected.command("merge")
        target = self._target(body["relation"], level, "merge")
        source = self.from_item(body["sourceRelation"], level, [], [])
        level.by_column.extend([target, *source.by_column])
        level.by_name.extend([target, *source.by_name])
        self._on(body["joinCondition"], level)
        for node in body.get("mergeWhenClauses", ()):
            self._merge_action(node["MergeWhenClause"], body["relation"], level)
        return self._returning(body, target, level)

    def _merge_action(self, action: Node, relation: Node, level: Level) -> None:
        if action.get("commandType") not in _MERGE_ACTIONS:
            raise unknown_construct(f"the MERGE action {action.get('commandType')}")
        if "condition" in action:
            self.operand(action["condition"], level, Use.FILTER)
        command = _MERGE_ACTIONS[action["commandType"]]
        if not command:
            return
        self.collected.command(command)
        target = self.relation_item({**relation, "alias": None}, command)
        if command == "update":
            self._set(action.get("targetList", []), target, level)
        elif command == "insert":
            values = action.get("values", [])
            named = [column["ResTarget"]["name"] for column in action.get("targetList", ())]
            fields = [Field("", self.operand(value, level, Use.COPY)) for value in values]
            self._assign(target, self._written(target, named, fields, bool(values)))

    # -- both

    def _target(self, relation: Node, level: Level, command: str) -> Item:
        """The relation that is written. Never a common table expression."""
        item = self.relation_item(relation, command)
        for access in item.accesses:
            found = self.catalog.relation(access.schema, access.name)
            if found is not None and found.rewritten:
                self.collected.doubt(f'"{access.schema}.{access.name}" has rewrite rules')
        return self._aliased(item, relation.get("alias"))

    def _returning(self, body: Node, target: Item, level: Level) -> list[Field]:
        clause = body.get("returningClause")
        if clause is None:
            return []
        reading = tuple(
            self.collected.access_named("select", access.schema, access.name) for access in target.accesses
        )
        for name in self._row_names(clause, level):
            level.by_name.append(_read_by(target, name, reading))
        read = _read_by(target, target.name, reading)
        for items in (level.by_column, level.by_name):
            for index, item in enumerate(items):
                if item is target:
                    items[index] = read
        return self.targets(clause.get("exprs", []), level)

    def _row_names(self, clause: Node, level: Level) -> list[str]:
        """The names of the old and the new row: `old` and `new` unless renamed or taken."""
        names = {"RETURNING_OPTION_OLD": "old", "RETURNING_OPTION_NEW": "new"}
        for node in clause.get("options", ()):
            option = node["ReturningOption"]
            if option.get("option") not in names:
                raise unknown_construct(f"the RETURNING option {option.get('option')}")
            names[option["option"]] = option["value"]
        taken = {item.name for item in level.by_name}
        return [name for name in names.values() if name not in taken]


def _read_by(target: Item, name: str, accesses: tuple[Access, ...]) -> Item:
    """The written relation as RETURNING reads it."""
    fields = [Field(entry.name, entry.value, (*accesses, *entry.accesses)) for entry in target.fields]
    item = Item(
        name, fields, is_open=target.is_open, schema=target.schema, accesses=(*accesses, *target.accesses)
    )
    return item


_KINDS: Final[dict[str, Callable[[Changes, Node, Level], list[Field]]]] = {
    "InsertStmt": Changes.insert,
    "UpdateStmt": Changes.update,
    "DeleteStmt": Changes.delete,
    "MergeStmt": Changes.merge,
}
