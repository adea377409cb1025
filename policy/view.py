"""The part of a document that speaks about one set of roles at one target, indexed for judging.

Built once for each combination and kept with the document, so that an operation is judged against the rules
that can concern it and not against all of them. Called by `policy.evaluate` and `policy.ssh.evaluate`. Pure but
for what it remembers, which follows from the document alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Protocol, TypeVar, cast

from policy.applicability import Applicable, Entry, RoleIndex
from policy.decision import Effect
from policy.detectors import Detection
from policy.document import PolicyDocument
from policy.facts import ColumnName, Subject, Target
from policy.http_rules.index import HttpRules
from policy.masking import Mask
from policy.pattern_index import PatternIndex
from policy.patterns import NamePattern
from policy.rules import AccessEntry, DetectMaskEntry, JsonMaskEntry, MaskEntry, SqlRule
from policy.sql_index import RuleIndex
from policy.ssh_rules.index import SshRuleIndex
from policy.system_relations import is_harmless

MAX_VIEWS = 1024
MAX_PREPARED = 64
MAX_REMEMBERED = 8192

KeptT = TypeVar("KeptT")


class Ordered(Entry, Protocol):
    """A rule, as far as its view goes."""

    @property
    def order(self) -> int: ...

    @property
    def effect(self) -> Effect: ...


RuleT = TypeVar("RuleT", bound=Ordered)


def roles_of(document: PolicyDocument, subject: Subject) -> frozenset[str]:
    """The roles whose groups or claims the subject has."""
    return _kept(document, "roles", lambda: RoleIndex(document.roles)).of(subject)


class MaskSet:
    """The masks that apply to one subject at one target.

    A mask whose pattern leaves the schema open does not reach PostgreSQL's own harmless catalog relations:
    they hold no data of the application, and every client reads them.
    """

    def __init__(self, entries: Iterable[MaskEntry]) -> None:
        self._entries = tuple(entries)
        self._by_name = {entry.mask.name: entry.mask for entry in self._entries}
        pairs = [(pattern, entry.mask) for entry in self._entries for pattern in entry.columns]
        self._patterns = pairs
        self._columns = PatternIndex((pattern, (pattern, mask)) for pattern, mask in pairs)
        self._relations = PatternIndex(
            (NamePattern(pattern.text, pattern.parts[:2]), (pattern, mask)) for pattern, mask in pairs
        )
        self._found: dict[tuple[ColumnName, ...], tuple[Mask, ColumnName] | None] = {}

    @property
    def is_empty(self) -> bool:
        return not self._entries

    def by_name(self, name: str) -> Mask:
        """The mask of a MaskObligation. Raises KeyError for one that does not apply here."""
        return self._by_name[name]

    def for_column(self, names: Iterable[ColumnName]) -> Mask | None:
        """The mask declared on any of `names`; of several the most concealing, then the document's first."""
        found = self.find(tuple(names))
        return found[0] if found is not None else None

    def find(self, names: tuple[ColumnName, ...]) -> tuple[Mask, ColumnName] | None:
        """Like for_column, with the name that the mask is declared on."""
        if not self._entries:
            return None
        try:
            return self._found[names]
        except KeyError:
            pass
        candidates = [(mask, name) for name in names for mask in self._on(name)]
        result = min(candidates, key=_by_concealment) if candidates else None
        if len(self._found) >= MAX_REMEMBERED:
            self._found.clear()
        self._found[names] = result
        return result

    def touches(self, schema: str, relation: str) -> bool:
        """Could a column of this relation be masked? An unresolved schema ("") could be any."""
        return self.on_relation(schema, relation) is not None

    def on_relation(self, schema: str, relation: str) -> Mask | None:
        """The first mask that could be on a column of this relation."""
        if not schema:
            return next(
                (mask for pattern, mask in self._patterns if pattern.parts[1].matches(relation)), None
            )
        reaching = _reaching(schema, relation, self._relations.find(schema, relation))
        return next(iter(reaching), None)

    def _on(self, name: ColumnName) -> Iterable[Mask]:
        if not name.column or name.column == "*":  # any column of the relation may be meant
            mask = self.on_relation(name.schema, name.relation)
            return () if mask is None else (mask,)
        if not name.schema:
            return [
                mask
                for pattern, mask in self._patterns
                if pattern.parts[1].matches(name.relation) and pattern.parts[2].matches(name.column)
            ]
        found = self._columns.find(name.schema, name.relation, name.column)
        return _reaching(name.schema, name.relation, found)


