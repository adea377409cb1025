"""Data definition: which relations a statement names, which functions its expressions call, what it creates."""

from __future__ import annotations

from policy.facts import HIDDEN, Use
from policy.sql.calls import ANY_TYPE, TEMPORARY_SCHEMA
from policy.sql.changes import Changes
from policy.sql.classify import KINDS_OF_OBJECT, PARTS_OF_RELATIONS, RELATION_OBJECTS
from policy.sql.parse import Node, nested_too_deeply
from policy.sql.refusal import unknown_construct
from policy.sql.scope import Field, Level
from policy.sql.state import Temporary

MAX_DEFINITION_DEPTH = 300


def _strings(node: Node) -> list[str]:
    """The names in a List of strings or in one string."""
    if "List" in node:
        return [str(part["String"].get("sval", "")) for part in node["List"]["items"] if "String" in part]
    if "String" in node:
        return [str(node["String"].get("sval", ""))]
    return []


class Definitions(Changes):
    """The walk over statements that define objects."""

    temporary: list[Temporary]

    # -- names

    def touch(self, command: str, schema: str, name: str) -> None:
        """An access to a relation that a definition names; one that does not exist is named as written."""
        relations, temporary = self.candidates(schema, name)
        for relation in relations:
            self.collected.access(command, relation).read_any()
        if temporary is not None:
            self.collected.access_named(command, temporary, name).read_any()
        if not relations and temporary is None:
            self.collected.access_named(command, schema, name).read_any()

    def touch_variable(self, command: str, variable: Node) -> None:
        self.touch(command, variable.get("schemaname", ""), variable.get("relname", ""))

    def touch_names(self, command: str, names: list[str]) -> None:
        if names:
            self.touch(command, names[-2] if len(names) > 1 else "", names[-1])

    def mention(self, command: str, node: object, depth: int = 0) -> None:
        """Every relation, function and operator that a definition mentions anywhere."""
        if depth > MAX_DEFINITION_DEPTH:
            raise nested_too_deeply()
        if isinstance(node, list):
            for part in node:
                self.mention(command, part, depth + 1)
            return
        if not isinstance(node, dict):
            return
        if isinstance(node.get("relname"), str):
            self.touch_variable(command, node)
            return
        for key, part in node.items():
            if key == "FuncCall":
                self.call([name["String"].get("sval", "") for name in part["funcname"]], part.get("args"))
            elif key == "A_Expr":
                self.operator([name["String"]["sval"] for name in part["name"]])
            elif key == "Constraint" and part.get("contype") == "CONSTR_FOREIGN":
                self._reference(part)
            elif key in ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
                self.collected.doubt("the statements inside a definition are not followed")
            self.mention(command, part, depth + 1)

    def _reference(self, constraint: Node) -> None:
        """A foreign key: which values may be written tells which are there. The primary key is not known."""
        variable = constraint["pktable"]
        named = [name["String"].get("sval", "") for name in constraint.get("pk_attrs", ())]
        for relation in self.candidates(variable.get("schemaname", ""), variable.get("relname", ""))[0]:
            for column in relation.columns:
                if not named or column.name.column in named:
                    self.collected.use(column, Use.FILTER)

    # -- creating

    def created(self, command: str, variable: Node, columns: tuple[str, ...] | None) -> None:
        """A new relation: where it will be, and whether it may shadow others as a temporary one."""
        name = variable.get("relname", "")
        schema = variable.get("schemaname", "")
        is_temporary = variable.get("relpersistence") == "t" or schema.startswith(TEMPORARY_SCHEMA)
        if not is_temporary and not schema:
            schema, is_temporary = self._creation_schema()
        if is_temporary:
            self.temporary.append(Temporary(name, columns))
            schema = TEMPORARY_SCHEMA
        self.collected.access_named(command, schema, name).read_any()

    def type_created(self, names: list[str]) -> None:
        """A new type. One in pg_temp takes the place of every other of its name, even of the system's."""
        if len(names) > 1:
            is_temporary = names[-2].startswith(TEMPORARY_SCHEMA)
        else:
            is_temporary = self._path is None or self._creation_schema()[1]
        if is_temporary:
            self.temporary.append(Temporary(ANY_TYPE, None))
            self.collected.doubt(f'{HIDDEN}what casts to "{names[-1]}" run, once it is a temporary type')

    def _creation_schema(self) -> tuple[str, bool]:
        if self._path is None:
            self.collected.doubt("the search path is not known")
            return "", True
        explicit = self._path[1:] if self.state.search_path != self._path else self._path
        for schema in explicit:
            if schema.startswith(TEMPORARY_SCHEMA):
                return TEMPORARY_SCHEMA, True
            if schema in self.catalog.schemas:
                return schema, TEMPORARY_SCHEMA in explicit
        return "", TEMPORARY_SCHEMA in explicit

    def create_table(self, body: Node, command: str = "create_table") -> None:
        self.collected.command(command)
        columns: list[str] = []
        known = not (body.keys() & {"inhRelations", "ofTypename", "partbound"})
        for element in body.get("tableElts", ()):
            if "ColumnDef" in element:
                columns.append(element["ColumnDef"]["colname"])
            elif "Constraint" not in element:
                known = False
        self.created(command, body["relation"], tuple(columns) if known else None)
        for key, part in body.items():
            if key == "inhRelations":
                for parent in part:
                    self.touch_variable("alter_table", parent["RangeVar"])
            elif key != "relation":
                self.mention(command, part)

    def create_view(self, body: Node) -> None:
        self.collected.command("create_view")
        fields = self.subquery(body["query"], None)
        outputs = self.leaves(fields, Use.COPY)
        view = dict(body["view"])
        if any(access.schema.startswith(TEMPORARY_SCHEMA) for access in self.collected.accesses):
            view["relpersistence"] = "t"  # a view over temporary relations becomes one
        self.created("create_view", view, tuple(output.name for output in outputs))

    def created_from_query(self, into: Node, command: str, fields: list[Field]) -> None:
        """CREATE TABLE AS, SELECT INTO, CREATE MATERIALIZED VIEW: what the query gives is copied."""
        outputs = self.leaves(fields, Use.COPY)
        named = [name["String"]["sval"] for name in into.get("colNames", ())]
        titles = [output.name for output in outputs]
        self.created(command, into["rel"], tuple([*named, *titles[len(named) :]]))

    def create_schema(self, body: Node) -> None:
        """CREATE SCHEMA with elements: they are made in the new schema, which is searched first."""
        self.collected.command("create_schema")
        path, name = self._path, body.get("schemaname", "")
        if body.get("schemaElts"):
            self.collected.doubt("the elements of CREATE SCHEMA are not followed")
        self._path = None if path is None else (path[0], name, *path[1:])
        for element in body.get("schemaElts", ()):
            for kind, part in element.items():
                self.schema_element(kind, part)
        self._path = path

    def schema_element(self, kind: str, body: Node) -> None:
        match kind:
            case "CreateStmt":
                self.create_table(body)
            case "ViewStmt":
                self.create_view(body)
            case "IndexStmt":
                self.collected.command("create_index")
                self.mention("create_index", body)
            case "CreateSeqStmt":
                self.collected.command("create_sequence")
                self.created("create_sequence", body["sequence"], None)
            case "CreateTrigStmt":
                self.collected.command("create_trigger")
                self.mention("create_trigger", body)
            case "GrantStmt":
                self.grant(body)
            case _:
                raise unknown_construct(f"{kind} in CREATE SCHEMA")

    # -- objects by name

    def object_command(self, verb: str, kind: str) -> str:
        if kind not in KINDS_OF_OBJECT:
            raise unknown_construct(f"the kind of object {kind}")
        return f"{verb}_{KINDS_OF_OBJECT[kind]}"

    def named_object(self, command: str, kind: str, node: Node) -> None:
        """The relation behind an object given as a list of names."""
        names = _strings(node)
        if kind in RELATION_OBJECTS:
            self.touch_names(command, names)
        elif kind in PARTS_OF_RELATIONS:
            self.touch_names(command, names[:-1])

    def drop(self, body: Node) -> str:
        kind = body["removeType"]
        command = self.object_command("drop", kind)
        self.collected.command(command)
        for node in body.get("objects", ()):
            self.named_object(command, kind, node)
        return command

    def grant(self, body: Node) -> str:
        command = "grant" if body.get("is_grant") else "revoke"
        self.collected.command(command)
        self.mention(command, body.get("objects", []))
        return command

    def renamed(self, body: Node) -> str:
        """ALTER ... RENAME: a renamed temporary relation shadows the new name."""
        kind = body["renameType"]
        shown = body["relationType"] if kind == "OBJECT_COLUMN" else kind
        command = self.object_command("alter", shown)
        self.collected.command(command)
        self.collected.command("rename")
        relation = body.get("relation")
        if relation is not None:
            self.touch_variable(command, relation)
            schema, name = relation.get("schemaname", ""), relation.get("relname", "")
            may_be_temporary = (
                self._path is None
                or schema.startswith(TEMPORARY_SCHEMA)
                or (not schema and name in self.state.temporary_names)
            )
            if may_be_temporary and kind in RELATION_OBJECTS:
                self.temporary.append(Temporary(body["newname"], None))
        elif "object" in body:
            self.named_object(command, kind, body["object"])
        return command

    def new_level(self) -> Level:
        return Level()
