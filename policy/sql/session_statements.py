"""Statements about the session itself: settings, transactions, notifications; and what they change in it."""

from __future__ import annotations

from typing import Final

from policy.facts import Output, SqlFacts
from policy.sql.classify import DISCARDS, TRANSACTIONS
from policy.sql.copying import Copying
from policy.sql.parse import Node
from policy.sql.refusal import SqlRefused, unknown_construct
from policy.sql.settings import SPECIAL_COMMANDS, check_pinned, is_told, parse_search_path
from policy.sql.snapshot import Catalog
from policy.sql.state import SessionState, TransactionControl

_LONGEST_NAME_BYTES = 63
_CHANGES_PATH: Final = frozenset({"set", "set_role", "set_session_authorization"})
_WRITING: Final = frozenset({"insert", "update", "delete", "merge", "copy_from", "create_rule", "alter_view"})


class SessionStatements(Copying):
    """`effect` gathers the fields of the SessionEffect; `outputs` None: the statement returns no rows."""

    def __init__(self, catalog: Catalog, state: SessionState) -> None:
        super().__init__(catalog, state)
        self.temporary = []
        self.effect: dict[str, object] = {}
        self.outputs: tuple[Output, ...] | None = None

    # -- settings

    def set_setting(self, body: Node, text: str) -> str:
        kind = body["kind"]
        name = str(body.get("name", "")).lower()
        is_local = bool(body.get("is_local"))
        match kind:
            case "VAR_RESET_ALL":
                self.effect.update(changes_search_path=True, resets_search_path=True)
                return "reset_all"
            case "VAR_SET_MULTI":
                return self.set_transaction(body, name)
            case "VAR_SET_CURRENT":
                self.collected.settings[name] = None
                self.path_changes(name, None, is_local)
                return "set"
            case "VAR_RESET" | "VAR_SET_DEFAULT":
                if is_told(name):
                    self.collected.settings[name] = None
                if name == "search_path":
                    self.effect.update(changes_search_path=True, resets_search_path=True, is_local=is_local)
                if name in SPECIAL_COMMANDS:
                    self.role_changes()
                    if kind == "VAR_SET_DEFAULT":
                        return SPECIAL_COMMANDS[name]
                return "reset" if kind == "VAR_RESET" else "set"
            case "VAR_SET_VALUE":
                return self.set_value(name, body.get("args", []), is_local)
            case _:
                raise unknown_construct(f"the SET {kind}")

    def set_value(self, name: str, arguments: list[Node], is_local: bool) -> str:
        values = [_setting_value(argument) for argument in arguments]
        known = [value for value in values if value is not None]
        is_known = len(known) == len(values)
        check_pinned(name, ", ".join(known) if is_known else "?")
        if name == "search_path":
            fits = is_known and all(len(value.encode()) <= _LONGEST_NAME_BYTES for value in known)
            self.path_changes(name, tuple(known) if fits else None, is_local)
        if name in SPECIAL_COMMANDS:
            self.role_changes()
            return SPECIAL_COMMANDS[name]
        if is_told(name):
            self.collected.settings[name] = None
        return "set"

    def role_changes(self) -> None:
        """The schema of "$user" in the search path is another one from here on."""
        self.effect.update(changes_search_path=True, search_path=None)

    def set_transaction(self, body: Node, name: str) -> str:
        for argument in body.get("args", ()):
            element = argument.get("DefElem")
            if name == "transaction snapshot" or element is None:
                self.collected.settings["transaction_snapshot"] = None
            elif not element["defname"].startswith("transaction_"):
                raise unknown_construct(f"the transaction mode {element['defname']}")
        return "set_transaction"

    def path_changes(self, name: str, path: tuple[str, ...] | None, is_local: bool) -> None:
        if name == "search_path":
            self.effect.update(changes_search_path=True, search_path=path, is_local=is_local)

    def apply_set_config(self) -> None:
        """set_config(literal, literal, literal) anywhere in the statement is a SET."""
        for raw, value, is_local in self.set_config:
            name = (raw or "").lower()
            check_pinned(name, "?" if value is None else value)
            if name in SPECIAL_COMMANDS:
                self.role_changes()
                self.collected.command(SPECIAL_COMMANDS[name])
            elif is_told(name):
                self.collected.settings[name] = None
            if name == "search_path":
                self.collected.command("set")  # so that whoever runs these facts later knows
                several = "changes_search_path" in self.effect
                path = None if value is None or several else parse_search_path(value)
                self.path_changes(name, path, is_local)

    def refuse_hidden_settings(self) -> None:
        """A definition that changes a setting would do so later, out of sight."""
        if self.set_config and self.effect.get("changes_catalog"):
            raise SqlRefused(
                "the gateway does not pass on definitions that call set_config",
                "42501",
                detail="No rule can allow it: the setting would change later, out of sight of the gateway.",
                hint="Change settings with SET, in a statement of its own.",
            )

    def sets_path_again(self, facts: SqlFacts) -> None:
        """A prepared statement or a cursor may hold set_config: run, it changes the path of what follows."""
        if not _CHANGES_PATH.isdisjoint(facts.commands):
            self.path_changes("search_path", None, False)

    def refuse_changed_settings(self) -> None:
        """An UPDATE of pg_settings (or of a view of it) is a SET whose name cannot be told."""
        for access in self.collected.accesses:
            if (access.schema, access.name) == ("pg_catalog", "pg_settings") and access.command in _WRITING:
                raise SqlRefused(
                    "the gateway does not pass on changes of pg_settings",
                    "42501",
                    detail="No rule can allow it: it cannot be told which setting changes.",
                    hint="Change a setting with SET.",
                )

    def show(self, body: Node, text: str) -> str:
        name = str(body.get("name", ""))
        if name.lower() == "all":
            self.outputs = (Output("name"), Output("setting"), Output("description"))
        else:
            self.outputs = (Output(name),)
        return "show"

    def set_constraints(self, body: Node, text: str) -> str:
        return "set_constraints"

    # -- transactions, notifications, the session

    def transaction(self, body: Node, text: str) -> str:
        if body.get("kind") not in TRANSACTIONS:
            raise unknown_construct(f"the transaction statement {body.get('kind')}")
        command, control = TRANSACTIONS[body["kind"]]
        self.effect["transaction"] = TransactionControl(control)
        return command

    def discard(self, body: Node, text: str) -> str:
        if body.get("target") not in DISCARDS:
            raise unknown_construct(f"the DISCARD {body.get('target')}")
        what = DISCARDS[body["target"]]
        self.effect["discards"] = what
        if what == "all":
            self.effect.update(
                deallocates="*",
                closes="*",
                unlistens="*",
                changes_search_path=True,
                resets_search_path=True,
            )
        return f"discard_{what}"

    def listen(self, body: Node, text: str) -> str:
        self.effect["listens"] = body["conditionname"]
        return "listen"

    def unlisten(self, body: Node, text: str) -> str:
        self.effect["unlistens"] = body.get("conditionname", "*")
        return "unlisten"

    def notify(self, body: Node, text: str) -> str:
        return "notify"


def _setting_value(node: Node) -> str | None:
    """The text of a value in SET, None when it is more than a constant."""
    constant = node.get("A_Const")
    if constant is None:
        return None
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "fval" in constant:
        return str(constant["fval"].get("fval", ""))
    return None