def _reaching(schema: str, relation: str, found: Iterable[tuple[NamePattern, Mask]]) -> Iterable[Mask]:
    harmless = is_harmless(schema, relation)
    return (mask for pattern, mask in found if not harmless or pattern.parts[0].literal is not None)


def _by_concealment(found: tuple[Mask, ColumnName]) -> int:
    return found[0].concealment


class View:
    """What a document says to these roles about this target. What is about one protocol is made when asked for."""

    def __init__(self, document: PolicyDocument, roles: frozenset[str], target: Target) -> None:
        self.roles = roles
        self.access = access_at(document, roles, target)
        self.target = target
        self._document = document
        # What `policy.http.masks` and `policy.detection` have made of the masks below, kept for them.
        self.body_masks: object = None
        self.detections: dict[str, Detection | None] = {}

    @cached_property
    def standing_logins(self) -> frozenset[str] | None:
        """The logins that the roles may use without a grant; None for any."""
        standing = [entry for entry in self.access if entry.grant is None]
        if any(entry.logins is None for entry in standing):
            return None
        return frozenset(login for entry in standing for login in entry.logins or ())

    @cached_property
    def rules(self) -> Mapping[Effect, RuleIndex]:
        """The rules about SQL."""
        rules = self._applicable("rules", self._document.rules)
        return self._shared("rules", rules, lambda: _by_effect(RuleIndex, rules))

    def prepare(self) -> None:
        """Makes what judgements at the target's door need."""
        match self.target.protocol:
            case "postgres":
                for index in self.rules.values():
                    index.prepare()
            case "ssh":
                for ssh_index in self.ssh_rules.values():
                    ssh_index.prepare()
            case "http":
                self.http_rules.prepare()

    @cached_property
    def masks(self) -> MaskSet:
        return MaskSet(entry for entry in self._document.masks if entry.applies(self.roles, self.target))

    @cached_property
    def refuses_columns(self) -> bool:
        return any(rule.columns is not None for rule in self._refusing)

    @cached_property
    def refuses_beyond_commands(self) -> bool:
        return any(rule.is_about_relations or rule.functions is not None for rule in self._refusing)

    @cached_property
    def asks_for_subject(self) -> bool:
        """Does a condition of a rule about SQL read the subject? Then roles do not stand for it."""
        conditions = [rule.condition for index in self.rules.values() for rule in index.rules]
        return any(
            name.startswith("subject.") for condition in conditions if condition for name in condition.names
        )

    @property
    def _refusing(self) -> Iterable[SqlRule]:
        return (*self.rules[Effect.DENY].rules, *self.rules[Effect.HOLD].rules)

    @cached_property
    def ssh_rules(self) -> Mapping[Effect, SshRuleIndex]:
        """The rules about SSH."""
        rules = self._applicable("ssh rules", self._document.ssh_rules)
        return self._shared("ssh rules", rules, lambda: _by_effect(SshRuleIndex, rules))

    @cached_property
    def http_rules(self) -> HttpRules:
        """The rules about HTTP."""
        rules = self._applicable("http rules", self._document.http_rules)
        return self._shared("http rules", rules, lambda: HttpRules(rules))

    def _applicable(self, kind: str, rules: Sequence[RuleT]) -> tuple[RuleT, ...]:
        return _kept(self._document, f"applicable {kind}", lambda: Applicable(rules)).at(
            self.roles, self.target
        )

    def _shared(self, kind: str, rules: Iterable[Ordered], make: Callable[[], KeptT]) -> KeptT:
        """The same index for all views with the same rules: to make one of ten thousand takes a while."""
        key = (kind, tuple(rule.order for rule in rules))
        known = self._document.views.get(key)
        if known is None:
            known = make()
            _remember(self._document, key, known)
        return cast(KeptT, known)

    @cached_property
    def _by_login(self) -> Mapping[str, tuple[AccessEntry, ...]]:
        found: dict[str, list[AccessEntry]] = {
            login: [] for entry in self.access for login in entry.logins or ()
        }
        for entry in self.access:
            for login in found if entry.logins is None else entry.logins:
                found[login].append(entry)
        return {login: tuple(entries) for login, entries in found.items()}

    @cached_property
    def _of_any_login(self) -> tuple[AccessEntry, ...]:
        return tuple(entry for entry in self.access if entry.logins is None)

    def entries_for(self, login: str) -> tuple[AccessEntry, ...]:
        """The entries of `access` that give this login, with a grant or without."""
        return self._by_login.get(login, self._of_any_login)

    @cached_property
    def json_masks(self) -> tuple[JsonMaskEntry, ...]:
        entries = self._document.json_masks
        return tuple(entry for entry in entries if entry.applies(self.roles, self.target))

    @cached_property
    def detect_masks(self) -> tuple[DetectMaskEntry, ...]:
        entries = self._document.detect_masks
        return tuple(entry for entry in entries if entry.applies(self.roles, self.target))


