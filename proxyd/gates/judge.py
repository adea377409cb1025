"""SQL text in, verdict out: analysis, policy and the cache that spares doing either twice.

A verdict holds for a text in a Context: the policy version, the catalog snapshot and the state of the session that
names resolve by. When any of these changes there is another Context, and every text is judged again. Verdicts that
depend on names the session made itself (EXECUTE, FETCH) are never cached. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import msgspec

from policy.decision import Decision, Effect
from policy.document import PolicyDocument
from policy.evaluate import MaskSet, judge_sql, masks_for, roles_of
from policy.facts import SqlFacts, Subject, Target
from policy.masking import Mask
from policy.sql.analyze import SessionEffect, SqlRefused, Statement, analyze, skeleton
from policy.sql.catalog import Catalog
from policy.sql.state import SessionState
from proxyd.gates.denials import Denial, denial_of
from proxyd.gates.results import Plan

MAX_CACHED_TEXT_CHARACTERS = 16 * 1024
MAX_CACHED_TEXTS = 4096
MAX_CACHED_CONTEXTS = 256


class Context(msgspec.Struct, frozen=True):
    """Everything but the text that a verdict depends on. `roles` stands for the subject."""

    policy_version: str
    roles: frozenset[str]
    target: str
    database: str
    login: str
    catalog_version: str
    search_path: tuple[str, ...] | None
    temporary_names: frozenset[str]


class JudgedStatement:
    """One statement of a verdict. `plans` remembers what was decided for each RowDescription seen."""

    __slots__ = ("decision", "effect", "facts", "obligations", "plans", "text", "touches_masked")

    def __init__(
        self, statement: Statement, decision: Decision, obligations: tuple[tuple[int, Mask], ...], touches: bool
    ) -> None:
        self.text = statement.text
        self.facts: SqlFacts = statement.facts
        self.effect: SessionEffect = statement.effect
        self.decision = decision
        self.obligations = obligations
        self.touches_masked = touches
        self.plans: dict[bytes, Plan] = {}


class Verdict:
    """What was decided about a text. `denial` is None when every statement of it may run."""

    __slots__ = (
        "changes_catalog",
        "changes_names",
        "changes_path",
        "context",
        "copies_in",
        "denial",
        "is_stale_guess",
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
        effects = [statement.effect for statement in statements]
        self.changes_names = any(effect.changes_names for effect in effects)
        self.changes_catalog = any(effect.changes_catalog for effect in effects)
        self.changes_path = any(effect.changes_search_path or effect.creates_temporary for effect in effects)
        self.copies_in = any(effect.copies_in for effect in effects)
        self.touches_masked = any(statement.touches_masked for statement in statements)
        # A relation that the snapshot does not know may be newer than the snapshot.
        self.is_stale_guess = any(statement.facts.unresolved for statement in statements)


class VerdictCache:
    """Verdicts shared by all sessions of a daemon, least recently used contexts and texts going first."""

    def __init__(self) -> None:
        self._contexts: OrderedDict[Context, OrderedDict[str, Verdict]] = OrderedDict()

    def texts(self, context: Context) -> OrderedDict[str, Verdict]:
        texts = self._contexts.get(context)
        if texts is None:
            texts = self._contexts[context] = OrderedDict()
            while len(self._contexts) > MAX_CACHED_CONTEXTS:
                self._contexts.popitem(last=False)
        else:
            self._contexts.move_to_end(context)
        return texts


class Judge:
    """Judges the texts of one session. `use` tells it what the session's names resolve by from now on."""

    def __init__(self, subject: Subject, target: Target, database: str, login: str, cache: VerdictCache) -> None:
        self._subject = subject
        self._target = target
        self._database = database
        self._login = login
        self._cache = cache
        self._document: PolicyDocument | None = None
        self._catalog: Catalog | None = None
        self._texts: OrderedDict[str, Verdict] = OrderedDict()
        self.context: Context | None = None
        self.masks: MaskSet | None = None

    def use(
        self,
        document: PolicyDocument,
        catalog: Catalog,
        search_path: tuple[str, ...] | None,
        temporary_names: frozenset[str],
    ) -> None:
        """Make this the context of what is judged next."""
        self._document = document
        self._catalog = catalog
        self.masks = masks_for(document, self._subject, self._target)
        context = Context(
            policy_version=document.version,
            roles=roles_of(document, self._subject),
            target=self._target.name,
            database=self._database,
            login=self._login,
            catalog_version=catalog.version,
            search_path=search_path,
            temporary_names=temporary_names,
        )
        if context != self.context:
            self.context = context
            self._texts = self._cache.texts(context)

    def judge(self, text: str, prepared: Mapping[str, SqlFacts], cursors: Mapping[str, SqlFacts]) -> Verdict:
        """The verdict on `text`. May raise `names.Unsettled` through the two mappings."""
        verdict = self._texts.get(text)
        if verdict is not None:
            return verdict
        shape = skeleton(text)
        if shape is not None:
            verdict = self._texts.get(shape)
            if verdict is not None:
                return verdict
        verdict, is_cacheable, is_shape_safe = self._judge_anew(text, prepared, cursors)
        if is_cacheable and len(text) <= MAX_CACHED_TEXT_CHARACTERS:
            self._texts[shape if shape is not None and is_shape_safe else text] = verdict
            while len(self._texts) > MAX_CACHED_TEXTS:
                self._texts.popitem(last=False)
        return verdict

    def _judge_anew(
        self, text: str, prepared: Mapping[str, SqlFacts], cursors: Mapping[str, SqlFacts]
    ) -> tuple[Verdict, bool, bool]:
        context, catalog, document, masks = self.context, self._catalog, self._document, self.masks
        if context is None or catalog is None or document is None or masks is None:
            raise RuntimeError("judge() called before use()")
        state = SessionState(
            search_path=context.search_path,
            login_role=self._login,
            temporary_names=context.temporary_names,
            prepared=prepared,
            cursors=cursors,
        )
        try:
            statements = analyze(text, catalog, state)
        except SqlRefused as refused:
            denial = Denial(
                message=str(refused),
                detail=refused.detail or "",
                hint=refused.hint or "",
                sqlstate=refused.sqlstate,
                position=refused.position,
            )
            return Verdict(text, context, (), denial), False, False
        judged = tuple(self._judge_statement(statement, document, masks) for statement in statements)
        denial = None
        for statement in judged:
            if statement.decision.effect is not Effect.ALLOW:
                denial = denial_of(statement.decision)
                break
        cacheable = not any(statement.effect.depends_on_names for statement in judged)
        shape_safe = all(statement.is_skeleton_safe for statement in statements)
        return Verdict(text, context, judged, denial), cacheable, shape_safe

    def _judge_statement(self, statement: Statement, document: PolicyDocument, masks: MaskSet) -> JudgedStatement:
        facts = statement.facts
        decision = judge_sql(document, self._subject, self._target, self._login, facts)
        obligations = tuple((mask.position, masks.by_name(mask.mask)) for mask in decision.masks)
        touches = not masks.is_empty and self._touches_masked(facts, masks)
        return JudgedStatement(statement, decision, obligations, touches)

    def _touches_masked(self, facts: SqlFacts, masks: MaskSet) -> bool:
        """Does the statement touch a relation with a masked column? Unknown relations count as such."""
        if facts.unresolved:
            return True
        catalog = self._catalog
        for access in facts.accesses:
            relation = catalog.relation(access.schema, access.name) if catalog is not None else None
            if relation is None:
                return True
            if masks.for_relation(relation) is not None:
                return True
        return False
