"""SQL text in, verdict out: analysis, policy and the cache that spares doing either twice.

A verdict holds for a text in a Context: the policy version, the catalog snapshot and the state of the session that
names resolve by. When any of these changes there is another Context, and every text is judged again. Verdicts that
depend on names the session made itself (EXECUTE, FETCH) are never cached. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import msgspec

from policy.decision import Decision, Effect, Reason
from policy.document import PolicyDocument
from policy.evaluate import MaskSet, identity_for, judge_sql, masks_for, roles_of
from policy.facts import SqlFacts, Subject, Target, Use
from policy.masking import Mask
from policy.sql.analyze import Statement, analyze
from policy.sql.catalog import Catalog
from policy.sql.refusal import SqlRefused
from policy.sql.skeleton import skeleton
from policy.sql.state import NO_EFFECT, SessionEffect, SessionState
from proxyd.gates.postgres.denials import Denial, denial_of
from proxyd.gates.postgres.results import Plan, is_maskable

MAX_CACHED_TEXT_CHARACTERS = 16 * 1024
MAX_CACHED_TEXTS = 4096
MAX_CACHED_CONTEXTS = 256
MAX_PLANS = 16


class PolicyInForce(Protocol):
    """Document and masking keys of one moment; another object, with another serial, when either has changed."""

    @property
    def document(self) -> PolicyDocument: ...

    @property
    def serial(self) -> int: ...


class Context(msgspec.Struct, frozen=True):
    """Everything but the text that a verdict depends on.

    `roles` stands for the subject, with `identity` where conditions of rules read more of it (b"" where none does).
    """

    policy_version: str
    roles: frozenset[str]
    identity: bytes
    target: str
    database: str
    login: str
    mask_keys_serial: int
    catalog_version: str
    search_path: tuple[str, ...] | None
    temporary_names: frozenset[str]
    temporary_columns: tuple[tuple[str, tuple[str, ...]], ...]


class JudgedStatement:
    """One statement of a verdict. `plans` remembers what was decided for each RowDescription seen."""

    __slots__ = ("_plans", "decision", "effect", "facts", "obligations", "text", "touches_masked")

    def __init__(
        self,
        statement: Statement,
        decision: Decision,
        obligations: tuple[tuple[int, Mask], ...],
        touches: bool,
    ) -> None:
        self.text = statement.text
        self.facts: SqlFacts = statement.facts
        self.effect: SessionEffect = statement.effect
        self.decision = decision
        self.obligations = obligations
        self.touches_masked = touches
        self._plans: dict[bytes, Plan] = {}

    def plan(self, description: bytes) -> Plan | None:
        """What was decided for this RowDescription."""
        return self._plans.get(description)

    def remember_plan(self, description: bytes, plan: Plan) -> None:
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        self._plans[description] = plan


class Verdict:
    """What was decided about a text. `denial` is None when every statement of it may run."""

    __slots__ = (
        "changes_catalog",
        "changes_names",
        "context",
        "copies_in",
        "denial",
        "depends_on_names",
        "effects",
        "ends_transactions",
        "is_cacheable",
        "is_stale_guess",
        "reads",
        "statements",
        "text",
        "touches_masked",
    )

    def __init__(
        self, text: str, context: Context, statements: tuple[JudgedStatement, ...], denial: Denial | None
    ) -> None:
        self.text = text
        self.context = context
        self.statements = statements
        self.denial = denial
        effects = [statement.effect for statement in statements if statement.effect is not NO_EFFECT]
        self.effects = tuple(effects)
        self.changes_names = any(_changes_names(effect) for effect in effects)
        self.depends_on_names = any(effect.executes or effect.fetches for effect in effects)
        self.changes_catalog = any(effect.changes_catalog for effect in effects)
        # A text that goes on after the end of a transaction: names may resolve otherwise from there.
        self.ends_transactions = len(statements) > 1 and any(effect.transaction for effect in effects)
        self.copies_in = any(effect.copies is not None and effect.copies.is_in for effect in effects)
        self.touches_masked = any(statement.touches_masked for statement in statements)
        self.reads = any(_reads(statement.facts) for statement in statements)
        self.is_cacheable = bool(statements) and not self.depends_on_names
        # A relation that the snapshot does not know may be newer than the snapshot.
        self.is_stale_guess = any(statement.facts.unresolved for statement in statements)

    def refused(self, denial: Denial) -> Verdict:
        """The same analysis with another answer."""
        return Verdict(self.text, self.context, self.statements, denial)


def _changes_names(effect: SessionEffect) -> bool:
    return bool(
        effect.prepares
        or effect.deallocates
        or effect.declares_cursor
        or effect.closes
        or effect.discards == "all"
    )


def _reads(facts: SqlFacts) -> bool:
    """Does it look at data? (BEGIN, SET or a CREATE TABLE do not.)"""
    return (
        bool(facts.outputs)
        or any(use.use is not Use.ASSIGN for use in facts.uses)
        or any(access.command == "select" for access in facts.accesses)
        or bool(facts.functions)
    )


class Basis(msgspec.Struct, frozen=True):
    """A context with the objects that it stands for."""

    context: Context
    document: PolicyDocument
    masks: MaskSet
    catalog: Catalog
    resolution: SessionState
    texts: OrderedDict[str, Verdict]


class VerdictCache:
    """Verdicts shared by all sessions of a daemon, least recently used contexts and texts going first."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[Context, tuple[Context, OrderedDict[str, Verdict]]] = OrderedDict()

    def texts(self, context: Context) -> tuple[Context, OrderedDict[str, Verdict]]:
        """The one object that stands for all contexts equal to `context`, and the verdicts that hold in it."""
        found = self._contexts.get(context)
        if found is None:
            found = self._contexts[context] = (context, OrderedDict())
            while len(self._contexts) > MAX_CACHED_CONTEXTS:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(context)
        return found


