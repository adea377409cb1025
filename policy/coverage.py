"""Is everything that a statement does allowed by something? Silence is deny.

Owns the question of cover: each direct access, command, function and setting of a statement must lie inside
an allow rule (or a hold rule that holds the statement anyway), or inside one of the two built-in rules.
Called by `policy.evaluate`. What deny rules and masks say is decided elsewhere and beats all of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from policy.commands import COVERED_BY_CONTENT, SESSION_COMMANDS
from policy.conditions.answers import Answers
from policy.conditions.bundles import Bundle
from policy.decision import Effect, Reason
from policy.facts import RelationAccess, SqlFacts
from policy.rules import UNKNOWN_SCHEMA, SqlRule
from policy.sql_index import RuleIndex
from policy.system_relations import is_harmless
from policy.view import View

BUILT_IN_SESSION = "built-in: session"
BUILT_IN_CATALOG = "built-in: catalog"
_READING_NOTHING = frozenset({"select", "values"})
_ASK = "ask the owners of the policy for a rule that allows"


class Coverage:
    """What covers one statement. `used`: names of the rules that do; `gaps`: a reason for each part left."""

    def __init__(
        self,
        view: View,
        facts: SqlFacts,
        commands: Sequence[str],
        holds: Sequence[SqlRule],
        answers: Answers,
    ) -> None:
        self._answers = answers
        self._index: RuleIndex = view.rules[Effect.ALLOW]
        self._facts = facts
        self._holds = holds
        # A function inside a view could read what a mask or a rule about columns hides.
        hides = not view.masks.is_empty or view.refuses_columns
        self._hidden = facts.hidden_functions if hides else ()
        self._direct = [access for access in facts.accesses if not access.via]
        self._plain = [access for access in self._direct if not _is_catalog_read(access)]
        self._inner = [
            command
            for command in commands
            if command not in SESSION_COMMANDS and command not in COVERED_BY_CONTENT
        ]
        self.used: dict[str, None] = {}
        self.gaps: list[Reason] = [
            *self._access_gaps(),
            *self._command_gaps(commands),
            *self._function_gaps(),
            *self._setting_gaps(),
        ]

    def _covering(self, near: Iterable[Bundle[SqlRule]], covers: Callable[[SqlRule], bool]) -> SqlRule | None:
        """The first of the allow rules `near` that covers, or else of the rules that hold the statement anyway."""
        rule = self._answers.covering(bundle for bundle in near if covers(bundle.first))
        if rule is None and self._holds:
            rule = self._answers.covering_of([hold for hold in self._holds if covers(hold)])
        if rule is not None:
            self.used[rule.name] = None
        return rule

    def _access_gaps(self) -> Iterator[Reason]:
        for access in self._direct:
            if _is_catalog_read(access):
                self.used[BUILT_IN_CATALOG] = None
                continue
            if self._covering(self._index.covering_access(access), partial(_covers, access)) is None:
                yield self._access_gap(access)

    def _access_gap(self, access: RelationAccess) -> Reason:
        what = f"`{access.command}` on {_relation(access)}"
        if not access.schema:
            return Reason(
                "",
                f"the relation {access.name} cannot be told apart from others of its name",
                f"Write its schema, as in `schema.{access.name}`.",
            )
        outside = self._outside(access)
        if outside:
            listed = ", ".join(outside[:20])
            return Reason(
                "", f"no rule allows {what} with its columns {listed}", f"Leave out {listed}, or {_ASK} them."
            )
        return Reason("", f"no rule allows {what}", f"{_capital(_ASK)} {what}.")

    def _outside(self, access: RelationAccess) -> tuple[str, ...]:
        """The fewest columns of the access that a rule about its relation leaves out; () without such a rule."""
        if not access.columns:
            return ()
        is_about = partial(_lists_columns_for, access)
        listing = [bundle.first for bundle in self._index.listing_columns(access) if is_about(bundle.first)]
        outsides = [rule.columns_outside(access) for rule in listing]
        if any(is_about(bundle.first) for bundle in self._index.with_columns(access)):
            outsides.append(access.columns)  # what all the others leave out
        outsides.extend(rule.columns_outside(access) for rule in self._holds if is_about(rule))
        return min((columns for columns in outsides if columns), key=len, default=())

    def _command_gaps(self, commands: Sequence[str]) -> Iterator[Reason]:
        accessed = {access.command for access in self._direct}
        for command in commands:
            if command in accessed:
                continue  # every access by it has been looked at
            if command in SESSION_COMMANDS or command in COVERED_BY_CONTENT or command in _READING_NOTHING:
                self.used[BUILT_IN_SESSION] = None
                continue
            near = self._index.covering_command(command, self._relation, self._facts.functions)
            if self._covering(near, partial(self._covers_command, command)) is None:
                yield Reason("", f"no rule allows `{command}`", f"{_capital(_ASK)} `{command}`.")

    @property
    def _relation(self) -> tuple[str, str] | None:
        """One of the relations around, if there is any."""
        return (self._plain[0].schema, self._plain[0].name) if self._plain else None

    def _covers_command(self, command: str, rule: SqlRule) -> bool:
        if command not in rule.covered:
            return False
        if rule.is_about_relations:
            # A command without an access of its own: the relations around it decide, and there must be one.
            return bool(self._plain) and self._relations_inside(rule) and self._functions_inside(rule)
        return rule.names_commands and self._functions_inside(rule)

    def _relations_inside(self, rule: SqlRule) -> bool:
        return all(rule.is_inside(access) for access in self._plain)

    def _functions_inside(self, rule: SqlRule) -> bool:
        return rule.functions is None or all(
            rule.names_function(name, certain=True) for name in self._facts.functions
        )

    def _commands_inside(self, rule: SqlRule) -> bool:
        if not rule.names_commands:
            return True
        return all(command in rule.covered for command in self._inner or [self._facts.command])

    def _function_gaps(self) -> Iterator[Reason]:
        command = (self._inner or [self._facts.command])[0]
        for name in dict.fromkeys((*self._facts.functions, *self._hidden)):
            near = self._index.covering_function(name, command, self._relation)
            if self._covering(near, partial(self._covers_function, name)) is None:
                shown = name.removeprefix(UNKNOWN_SCHEMA)
                if name not in self._facts.functions:
                    shown += ", which a view of the statement calls,"
                yield Reason(
                    "",
                    f"function {shown} is not on the list of harmless functions and no rule allows it",
                    f"Leave the call out, or {_ASK} function {name.removeprefix(UNKNOWN_SCHEMA)}.",
                )

    def _covers_function(self, name: str, rule: SqlRule) -> bool:
        return (
            rule.names_function(name, certain=True)
            and self._commands_inside(rule)
            and self._relations_inside(rule)
        )

    def _setting_gaps(self) -> Iterator[Reason]:
        command = (self._inner or [self._facts.command])[0]
        for name in self._facts.settings:
            near = self._index.covering_setting(name, command)
            if self._covering(near, partial(self._covers_setting, name)) is None:
                yield Reason(
                    "",
                    f"no rule allows a change of the setting {name}",
                    f"Leave the setting as it is, or {_ASK} setting {name}.",
                )

    def _covers_setting(self, name: str, rule: SqlRule) -> bool:
        return rule.names_setting(name) and self._commands_inside(rule)


def _covers(access: RelationAccess, rule: SqlRule) -> bool:
    return rule.covers(access)


def _lists_columns_for(access: RelationAccess, rule: SqlRule) -> bool:
    return rule.columns is not None and access.command in rule.covered and rule.is_inside(access)


def _is_catalog_read(access: RelationAccess) -> bool:
    return access.command == "select" and is_harmless(access.schema, access.name)


def _relation(access: RelationAccess) -> str:
    return f"{access.schema}.{access.name}" if access.schema else access.name


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
