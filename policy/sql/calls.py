"""Calls of functions, operators and casts: which of them the server may pick, and which are worth telling.

A call is told by its name ("schema.name") unless every function that the name may mean is harmless. An operator or
cast is told when its function is not compiled code: "schema.operator(+)", "schema.cast(type)".
"""

from __future__ import annotations

from policy.facts import HIDDEN
from policy.sql.collected import Collected
from policy.sql.harmless import HARMLESS_ELSEWHERE, HARMLESS_FUNCTIONS
from policy.sql.parse import Node
from policy.sql.refusal import SqlRefused
from policy.sql.snapshot import Catalog
from policy.sql.state import SessionState

SYSTEM_SCHEMA = "pg_catalog"
TEMPORARY_SCHEMA = "pg_temp"
# Among the temporary names of a session: it may have types there, of any name.
ANY_TYPE = "*"

# Values that no pinned setting takes, whichever name they are given to; pg_dump does this.
HARMLESS_SETTING_VALUES = frozenset({"view, foreign-table"})


class Calls:
    """Resolves names of functions, operators and types against the catalog and the session's search path."""

    def __init__(self, catalog: Catalog, state: SessionState, collected: Collected) -> None:
        self.catalog = catalog
        self.state = state
        self.collected = collected
        self._path: tuple[str, ...] | None = None
        if state.search_path is not None:
            self._path = effective_path(state.search_path, state.login_role)
        self.set_config: list[tuple[str | None, str | None, bool]] = []

    # -- functions

    def call(self, names: list[str], arguments: list[Node] | None = None) -> bool:
        """Note a call. False when it may reveal anything at all (a function of the system that is not harmless)."""
        if len(names) == 3 and names[0] == self.catalog.database:
            names = names[1:]
        match names:
            case [name]:
                return self._unqualified_call(name, arguments)
            case ["pg_catalog", name]:
                return self._system_call(name, arguments)
            case [schema, name]:
                if f"{schema}.{name}" not in HARMLESS_ELSEWHERE:
                    self.collected.function(f"{schema}.{name}")
                return True
            case _:
                self.collected.function(".".join(names))
                return False

    def _unqualified_call(self, name: str, arguments: list[Node] | None) -> bool:
        candidates = self.catalog.functions(name)
        is_harmless = name in HARMLESS_FUNCTIONS
        others = False
        for row in candidates:
            if row.schema == SYSTEM_SCHEMA or not self.is_on_path(row.schema):
                continue
            others = True
            if not (is_harmless and row.compiled):
                self.collected.function(f"{row.schema}.{name}")
        if is_harmless or any(row.schema == SYSTEM_SCHEMA for row in candidates):
            return self._system_call(name, arguments)
        if not others:
            self.collected.function(f"?.{name}")
        return True

    def _system_call(self, name: str, arguments: list[Node] | None) -> bool:
        made_later = any(
            row.schema == SYSTEM_SCHEMA and not row.system for row in self.catalog.functions(name)
        )
        if name in HARMLESS_FUNCTIONS and not made_later:
            return True
        if name == "set_config" and self._sets(arguments):
            return True
        self.collected.function(f"{SYSTEM_SCHEMA}.{name}")
        return False

    def _sets(self, arguments: list[Node] | None) -> bool:
        """set_config with literals is a SET; a name that is computed could be that of a pinned setting."""
        if not arguments or len(arguments) != 3:
            return False
        setting, value, local = (_literal(argument) for argument in arguments)
        if not isinstance(setting, str):
            if value not in HARMLESS_SETTING_VALUES:
                raise SqlRefused(
                    "the gateway does not pass on set_config with a computed name",
                    "42501",
                    detail="No rule can allow it: the name could be that of a setting which keeps the gateway's and "
                    "the server's reading of a text alike.",
                    hint="Write the name of the setting as a literal, or use SET.",
                )
            self.set_config.append(("search_path", None, False))
            return False
        if not isinstance(local, bool):
            local = False
        self.set_config.append((setting, value if isinstance(value, str) else None, local))
        return True

    def is_on_path(self, schema: str) -> bool:
        """May an unqualified name mean an object of this schema?"""
        return self._path is None or schema in self._path

    # -- operators

    def operator(self, names: list[str]) -> None:
        symbol = names[-1]
        if len(names) > 1 and names[-2].startswith(TEMPORARY_SCHEMA):
            self.collected.function(f"{TEMPORARY_SCHEMA}.operator({symbol})")
            return
        schemas = self.catalog.operator_schemas(symbol)
        if len(names) == 1:
            schemas = tuple(schema for schema in schemas if self.is_on_path(schema))
        else:
            schemas = tuple(schema for schema in schemas if schema == names[-2])
        for schema in schemas:
            self.collected.function(f"{schema}.operator({symbol})")

    # -- types

    def resolve_type(self, type_name: Node) -> int:
        """OID of a plain type name without modifiers or array bounds; 0 when it is not certain which it means."""
        if type_name.keys() & {"typmods", "arrayBounds", "setof", "pct_type"}:
            return 0
        names = [name["String"].get("sval", "") for name in type_name.get("names", ())]
        if not names or (len(names) == 1 and self._is_shadowed(names[0])):
            return 0
        candidates = self._types_named(names)
        return candidates[0] if len(candidates) == 1 else 0

    def _is_shadowed(self, name: str) -> bool:
        """May a temporary type have this name? The server looks for types in pg_temp before pg_catalog.

        A table has a row type and that an array type: its name with underscores before it.
        """
        bare = name.lstrip("_")
        return any(found == ANY_TYPE or found.lstrip("_") == bare for found in self.state.temporary_names)

    def _types_named(self, names: list[str]) -> list[int]:
        rows = self.catalog.types(names[-1])
        if len(names) > 1:
            return [row.oid for row in rows if row.schema == names[-2]]
        return [row.oid for row in rows if self.is_on_path(row.schema)]

    def cast(self, type_name: Node) -> None:
        """Note a cast to this type when a written function stands behind it."""
        names = [name["String"].get("sval", "") for name in type_name.get("names", ())]
        if len(names) > 1 and names[-2].startswith(TEMPORARY_SCHEMA):
            self.collected.doubt(f'{HIDDEN}what a cast to the temporary type "{names[-1]}" runs')
        for oid in self._types_named(names) if names else ():
            row = self.catalog.type_by_oid(oid)
            if row is not None and self.catalog.has_written_cast(oid):
                self.collected.function(f"{row.schema}.cast({row.name})")


def effective_path(search_path: tuple[str, ...], login_role: str) -> tuple[str, ...]:
    """The schemas in the order of look-up: pg_catalog first unless listed, "$user" replaced."""
    schemas = tuple(login_role if name == "$user" else name for name in search_path)
    return schemas if SYSTEM_SCHEMA in schemas else (SYSTEM_SCHEMA, *schemas)


def _literal(node: Node) -> str | bool | None:
    if "TypeCast" in node and node["TypeCast"]["typeName"].get("names") == [{"String": {"sval": "text"}}]:
        node = node["TypeCast"]["arg"]
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    if "boolval" in constant:
        return bool(constant["boolval"].get("boolval", False))
    return None
