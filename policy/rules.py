"""The policy document compiled for judging: selectors, roles, access entries, rules, masks.

Owns what one entry means by itself: does this selector mean that target, does this rule touch that access,
does it cover it. Which entries speak about a subject, and what follows, is `policy.view` and
`policy.evaluate`.

Two questions are asked of a rule, and they differ where something is not known. Touching (deny, hold) counts
what may be meant: an unresolved schema, columns that are not known. Covering (allow, hold) counts only what
is certain.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from policy.commands import WRAPPING_COMMANDS
from policy.decision import Effect, SessionLimits
from policy.facts import RelationAccess, SqlFacts, Subject, Target
from policy.json_paths import JsonPath
from policy.masking import Mask
from policy.patterns import Glob, NamePattern


@dataclass(frozen=True, slots=True, eq=False)
class Selector:
    """Which targets: all of what is given must hold. `labels`: key and the values that will do."""

    labels: tuple[tuple[str, frozenset[str]], ...] = ()
    protocol: str | None = None
    names: tuple[Glob, ...] = ()

    def matches(self, target: Target) -> bool:
        if self.protocol is not None and target.protocol != self.protocol:
            return False
        if self.names and not any(glob.matches(target.name) for glob in self.names):
            return False
        return all(target.labels.get(key) in values for key, values in self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Membership:
    """Who has a role: members of any of `groups`, holders of any of `claims` (key and the values that do).

    The claim `name` means the subject's own name and never a claim that a token calls so.
    """

    groups: frozenset[str]
    claims: tuple[tuple[str, frozenset[str]], ...]

    def includes(self, subject: Subject) -> bool:
        if not self.groups.isdisjoint(subject.groups):
            return True
        return any(not values.isdisjoint(claim_values(subject, key)) for key, values in self.claims)


def claim_values(subject: Subject, key: str) -> Sequence[str]:
    if key == "name":
        return (subject.name,)
    value = subject.claims.get(key, ())
    return (value,) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, eq=False)
class GrantTerms:
    approvers: tuple[str, ...]
    approvals: int
    max_s: float


@dataclass(frozen=True, slots=True, eq=False)
class AccessEntry:
    """One entry of `access`. `logins` None is any login; `grant` None is standing access."""

    name: str
    roles: frozenset[str]
    targets: Selector
    logins: frozenset[str] | None
    limits: SessionLimits
    grant: GrantTerms | None

    def has_login(self, login: str) -> bool:
        return self.logins is None or login in self.logins


@dataclass(frozen=True, slots=True, eq=False)
class MaskEntry:
    """One mask by column. It does not apply to who has a role of `unless`."""

    mask: Mask
    columns: tuple[NamePattern, ...]
    unless: frozenset[str]
    targets: Selector | None

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return self.unless.isdisjoint(roles) and (self.targets is None or self.targets.matches(target))


@dataclass(frozen=True, slots=True, eq=False)
class JsonMaskEntry:
    """One mask by paths into JSON bodies. on: "response", "request" or both."""

    mask: Mask
    paths: tuple[JsonPath, ...]
    on: frozenset[str]
    unless: frozenset[str]
    targets: Selector | None

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return self.unless.isdisjoint(roles) and (self.targets is None or self.targets.matches(target))


@dataclass(frozen=True, slots=True, eq=False)
class DetectMaskEntry:
    """One mask by detectors. kinds: names of built-in detectors or of the document's own patterns.

    mask: None where the method is `token`, which every kind of detector has a text of its own for.
    """

    name: str
    mask: Mask | None
    kinds: tuple[str, ...]
    on: frozenset[str]
    unless: frozenset[str]
    targets: Selector | None

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return self.unless.isdisjoint(roles) and (self.targets is None or self.targets.matches(target))


class ConditionError(Exception):
    """A condition cannot be worked out: it reads what is not there, or of another kind, or is too much work."""


class Condition(Protocol):
    """The `when` of a rule, compiled: what a rule asks of it.

    text: as it stands in the document. names: the dotted names that it reads, as in "http.body.amount". `holds` raises
    ConditionError; who asks counts that as what refuses more: true in a deny or hold rule, false in an allow rule.

    needs: it is false, and nothing else, where one of these is not met (`policy.narrowing`, `policy.conditions.needs`)
    and the facts that it reads, `values`, weigh no more than `heaviest` together. whole: set where it is one comparison
    and nothing else; where its fact is not known, it fails in the same words as all of the same `whole`.
    """

    @property
    def text(self) -> str: ...

    @property
    def names(self) -> Collection[str]: ...

    @property
    def needs(self) -> Mapping[Hashable, Sequence[Hashable]]: ...

    @property
    def values(self) -> Collection[tuple[str, ...]]: ...

    @property
    def heaviest(self) -> int: ...

    @property
    def whole(self) -> Hashable | None: ...

    def holds(self, variables: Mapping[str, object]) -> bool: ...


@dataclass(frozen=True, slots=True, eq=False)
class SqlRule:
    """One rule about SQL.

    touched: the commands that its `commands` mean, None for every one. covered: those it can permit, that is
    without the ones that must be named and are not. `columns`: patterns of one part (column) or three. shape: equal for
    rules that say the same but for their condition.
    """

    order: int
    name: str
    effect: Effect
    roles: frozenset[str] | None
    targets: Selector | None
    touched: frozenset[str] | None
    covered: frozenset[str]
    relations: tuple[NamePattern, ...] | None
    columns: tuple[NamePattern, ...] | None
    functions: tuple[NamePattern, ...] | None
    settings: tuple[Glob, ...] | None
    where_absent: bool
    names_commands: bool
    message: str
    approvers: tuple[str, ...]
    approvals: int
    condition: Condition | None = None
    shape: Hashable = ()

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return (self.roles is None or not self.roles.isdisjoint(roles)) and (
            self.targets is None or self.targets.matches(target)
        )

    @property
    def is_about_relations(self) -> bool:
        return self.relations is not None or self.columns is not None or self.where_absent

    @property
    def can_cover_relations(self) -> bool:
        """A rule that lists only functions or settings (and commands) permits no relation."""
        return self.is_about_relations or (self.functions is None and self.settings is None)

    def relation_patterns(self) -> tuple[NamePattern, ...]:
        """The relations the rule is about, as two-part patterns; wider than it where columns decide too."""
        if self.relations is not None:
            return self.relations
        wide = [pattern for pattern in self.columns or () if len(pattern.parts) == 3]
        if wide and len(wide) == len(self.columns or ()):
            return tuple(NamePattern(pattern.text, pattern.parts[:2]) for pattern in wide)
        return (ANY_RELATION,)

    # --- touching: deny and hold ---

    def touches_command(self, command: str) -> bool:
        return self.touched is None or command in self.touched

    def touches(self, access: RelationAccess, facts: SqlFacts) -> bool:
        """Do commands, relations, columns and where of the rule all mean this one access?"""
        if self.where_absent and access.bounded:
            return False
        if not self.touches_command(access.command) and not self._touches_wrapper(facts):
            return False
        if self.relations is not None and not any(
            _may_be(pattern, access.schema, access.name) for pattern in self.relations
        ):
            return False
        return self.columns is None or self._touches_columns(access, facts)

    def _touches_wrapper(self, facts: SqlFacts) -> bool:
        """`deny copy_to on shop.orders`: COPY has no access of its own, the SELECT inside it has."""
        return any(
            self.touches_command(command)
            for command in (facts.command, *facts.commands)
            if command in WRAPPING_COMMANDS
        )

    def _touches_columns(self, access: RelationAccess, facts: SqlFacts) -> bool:
        patterns = self.columns or ()
        if access.columns is None:
            return any(
                len(pattern.parts) == 1 or _may_be(pattern, access.schema, access.name)
                for pattern in patterns
            )
        names = {*access.columns, *columns_used(access, facts)}
        return any(
            _column_may_be(pattern, access.schema, access.name, name)
            for pattern in patterns
            for name in names
        )

    # --- covering: allow and hold ---

    def covers(self, access: RelationAccess) -> bool:
        """Is everything about this access inside what the rule lists?"""
        if not self.can_cover_relations or access.command not in self.covered:
            return False
        if self.is_about_relations and not access.schema:
            return False  # a rule about no relation in particular covers also one that nobody knows
        if self.where_absent and access.bounded:
            return False
        if not self.is_inside(access):
            return False
        return self.columns is None or (access.columns is not None and not self.columns_outside(access))

    def is_inside(self, access: RelationAccess) -> bool:
        """Is the relation one the rule is about?"""
        if not self.is_about_relations:
            return True
        return bool(access.schema) and any(
            pattern.matches(access.schema, access.name) for pattern in self.relation_patterns()
        )

    def columns_outside(self, access: RelationAccess) -> tuple[str, ...]:
        """The columns of the access that the rule's list leaves out; () when it has no list."""
        patterns = self.columns
        if patterns is None:
            return ()
        return tuple(
            name
            for name in access.columns or ()
            if not any(_column_is(pattern, access.schema, access.name, name) for pattern in patterns)
        )

    def names_function(self, name: str, *, certain: bool) -> bool:
        """Is "schema.function" one of the rule's? `certain`: one that splits in two ways must fit in both."""
        splits = _splits(name)
        if not splits or name.startswith(UNKNOWN_SCHEMA):
            # Whatever the schema turns out to be, only a pattern that leaves it open means the function for
            # certain.
            bare = name.removeprefix(UNKNOWN_SCHEMA)
            return any(
                pattern.parts[1].matches(bare) and (pattern.parts[0].is_any or not certain)
                for pattern in self.functions or ()
            )
        found = [any(pattern.matches(*split) for pattern in self.functions or ()) for split in splits]
        return all(found) if certain else any(found)

    def names_setting(self, name: str) -> bool:
        return any(glob.matches(name.lower()) for glob in self.settings or ())


