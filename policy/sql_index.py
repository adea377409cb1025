"""Rules about SQL of one effect, found by what a statement does, so that the others need not be looked at.

Finds candidates by the relations, columns, commands, functions and settings that a rule lists, and its answers are
those of the rules: who asks compares each candidate. Built once for each set of roles at a target (`policy.view`),
asked by `policy.evaluate` (which rules touch a statement) and `policy.coverage` (which cover it).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from policy.commands import WRAPPING_COMMANDS
from policy.conditions.bundles import Bundle, bundled, in_order, merged
from policy.facts import RelationAccess, SqlFacts
from policy.narrowing import Narrowing, Need, Needs, Shown
from policy.rules import SqlRule, columns_used, readings_of_function

Bundles = tuple[Bundle[SqlRule], ...]
_Texts = Collection[Hashable] | None

SCHEMA, RELATION, COLUMN, COMMAND = "schema", "relation", "column", "command"
FUNCTION, FUNCTION_SCHEMA, SETTING = "function", "schema of a function", "setting"


class RuleIndex:
    """Rules of one effect for one set of roles at one target, in the document's order."""

    def __init__(self, rules: Iterable[SqlRule]) -> None:
        self.rules = tuple(rules)
        self.bundles = bundled(self.rules)

    def prepare(self) -> None:
        """Makes what is otherwise made when it is first needed."""
        _ = (self._touching_relations, self._touching_rest, self._covering_relations, self._covering_commands)

    # --- touching: deny and hold ---

    def concerning(self, facts: SqlFacts, commands: Iterable[str]) -> Bundles:
        """Those that could touch the statement."""
        if not self.rules:
            return ()
        functions, settings = (*facts.functions, *facts.hidden_functions), facts.settings
        found: list[Bundle[SqlRule]] = []
        for access in facts.accesses:
            shown = _Shown(functions, settings, (access.command,)).of_access(access, facts)
            found.extend(self._touching_relations.find(shown))
        done = {*commands, *(access.command for access in facts.accesses)}
        found.extend(self._touching_rest.find(_Shown(functions, settings, done)))
        return in_order(found)

    @cached_property
    def _touching_relations(self) -> Narrowing[Bundle[SqlRule]]:
        def needs(rule: SqlRule) -> dict[Hashable, Need]:
            touched = rule.touched
            is_certain = touched is not None and touched.isdisjoint(WRAPPING_COMMANDS)
            return {**_columns(rule), **(_commands(touched) if is_certain else {}), **_others(rule)}

        return _by_relation((bundle for bundle in self.bundles if bundle.first.is_about_relations), needs)

    @cached_property
    def _touching_rest(self) -> Narrowing[Bundle[SqlRule]]:
        rest = (bundle for bundle in self.bundles if not bundle.first.is_about_relations)
        return Narrowing(
            ({**_commands(bundle.first.touched), **_others(bundle.first)}, bundle) for bundle in rest
        )

    # --- covering: allow and hold; in the document's order, as far as somebody looks ---

    def covering_access(self, access: RelationAccess) -> Iterator[Bundle[SqlRule]]:
        """Those that could cover the access, all of its columns among them."""
        columns = access.columns
        shown = _Shown((), (), (access.command,), relation=(access.schema, access.name))
        shown.columns = () if columns is None else columns[:1] or None
        return merged(self._covering_relations.rows(shown))

    def listing_columns(self, access: RelationAccess) -> Iterator[Bundle[SqlRule]]:
        """Of the rules that list columns, those that could list one of the access."""
        shown = _Shown((), (), (access.command,), relation=(access.schema, access.name))
        shown.columns = access.columns or ()
        return merged(self._covering_columns.rows(shown))

    def with_columns(self, access: RelationAccess) -> Iterator[Bundle[SqlRule]]:
        """Of the rules that list columns, those that could be about the relation, in no order."""
        return self._covering_columns.find(
            _Shown((), (), (access.command,), relation=(access.schema, access.name))
        )

    @cached_property
    def _covering_relations(self) -> Narrowing[Bundle[SqlRule]]:
        able = (bundle for bundle in self.bundles if bundle.first.can_cover_relations)
        return _by_relation(able, lambda rule: {**_columns(rule), **_commands(rule.covered)})

    @cached_property
    def _covering_columns(self) -> Narrowing[Bundle[SqlRule]]:
        listing = (bundle for bundle in self.bundles if bundle.first.columns is not None)
        return _by_relation(listing, lambda rule: {**_columns(rule), **_commands(rule.covered)})

    def covering_command(
        self, command: str, relation: tuple[str, str] | None, functions: Sequence[str]
    ) -> Iterator[Bundle[SqlRule]]:
        """Those that list this command, and could cover it. relation: one of those around it, if there is one."""
        shown = _Shown(functions[:1] or None, None, (command,), relation=relation or ())
        return merged(self._covering_commands.rows(shown))

    @cached_property
    def _covering_commands(self) -> Narrowing[Bundle[SqlRule]]:
        able = (
            bundle
            for bundle in self.bundles
            if bundle.first.is_about_relations or bundle.first.names_commands
        )
        return _by_relation(able, lambda rule: {**_commands(rule.covered), **_functions(rule)})

    def covering_function(
        self, name: str, command: str, relation: tuple[str, str] | None
    ) -> Iterator[Bundle[SqlRule]]:
        """Those that list this function ("schema.name"). command, relation: one of those around it."""
        return merged(self._covering_functions.rows(_Shown((name,), None, (command,), relation=relation)))

    @cached_property
    def _covering_functions(self) -> Narrowing[Bundle[SqlRule]]:
        listing = (bundle for bundle in self.bundles if bundle.first.functions is not None)
        return _by_relation(listing, lambda rule: {**_functions(rule), **_named_commands(rule)})

    def covering_setting(self, name: str, command: str) -> Iterator[Bundle[SqlRule]]:
        return merged(self._covering_settings.rows(_Shown(None, (name,), (command,))))

    @cached_property
    def _covering_settings(self) -> Narrowing[Bundle[SqlRule]]:
        listing = (bundle for bundle in self.bundles if bundle.first.settings is not None)
        return Narrowing(
            ({(SETTING,): bundle.first.settings or (), **_named_commands(bundle.first)}, bundle)
            for bundle in listing
        )


