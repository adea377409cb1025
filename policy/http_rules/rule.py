"""One rule about HTTP, compiled: does it touch this request, does it cover it?

Every key that the rule has must hold. Methods, hosts and paths are its head: an index finds rules by them. The rest
(query, headers, content types, size, body, model, condition) is asked of those that it found. The two questions are
those of `policy.rules`. What follows from the rules together is `policy.http.evaluate`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum

from policy.conditions.answers import Answers
from policy.decision import Effect
from policy.facts import BodyState, HttpFacts, Subject, Target
from policy.http_rules.bodies import SEEN, Body, BodyCondition, TooMuch
from policy.http_rules.fields import Fields, HostPattern, NamedValues, media_type
from policy.http_rules.folding import TextPattern, fold
from policy.http_rules.paths import PathReadings, UrlPattern, covered_by
from policy.http_rules.values import Bounds
from policy.http_rules.variables import http_variables
from policy.llm.content import Content, content_of
from policy.llm.rule import LlmRule
from policy.rules import Condition, Selector


class Touch(Enum):
    """How a deny or hold rule is about a request."""

    NO = "no"
    YES = "yes"
    UNSEEN = "unseen"  # it would have to look into the body, and cannot


class Asked:
    """One request while rules are asked about it, with what several of them look at, worked out once."""

    __slots__ = (
        "_body",
        "_content",
        "_headers",
        "_query",
        "answers",
        "facts",
        "is_seen",
    )

    def __init__(
        self, facts: HttpFacts, subject: Subject, target: Target, login: str, methods: Sequence[str]
    ) -> None:
        self.facts = facts
        self.answers = Answers(lambda: http_variables(facts, subject, target, login, methods))
        self.is_seen = facts.body_state in SEEN
        self._body: Body | None = None
        self._content: Content | None = None
        self._query: Fields | None = None
        self._headers: Fields | None = None

    @property
    def query(self) -> Fields:
        if self._query is None:
            self._query = Fields(self.facts.query, is_header=False)
        return self._query

    @property
    def headers(self) -> Fields:
        if self._headers is None:
            self._headers = Fields(self.facts.headers, is_header=True)
        return self._headers

    @property
    def body(self) -> Body:
        if self._body is None:
            self._body = Body(self.facts)
        return self._body

    @property
    def has_too_much(self) -> bool:
        """Did the body turn out to hold more values than are looked at?"""
        return self._body is not None and self._body.is_exhausted

    @property
    def content(self) -> Content | None:
        """What a model would read of it; None when the body has not been seen."""
        if self._content is None and self.is_seen:
            self._content = content_of(self.facts.body)
        return self._content


@dataclass(frozen=True, slots=True, eq=False)
class HttpRule:
    """One rule about HTTP.

    methods, hosts, paths, content_types, llm: None where the rule has no such key. upgrade: "" without. shape: equal
    for rules that say the same but for their condition.
    """

    order: int
    name: str
    effect: Effect
    roles: frozenset[str] | None
    targets: Selector | None
    methods: frozenset[str] | None
    hosts: tuple[HostPattern, ...] | None
    paths: tuple[UrlPattern, ...] | None
    query: tuple[NamedValues, ...]
    headers: tuple[NamedValues, ...]
    content_types: tuple[TextPattern, ...] | None
    body_bytes: Bounds | None
    upgrade: str
    body: tuple[BodyCondition, ...]
    llm: LlmRule | None
    message: str
    approvers: tuple[str, ...]
    approvals: int
    condition: Condition | None = None
    shape: Hashable = ()

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return (self.roles is None or not self.roles.isdisjoint(roles)) and (
            self.targets is None or self.targets.matches(target)
        )

    # --- the head: method, host, path ---

    @property
    def is_all_head(self) -> bool:
        """Do method, host and path alone decide? (For a request that neither upgrades nor calls a model.)"""
        return not (
            self.query
            or self.headers
            or self.content_types is not None
            or self.body_bytes is not None
            or self.upgrade
            or self.body
            or self.llm is not None
            or self.condition is not None
        )

    def touches_head(self, methods: Sequence[str], host: str, path: PathReadings) -> bool:
        if self.methods is not None and not any(method.upper() in self.methods for method in methods):
            return False
        if self.hosts is not None and not any(pattern.matches(host) for pattern in self.hosts):
            return False
        return self.paths is None or any(pattern.touches(path) for pattern in self.paths)

    def covers_head(self, methods: Sequence[str], host: str, path: PathReadings) -> bool:
        if self.methods is not None and not all(method in self.methods for method in methods):
            return False
        if self.hosts is not None and not any(pattern.matches(host) for pattern in self.hosts):
            return False
        return self.paths is None or covered_by(self.paths, path)

    # --- the rest, but for the condition ---

    def touches_apart(self, asked: Asked) -> Touch:
        """UNSEEN: its condition need not be asked, for it would have to look into the body before that."""
        facts = asked.facts
        if not self._touches_fields(asked):
            return Touch.NO
        if self.llm is not None and (facts.llm is None or not self.llm.touches(facts.llm, asked.content)):
            return Touch.NO
        if self.body:
            if not asked.is_seen:
                return Touch.UNSEEN
            try:
                if not all(condition.touches(asked.body) for condition in self.body):
                    return Touch.NO
            except TooMuch:
                return Touch.UNSEEN
        if self._reads_body(facts) and not asked.is_seen:
            return Touch.UNSEEN
        return Touch.YES

    def covers_apart(self, asked: Asked) -> bool:
        facts = asked.facts
        if not self._covers_fields(asked):
            return False
        if self.llm is not None and (facts.llm is None or not self.llm.covers(facts.llm, asked.content)):
            return False
        if self.body and not self._covers_body(asked):
            return False
        return asked.is_seen or not self._reads_body(facts)

    def _covers_body(self, asked: Asked) -> bool:
        try:
            return asked.is_seen and all(condition.covers(asked.body) for condition in self.body)
        except TooMuch:
            return False

    def _reads_body(self, facts: HttpFacts) -> bool:
        """Does the condition read what only the body tells?"""
        if self.condition is None:
            return False
        names = {tuple(name.split(".")[:2]) for name in self.condition.names}
        if facts.llm is not None and any(name[0] == "llm" for name in names):
            return True
        if ("http", "body_bytes") in names and facts.body_bytes is None:
            return True
        return ("http", "body") in names or ("http",) in names

    # --- before the body is read ---

    def may_touch(self, asked: Asked) -> bool:
        """Could the rule touch the request, whatever its body holds?"""
        return self._may_be_call(asked.facts) and self._touches_fields(asked)

    def may_cover(self, asked: Asked) -> bool:
        """Could the rule cover the request, whatever its body holds?"""
        return self._may_be_call(asked.facts) and self._covers_fields(asked, is_size_open=True)

    def _may_be_call(self, facts: HttpFacts) -> bool:
        """A rule about models is about what is known to be a call of one."""
        return self.llm is None or (facts.llm is not None and self.llm.may_be_operation(facts.llm))

    @property
    def may_need_body(self) -> bool:
        return (
            bool(self.body)
            or self.body_bytes is not None
            or self.llm is not None
            or self.condition is not None
        )

    @property
    def outline(self) -> Hashable:
        """Equal for rules that say the same but for what only a body tells: they need it for the same requests."""
        llm = self.llm
        return (
            self.methods,
            *(
                None if patterns is None else tuple(pattern.text for pattern in patterns)
                for patterns in (self.hosts, self.paths, self.content_types)
            ),
            tuple(values.outline for values in (*self.query, *self.headers)),
            None if self.body_bytes is None else (self.body_bytes.least, self.body_bytes.most),
            self.upgrade,
            bool(self.body),
            None if llm is None else llm.outline,
            None if self.condition is None else tuple(self.condition.names),
        )

    def needs_body(self, facts: HttpFacts) -> bool:
        """Must the body of such a request be read before the rule can tell?"""
        if facts.body_state is BodyState.NONE:
            return False
        return (
            bool(self.body)
            or self._reads_body(facts)
            or (self.body_bytes is not None and facts.body_bytes is None)
            or (self.llm is not None and facts.llm is not None and self.llm.needs_body(facts.llm))
        )

    def _touches_fields(self, asked: Asked) -> bool:
        """Everything but the body's content."""
        facts = asked.facts
        if self.upgrade and facts.upgrade != self.upgrade:
            return False
        if self.body_bytes is not None and not (
            facts.body_bytes is None or self.body_bytes.holds(facts.body_bytes)
        ):
            return False
        if self.content_types is not None and not self._touches_type(self.content_types, facts):
            return False
        return all(values.touches(asked.query) for values in self.query) and all(
            values.touches(asked.headers) for values in self.headers
        )

    def _touches_type(self, patterns: Sequence[TextPattern], facts: HttpFacts) -> bool:
        types = types_of(facts)
        if not types:
            return facts.body_state is not BodyState.NONE  # the target may guess
        return any(pattern.touches(fold(kind)) for kind in types for pattern in patterns)

    def _covers_fields(self, asked: Asked, *, is_size_open: bool = False) -> bool:
        facts = asked.facts
        if self.upgrade != facts.upgrade or (self.llm is None) != (facts.llm is None):
            return False
        if self.body_bytes is not None and not (
            is_size_open if facts.body_bytes is None else self.body_bytes.holds(facts.body_bytes)
        ):
            return False
        if not self.covers_types(facts):
            return False
        return all(values.covers(asked.query) for values in self.query) and all(
            values.covers(asked.headers) for values in self.headers
        )

    def covers_types(self, facts: HttpFacts) -> bool:
        if self.content_types is None:
            return True
        types = types_of(facts)
        return bool(types) and all(_is_listed(kind, self.content_types) for kind in types)


def types_of(facts: HttpFacts) -> set[str]:
    """Every media type that the request says it has."""
    fields = [facts.content_type, *(value for name, value in facts.headers if name == "content-type")]
    return {media_type(text) for field in fields for text in field.split(",") if text.strip()}


def _is_listed(kind: str, patterns: Sequence[TextPattern]) -> bool:
    return any(pattern.covers(kind) for pattern in patterns)