UNKNOWN_SCHEMA = "?."  # a function that the analysis could not find in the catalog
ANY_RELATION = NamePattern("*.*", (Glob("*"), Glob("*")))


def _splits(name: str) -> list[tuple[str, str]]:
    """ "a.b" as [("a", "b")]; every reading of a name with more dots; [] without a schema."""
    return [
        (name[:index], name[index + 1 :])
        for index, character in enumerate(name)
        if character == "." and 0 < index < len(name) - 1
    ]


def readings_of_function(name: str) -> list[tuple[str, str]]:
    """Schema and name, in every reading that a rule is compared with; "" for a schema that could be any."""
    splits = _splits(name)
    if not splits or name.startswith(UNKNOWN_SCHEMA):
        return [("", name.removeprefix(UNKNOWN_SCHEMA))]
    return splits


def _may_be(pattern: NamePattern, schema: str, relation: str) -> bool:
    """Could the first two parts of `pattern` mean this relation? An unresolved schema could be any."""
    return (not schema or pattern.parts[0].matches(schema)) and pattern.parts[1].matches(relation)


def _column_may_be(pattern: NamePattern, schema: str, relation: str, column: str) -> bool:
    if not pattern.parts[-1].matches(column):
        return False
    return len(pattern.parts) == 1 or _may_be(pattern, schema, relation)


def _column_is(pattern: NamePattern, schema: str, relation: str, column: str) -> bool:
    return pattern.matches(column) if len(pattern.parts) == 1 else pattern.matches(schema, relation, column)


def columns_used(access: RelationAccess, facts: SqlFacts) -> Iterable[str]:
    """Columns of the access's relation that the statement uses, reached the same way."""
    return (
        use.column.column
        for use in facts.uses
        if use.column.relation == access.name and use.column.schema == access.schema and use.via == access.via
    )