def _by_effect(make: Callable[[Iterable[RuleT]], KeptT], rules: Sequence[RuleT]) -> Mapping[Effect, KeptT]:
    return {effect: make(rule for rule in rules if rule.effect is effect) for effect in Effect}


def _kept(document: PolicyDocument, key: str, make: Callable[[], KeptT]) -> KeptT:
    """What `make` has made of the whole document, once."""
    known = document.kept.get(key)
    if known is None:
        known = document.kept[key] = make()
    return cast(KeptT, known)


def _remember(document: PolicyDocument, key: Hashable, value: object) -> None:
    if len(document.views) >= MAX_VIEWS:
        document.views.clear()
    document.views[key] = value


def access_at(document: PolicyDocument, roles: frozenset[str], target: Target) -> tuple[AccessEntry, ...]:
    """The entries of `access` for one of the roles and the target, in the document's order."""
    return _kept(document, "access", lambda: Applicable(document.access)).at(roles, target)


def prepare(document: PolicyDocument, like: PolicyDocument) -> None:
    """Make for `document` the views that `like` is asked by: who judges next does not wait for them.

    May be called by another thread before `document` is judged by.
    """
    views = [view for view in list(like.views.values()) if isinstance(view, View)]
    for view in views[-MAX_PREPARED:]:
        roles = frozenset(view.roles & document.roles.keys())
        _view_for(document, roles, view.target).prepare()


def view_of(document: PolicyDocument, subject: Subject, target: Target) -> View:
    """The view for the subject's roles at the target, built at most once while the document remembers it.

    Also remembered by the very objects: a session asks with the same ones again and again, and roles take a while to
    work out.
    """
    objects = (id(subject), id(target))
    last = document.seen.get(objects)
    if last is not None and last[0] is subject and last[1] is target and isinstance(last[2], View):
        return last[2]
    view = _view_by_roles(document, subject, target)
    if len(document.seen) >= MAX_VIEWS:
        document.seen.clear()
    document.seen[objects] = (subject, target, view)
    return view


def _view_by_roles(document: PolicyDocument, subject: Subject, target: Target) -> View:
    return _view_for(document, roles_of(document, subject), target)


def _view_for(document: PolicyDocument, roles: frozenset[str], target: Target) -> View:
    key = (roles, target.name, target.protocol, tuple(sorted(target.labels.items())))
    known = document.views.get(key)
    if isinstance(known, View):
        return known
    view = View(document, roles, target)
    _remember(document, key, view)
    return view
