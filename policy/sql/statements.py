"""Whole statements: what each is called, what is inside it, and what it changes in the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policy.facts import Output, SqlFacts, Use
from policy.sql.classify import (
    DEFINITIONS,
    NEVER_ALONE,
    QUERIES,
    RELATION_OBJECTS,
    WITHOUT_CATALOG_CHANGE,
)
from policy.sql.lineage import OpenFields
from policy.sql.parse import Node, parse
from policy.sql.refusal import SqlRefused, unknown_construct
from policy.sql.scope import Field, Level
from policy.sql.session_statements import SessionStatements
from policy.sql.state import NO_EFFECT, Prepared, SessionEffect

# Statements that make a type, and what in them holds its name.
_NAMES_OF_TYPES: Final = {
    "CompositeTypeStmt": "typevar",
    "CreateDomainStmt": "domainname",
    "CreateEnumStmt": "typeName",
    "CreateRangeStmt": "typeName",
}
_MEANS_OFF: Final = ("OFF", "FALSE", "0", "NO")


class Statements(SessionStatements):
    """One statement: `run` fills the facts. `outputs` None: it returns no rows."""

    def run(self, kind: str, body: Node, text: str) -> tuple[SqlFacts, SessionEffect]:
        """Facts and effect of the statement. Raises SqlRefused."""
        command = self.statement(kind, body, text)
        self.apply_set_config()
        self.refuse_changed_settings()
        self.refuse_hidden_settings()
        facts = self.collected.facts(command, self.outputs)
        if self.temporary:
            self.effect["creates_temporary"] = tuple(self.temporary)
            self.effect["changes_catalog"] = True
        effect = SessionEffect(**self.effect) if self.effect else NO_EFFECT  # type: ignore[arg-type]
        return facts, effect

    def statement(self, kind: str, body: Node, text: str) -> str:
        if kind in QUERIES:
            return self._query_statement(kind, body)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler(self, body, text)
        if kind in DEFINITIONS:
            return self._definition(kind, body)
        if kind in NEVER_ALONE:
            raise unknown_construct(f"{kind} as a statement")
        raise unknown_construct(f"the statement {kind}")

    # -- queries

    def _query_statement(self, kind: str, body: Node) -> str:
        into = _into(body) if kind == "SelectStmt" else None
        fields = self._query({kind: body}, None)
        if into is not None:
            self.created_from_query(into, "create_table", fields)
            self.collected.command("create_table_as")
            self.effect["changes_catalog"] = True
            return "select_into"
        if kind == "SelectStmt" or "returningClause" in body:
            self.outputs = self.leaves(fields)
        return {"SelectStmt": "select"}.get(kind) or kind.removesuffix("Stmt").lower()

    def _inner(self, node: Node, text: str) -> tuple[SqlFacts, SessionEffect]:
        """A statement inside this one, as if it stood alone."""
        ((kind, body),) = node.items()
        inner = Statements(self.catalog, self.state)
        inner.depth = self.depth + 1
        inner.counts_integers = self.counts_integers
        facts, effect = inner.run(kind, body, text)
        self.safe_integers |= inner.safe_integers
        return facts, effect

    def _explain(self, body: Node, text: str) -> str:
        analyzes = False
        for option in body.get("options", ()):
            element = option["DefElem"]
            if element["defname"] == "analyze":
                value = element.get("arg", {})
                word = str(value.get("String", {}).get("sval", "")) if value else "on"
                number = value.get("Integer", {}).get("ival", 0) if "Integer" in value else None
                analyzes = number != 0 if number is not None else word.upper() not in _MEANS_OFF
        facts, effect = self._inner(body["query"], text)
        self.collected.include(facts, outputs_leave=False)
        self.outputs = (Output("QUERY PLAN"),)
        if analyzes:
            for name in ("creates_temporary", "changes_catalog", "changes_search_path", "search_path"):
                value = getattr(effect, name)
                if value:
                    self.effect[name] = value
        return "explain_analyze" if analyzes else "explain"

    # -- prepared statements and cursors

    def _prepare(self, body: Node, text: str) -> str:
        facts, _ = self._inner(body["query"], text)
        self.collected.include(facts, outputs_leave=False)
        self.effect["prepares"] = (body["name"], Prepared(text, facts))
        return "prepare"

    def _execute(self, body: Node, text: str) -> str:
        facts = self.executed(body)
        self.outputs = facts.outputs
        return "execute"

    def executed(self, body: Node) -> SqlFacts:
        """The facts of a prepared statement: those it was prepared with and those it has now."""
        name = body["name"]
        prepared = self.state.prepared.get(name)
        if prepared is None:
            raise SqlRefused(f'prepared statement "{name}" does not exist', "26000", is_servers_answer=True)
        self.operands(body.get("params", []), Level(), Use.EXPRESSION)
        self.effect["executes"] = name
        self.sets_path_again(prepared.facts)
        now = self._analysed_again(prepared.text)
        self.collected.include(prepared.facts, outputs_leave=True)
        if now is None or now == prepared.facts:
            return prepared.facts
        self.collected.include(now, outputs_leave=True)
        if now.outputs == prepared.facts.outputs:
            return now
        self.collected.doubt(f'prepared statement "{name}" may mean other relations by now')
        outputs = tuple(Output(entry.name, known=False) for entry in now.outputs or ())
        return SqlFacts(now.command, outputs=outputs if now.outputs is not None else None)

    def _analysed_again(self, text: str) -> SqlFacts | None:
        statements = parse(text)
        if not statements:
            return None
        first = statements[0]
        node = first.node["query"] if first.kind == "PrepareStmt" else {first.kind: first.node}
        inner = Statements(self.catalog, self.state)
        ((kind, body),) = node.items()
        return inner.run(kind, body, text)[0]

    def _deallocate(self, body: Node, text: str) -> str:
        everything = bool(body.get("isall")) or "name" not in body
        self.effect["deallocates"] = "*" if everything else body["name"]
        return "deallocate_all" if everything else "deallocate"

    def _declare(self, body: Node, text: str) -> str:
        facts, _ = self._inner(body["query"], text)
        self.collected.include(facts, outputs_leave=False)
        self.effect["declares_cursor"] = (body["portalname"], facts)
        return "declare_cursor"

    def _fetch(self, body: Node, text: str) -> str:
        name = body.get("portalname", "")
        facts = self.state.cursors.get(name)
        if facts is None:
            raise SqlRefused(f'cursor "{name}" does not exist', "34000", is_servers_answer=True)
        moves = bool(body.get("ismove"))
        self.collected.include(facts, outputs_leave=not moves)
        self.effect["fetches"] = name
        self.sets_path_again(facts)
        if not moves:
            self.outputs = facts.outputs if facts.outputs is not None else ()
        return "move" if moves else "fetch"

    def _close(self, body: Node, text: str) -> str:
        self.effect["closes"] = body.get("portalname", "*")
        return "close_cursor" if "portalname" in body else "close_cursor_all"

    # -- code that cannot be seen

    def _do(self, body: Node, text: str) -> str:
        self.collected.doubt("the code of DO cannot be looked into")
        self.effect.update(changes_search_path=True, search_path=None, changes_catalog=True)
        return "do"

    def _call_procedure(self, body: Node, text: str) -> str:
        call = body["funccall"]
        self.collected.function(
            ".".join(_call_names(call)) if len(_call_names(call)) > 1 else "?." + _call_names(call)[0]
        )
        self.operands(call.get("args", []), Level(), Use.EXPRESSION)
        self.collected.doubt("the code of a procedure cannot be looked into")
        self.effect.update(changes_search_path=True, search_path=None, changes_catalog=True)
        self.outputs = (Output("*", known=False),)
        return "call"

    # -- relations as a whole

    def _copy(self, body: Node, text: str) -> str:
        command, shape = self.copy(body)
        if shape is not None:
            self.effect["copies"] = shape
            if not shape.is_in:
                columns = shape.columns
                self.outputs = (Output("*", known=False),) if columns is None else columns
        return command

    def _truncate(self, body: Node, text: str) -> str:
        for relation in body.get("relations", ()):
            item = self.relation_item(relation["RangeVar"], "truncate")
            for access in item.accesses:
                access.bounded = False
        return "truncate"

    def _lock_table(self, body: Node, text: str) -> str:
        for relation in body.get("relations", ()):
            self.relation_item(relation["RangeVar"], "lock_table")
        return "lock_table"

    def _vacuum(self, body: Node, text: str) -> str:
        command = "vacuum" if body.get("is_vacuumcmd") else "analyze"
        for relation in body.get("rels", ()):
            if "relation" in relation["VacuumRelation"]:
                self.touch_variable(command, relation["VacuumRelation"]["relation"])
        return command

    # -- definitions

    def _definition(self, kind: str, body: Node) -> str:
        command = DEFINITIONS[kind]
        self.collected.command(command)
        self.mention(command, body)
        if kind in _NAMES_OF_TYPES:
            self.type_created(_type_names(body[_NAMES_OF_TYPES[kind]]))
        for setting in ("setstmt",):
            inner = body.get(setting)
            if isinstance(inner, dict):
                self.collected.settings[str(inner.get("name", "*")).lower()] = None
        if kind not in WITHOUT_CATALOG_CHANGE:
            self.effect["changes_catalog"] = True
        if kind in {"AlterSeqStmt", "CreateExtensionStmt"}:
            self.effect["changes_temporary"] = True
        return command

    def _create_table(self, body: Node, text: str) -> str:
        self.create_table(body)
        return self._defined("create_table")

    def _create_foreign_table(self, body: Node, text: str) -> str:
        base = body.get("base") or body["base_stmt"]
        self.create_table(base, "create_foreign_table")
        return self._defined("create_foreign_table")

    def _create_sequence(self, body: Node, text: str) -> str:
        self.created("create_sequence", body["sequence"], ("last_value", "log_cnt", "is_called"))
        self.mention("create_sequence", body.get("options", []))
        return self._defined("create_sequence")

    def _create_view(self, body: Node, text: str) -> str:
        self.create_view(body)
        return self._defined("create_view")

    def _create_table_as(self, body: Node, text: str) -> str:
        is_view = body.get("objtype") == "OBJECT_MATVIEW"
        command = "create_materialized_view" if is_view else "create_table_as"
        ((kind, inner),) = body["query"].items()
        if kind == "ExecuteStmt":
            facts = self.executed(inner)
            self.collected.doubt("the columns of CREATE TABLE AS EXECUTE are not followed")
            titles = tuple(output.name for output in facts.outputs or ())
            self.created("create_table", body["into"]["rel"], titles)
        else:
            fields = self.subquery(body["query"], None)
            created = "create_materialized_view" if is_view else "create_table"
            self.created_from_query(body["into"], created, fields)
        return self._defined(command)

    def _create_schema(self, body: Node, text: str) -> str:
        self.create_schema(body)
        return self._defined("create_schema")

    def _create_function(self, body: Node, text: str) -> str:
        return self._defined("create_procedure" if body.get("is_procedure") else "create_function")

    def _create_role(self, body: Node, text: str) -> str:
        return self._defined("create_role")

    def _define(self, body: Node, text: str) -> str:
        if body["kind"] == "OBJECT_TYPE":
            self.type_created(_type_names(body["defnames"]))
        return self._defined(self.object_command("create", body["kind"]))

    def _drop(self, body: Node, text: str) -> str:
        return self._defined(self.drop(body))

    def _grant(self, body: Node, text: str) -> str:
        return self._defined(self.grant(body))

    def _grant_role(self, body: Node, text: str) -> str:
        return self._defined("grant_role" if body.get("is_grant") else "revoke_role")

    def _rename(self, body: Node, text: str) -> str:
        return self._defined(self.renamed(body))

    def _alter_table(self, body: Node, text: str) -> str:
        command = self.object_command("alter", body["objtype"])
        self.mention(command, body)
        return self._defined(command)

    def _alter_object(self, body: Node, text: str) -> str:
        command = self.object_command("alter", body["objectType"])
        if "relation" in body:
            self.touch_variable(command, body["relation"])
        return self._defined(command)

    def _comment(self, body: Node, text: str) -> str:
        return self._described(body, "comment")

    def _label(self, body: Node, text: str) -> str:
        return self._described(body, "security_label")

    def _described(self, body: Node, command: str) -> str:
        if body["objtype"] in RELATION_OBJECTS or body["objtype"] != "OBJECT_LARGEOBJECT":
            self.named_object(command, body["objtype"], body.get("object", {}))
        return command

    def _defined(self, command: str) -> str:
        self.effect["changes_catalog"] = True
        self.effect["changes_temporary"] = bool(self.state.temporary_names) and command != "create_table"
        return command


def _into(body: Node) -> Node | None:
    """The INTO of a SELECT; in a set operation it stands in the leftmost one."""
    while "intoClause" not in body:
        if "larg" not in body:
            return None
        body = body["larg"]
    found: Node = body["intoClause"]
    return found


def _type_names(node: Node | list[Node]) -> list[str]:
    """The parts of the name of a new type: a RangeVar or a list of strings."""
    if isinstance(node, list):
        return [part["String"].get("sval", "") for part in node]
    return [name for name in (node.get("schemaname"), node["relname"]) if name is not None]


def _call_names(call: Node) -> list[str]:
    return [name["String"].get("sval", "") for name in call["funcname"]]


_Handler = Callable[[Statements, Node, str], str]

_HANDLERS: Final[dict[str, _Handler]] = {
    "AlterObjectDependsStmt": Statements._alter_object,
    "AlterObjectSchemaStmt": Statements._alter_object,
    "AlterOwnerStmt": Statements._alter_object,
    "AlterTableStmt": Statements._alter_table,
    "CallStmt": Statements._call_procedure,
    "ClosePortalStmt": Statements._close,
    "CommentStmt": Statements._comment,
    "ConstraintsSetStmt": Statements.set_constraints,
    "CopyStmt": Statements._copy,
    "CreateForeignTableStmt": Statements._create_foreign_table,
    "CreateFunctionStmt": Statements._create_function,
    "CreateRoleStmt": Statements._create_role,
    "CreateSchemaStmt": Statements._create_schema,
    "CreateSeqStmt": Statements._create_sequence,
    "CreateStmt": Statements._create_table,
    "CreateTableAsStmt": Statements._create_table_as,
    "DeallocateStmt": Statements._deallocate,
    "DeclareCursorStmt": Statements._declare,
    "DefineStmt": Statements._define,
    "DiscardStmt": Statements.discard,
    "DoStmt": Statements._do,
    "DropStmt": Statements._drop,
    "ExecuteStmt": Statements._execute,
    "ExplainStmt": Statements._explain,
    "FetchStmt": Statements._fetch,
    "GrantRoleStmt": Statements._grant_role,
    "GrantStmt": Statements._grant,
    "ListenStmt": Statements.listen,
    "LockStmt": Statements._lock_table,
    "NotifyStmt": Statements.notify,
    "PrepareStmt": Statements._prepare,
    "RenameStmt": Statements._rename,
    "SecLabelStmt": Statements._label,
    "TransactionStmt": Statements.transaction,
    "TruncateStmt": Statements._truncate,
    "UnlistenStmt": Statements.unlisten,
    "VacuumStmt": Statements._vacuum,
    "VariableSetStmt": SessionStatements.set_setting,
    "VariableShowStmt": Statements.show,
    "ViewStmt": Statements._create_view,
}

__all__ = ["Field", "OpenFields", "Statements"]