class Judge:
    """Judges the texts of one session. `use` tells it what the session's names resolve by from now on."""

    def __init__(
        self, subject: Subject, target: Target, database: str, login: str, cache: VerdictCache
    ) -> None:
        self._subject = subject
        self._target = target
        self._database = database
        self._login = login
        self._cache = cache
        self._masked_relations: dict[tuple[str, str], bool] = {}
        self._basis: Basis | None = None
        self.context: Context | None = None

    def use(self, in_force: PolicyInForce, catalog: Catalog, resolution: SessionState) -> Basis:
        """Make this the context of what is judged next."""
        document = in_force.document
        context, texts = self._cache.texts(
            Context(
                policy_version=document.version,
                roles=roles_of(document, self._subject),
                identity=identity_for(document, self._subject, self._target),
                target=self._target.name,
                database=self._database,
                login=self._login,
                mask_keys_serial=in_force.serial,
                catalog_version=catalog.version,
                search_path=resolution.search_path,
                temporary_names=resolution.temporary_names,
                temporary_columns=tuple(sorted(resolution.temporary_columns.items())),
            )
        )
        masks = masks_for(document, self._subject, self._target)
        self._masked_relations = {}
        self.context = context
        self._basis = Basis(context, document, masks, catalog, resolution, texts)
        return self._basis

    def judge(self, text: str) -> Verdict:
        """The verdict on `text`. Raises `names.Unsettled` when it depends on a name whose meaning is not settled."""
        basis = self._basis
        if basis is None:
            raise RuntimeError("judge() called before use()")
        texts = basis.texts
        verdict = texts.get(text)
        if verdict is not None:
            return verdict
        shape = skeleton(text)
        if shape is not None:
            verdict = texts.get(shape)
            if verdict is not None:
                return verdict
        verdict, is_shape_safe = self._judge_anew(text, basis)
        if verdict.is_cacheable and len(text) <= MAX_CACHED_TEXT_CHARACTERS:
            texts[shape if shape is not None and is_shape_safe else text] = verdict
            while len(texts) > MAX_CACHED_TEXTS:
                texts.popitem(last=False)
        return verdict

    def _judge_anew(self, text: str, basis: Basis) -> tuple[Verdict, bool]:
        try:
            statements = analyze(text, basis.catalog, basis.resolution)
        except SqlRefused as refused:
            denial = Denial(
                refused.message,
                refused.detail,
                refused.hint,
                refused.sqlstate,
                refused.position,
                refused.is_servers_answer,
            )
            return Verdict(text, basis.context, (), denial), False
        judged = tuple(self._judge_statement(statement, basis) for statement in statements)
        denied = next((s.decision for s in judged if s.decision.effect is not Effect.ALLOW), None)
        verdict = Verdict(text, basis.context, judged, None if denied is None else denial_of(denied))
        return verdict, all(statement.is_skeleton_safe for statement in statements)

    def _judge_statement(self, statement: Statement, basis: Basis) -> JudgedStatement:
        facts = statement.facts
        masks = basis.masks
        decision = judge_sql(basis.document, self._subject, self._target, self._login, facts)
        obligations = tuple((mask.position, masks.by_name(mask.mask)) for mask in decision.masks)
        decision = _refuse_unmaskable(decision, facts, obligations, basis.catalog)
        touches = not masks.is_empty and self._touches_masked(facts, basis)
        return JudgedStatement(statement, decision, obligations, touches)

    def _touches_masked(self, facts: SqlFacts, basis: Basis) -> bool:
        """Does the statement touch a relation with a masked column? What is not known counts as such."""
        if facts.unresolved:
            return True
        return any(self._has_masked_column(access.schema, access.name, basis) for access in facts.accesses)

    def _has_masked_column(self, schema: str, name: str, basis: Basis) -> bool:
        key = (schema, name)
        known = self._masked_relations.get(key)
        if known is None:
            relation = basis.catalog.relation(schema, name)
            known = relation is None or any(
                basis.masks.for_column(column.names) is not None for column in relation.columns
            )
            self._masked_relations[key] = known
        return known


def _refuse_unmaskable(
    decision: Decision, facts: SqlFacts, obligations: Sequence[tuple[int, Mask]], catalog: Catalog
) -> Decision:
    """Refuse before it runs what could only be withheld afterwards: a masked column of a type that no mask rewrites."""
    reasons: list[Reason] = []
    for position, mask in obligations:
        source = facts.outputs[position].source if facts.outputs is not None else None
        relation = catalog.relation(source.schema, source.relation) if source is not None else None
        column = relation.by_name.get(source.column) if relation is not None and source is not None else None
        if column is None:
            continue
        known = catalog.type_by_oid(column.type_oid)
        type_oid = known.base_oid if known is not None and known.base_oid else column.type_oid
        if not is_maskable(mask, type_oid):
            type_name = known.name if known is not None else f"with OID {type_oid}"
            message = f"column {source} is masked by {mask.name} and values of its type {type_name} cannot be rewritten"
            hint = f"Leave {source} out. The owners of the policy can mask it by the method null."
            reasons.append(Reason(mask.name, message, hint))
    if not reasons or decision.effect is Effect.DENY:
        return decision
    return Decision(Effect.DENY, tuple(reasons), policy_version=decision.policy_version)