# --- what rules need ---


def _by_relation(
    bundles: Iterable[Bundle[SqlRule]], needs: Callable[[SqlRule], Mapping[Hashable, Need]]
) -> Narrowing[Bundle[SqlRule]]:
    """Under each of the relations that a rule is about, with what else it needs."""
    return Narrowing(entry for bundle in bundles for entry in _entries(bundle, needs(bundle.first)))


def _entries(
    bundle: Bundle[SqlRule], rest: Mapping[Hashable, Need]
) -> Iterator[tuple[Needs, Bundle[SqlRule]]]:
    rule = bundle.first
    for pattern in rule.relation_patterns() if rule.is_about_relations else (None,):
        found: dict[Hashable, Need] = {}
        for kind, glob in zip((SCHEMA, RELATION), () if pattern is None else pattern.parts, strict=False):
            if not glob.is_any:
                found[(kind,)] = (glob,)
        yield {**found, **rest}, bundle


def _columns(rule: SqlRule) -> dict[Hashable, Need]:
    return {} if rule.columns is None else {(COLUMN,): tuple(pattern.parts[-1] for pattern in rule.columns)}


def _commands(commands: frozenset[str] | None) -> dict[Hashable, Need]:
    return {} if commands is None else {(COMMAND,): tuple(commands)}


def _named_commands(rule: SqlRule) -> dict[Hashable, Need]:
    return _commands(rule.covered) if rule.names_commands else {}


def _functions(rule: SqlRule) -> dict[Hashable, Need]:
    if rule.functions is None:
        return {}
    return {
        (FUNCTION,): tuple(pattern.parts[1] for pattern in rule.functions),
        (FUNCTION_SCHEMA,): tuple(pattern.parts[0] for pattern in rule.functions),
    }


def _others(rule: SqlRule) -> dict[Hashable, Need]:
    return {**_functions(rule), **({} if rule.settings is None else {(SETTING,): rule.settings})}


# --- what a statement shows ---


class _Shown:
    """See `policy.narrowing`. None: it could be any. relation: schema and name, () for none."""

    __slots__ = ("_commands", "_functions", "_relation", "_settings", "_used", "columns")

    def __init__(
        self,
        functions: Sequence[str] | None,
        settings: Sequence[str] | None,
        commands: Collection[str],
        *,
        relation: Sequence[str] | None = None,
    ) -> None:
        self._functions = functions
        self._settings = settings
        self._commands = commands
        self._relation = relation
        self._used: tuple[RelationAccess, SqlFacts] | None = None
        self.columns: Collection[str] | None = None

    def of_access(self, access: RelationAccess, facts: SqlFacts) -> Shown:
        """For touching: an unresolved schema could be any, and every column counts that the statement uses."""
        self._relation = (access.schema, access.name)
        self._used = None if access.columns is None else (access, facts)
        return self

    def __call__(self, dimension: Hashable) -> _Texts:
        match dimension:
            case ("relation",):
                return None if self._relation is None else self._relation[1:]
            case ("schema",):
                return self._schema()
            case ("column",):
                return self._all_columns()
            case ("command",):
                return self._commands
            case ("setting",):
                return None if self._settings is None else [name.lower() for name in self._settings]
            case ("function",):
                return self._function_names(1)
            case ("schema of a function",):
                return self._function_names(0)
        return None

    def _schema(self) -> _Texts:
        if self._relation is None or not self._relation:
            return self._relation
        return self._relation[:1] if self._relation[0] else None

    def _all_columns(self) -> _Texts:
        if self._used is not None:
            access, facts = self._used
            self.columns = {*(access.columns or ()), *columns_used(access, facts)}
            self._used = None
        return self.columns

    def _function_names(self, part: int) -> _Texts:
        if self._functions is None:
            return None
        readings = [reading for name in self._functions for reading in readings_of_function(name)]
        if part == 0 and any(not schema for schema, _ in readings):
            return None
        return {reading[part] for reading in readings}
