"""The state of one PostgreSQL session as both sides of its gate see it: ledger, names, context, limits.

The requests side (`postgres_requests`) and the replies side (`postgres_replies`) share one of these. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from policy.decision import SessionLimits
from policy.document import PolicyDocument
from policy.evaluate import MaskSet
from policy.facts import SqlFacts, Subject, Target
from policy.sql.catalog import Catalog
from protocols.postgres.exchange import Exchange
from proxyd.gates.judge import Judge, JudgedStatement, Verdict, VerdictCache
from proxyd.gates.names import NamedFacts, Names
from proxyd.gates.results import Plan, Rewrite

MAX_PREPARED_STATEMENTS = 20_000
MAX_PORTALS = 10_000


class CatalogInForce(Protocol):
    """Where the gate finds the newest snapshot of the target's catalog."""

    @property
    def latest(self) -> Catalog | None: ...

    @property
    def is_stale(self) -> bool: ...

    def mark_stale(self) -> None: ...


class SessionSetting(msgspec.Struct, frozen=True):
    """What is known when the session opens. `policy` gives the document in force at the moment of the call."""

    subject: Subject
    target: Target
    database: str
    login: str
    limits: SessionLimits
    policy: Callable[[], PolicyDocument]
    masks: Callable[[PolicyDocument, Subject, Target], MaskSet]
    catalog: CatalogInForce
    cache: VerdictCache
    search_path: tuple[str, ...] | None


class Prepared:
    """A prepared statement, made by Parse or PREPARE.

    text: judged again when the context has changed (for PREPARE the whole statement, its inner facts are taken).
    description: the body of its RowDescription once the target has told; b"" when it returns no rows.
    """

    __slots__ = ("description", "facts", "is_sql", "statement", "text", "verdict")

    def __init__(self, text: str, verdict: Verdict, is_sql: bool = False) -> None:
        self.text = text
        self.verdict = verdict
        self.is_sql = is_sql
        self.description: bytes | None = None
        self.take_facts()

    def take_facts(self) -> None:
        """Read statement and facts from the verdict."""
        statements = self.verdict.statements
        self.statement: JudgedStatement | None = statements[0] if statements else None
        self.facts: SqlFacts | None = None
        if self.statement is not None:
            self.facts = self.statement.effect.inner if self.is_sql else self.statement.facts


class Portal:
    """A portal, made by Bind or DECLARE. `is_asked`: a Describe that covers it is on its way to the target."""

    __slots__ = ("description", "facts", "is_asked", "plan", "prepared", "result_formats", "rewrites")

    def __init__(self, prepared: Prepared, facts: SqlFacts | None, result_formats: tuple[int, ...]) -> None:
        self.prepared = prepared
        self.facts = facts
        self.result_formats = result_formats
        self.description = prepared.description
        self.is_asked = prepared.description is not None
        self.plan: Plan | None = None
        self.rewrites: dict[int, Rewrite] = {}

    def forget_description(self) -> None:
        self.description = None
        self.is_asked = False
        self.plan = None


class State:
    """See the module. `masks_on`: some mask applies to this subject at this target."""

    __slots__ = (
        "_catalog",
        "_document",
        "awaits_copy",
        "batch_has_executed",
        "batch_is_open",
        "changed_catalog",
        "changed_path",
        "copies_in",
        "copy_has_data",
        "cursor_facts",
        "exchange",
        "is_discarding",
        "judge",
        "masks",
        "masks_on",
        "portals",
        "prepared",
        "prepared_facts",
        "rows",
        "search_path",
        "session",
        "statements",
        "temporary_names",
    )

    def __init__(self, session: SessionSetting) -> None:
        self.session = session
        self.exchange: Exchange[Operation] = Exchange()
        self.prepared: Names[Prepared] = Names(MAX_PREPARED_STATEMENTS)
        self.portals: Names[Portal] = Names(MAX_PORTALS)
        self.prepared_facts = NamedFacts(self.prepared, self._facts_of_prepared)
        self.cursor_facts = NamedFacts(self.portals, _facts_of_portal)
        self.judge = Judge(session.subject, session.target, session.database, session.login, session.cache)
        self.search_path = session.search_path
        self.temporary_names: frozenset[str] = frozenset()
        self.masks: MaskSet | None = None
        self.masks_on = True
        self.batch_is_open = False  # extended messages of this batch have been forwarded, its Sync has not
        self.batch_has_executed = False
        self.is_discarding = False  # a denial in the extended protocol: drop what comes up to Sync
        self.awaits_copy = False  # COPY FROM STDIN is on its way: what follows means different things by its outcome
        self.copies_in = False  # the target has asked for COPY data
        self.copy_has_data = False
        self.changed_catalog = False  # DDL has been forwarded in the transaction that is open
        self.changed_path = False
        self.statements = 0
        self.rows = 0
        self._document: PolicyDocument | None = None
        self._catalog: Catalog | None = None

    def refresh(self) -> bool:
        """Take up the policy and the catalog in force; False when there is no usable catalog snapshot."""
        session = self.session
        document = session.policy()
        catalog = session.catalog.latest
        if catalog is None or session.catalog.is_stale:
            return False
        if document is not self._document or catalog is not self._catalog or self.changed_path:
            self._document, self._catalog = document, catalog
            self.changed_path = False
            self.masks = session.masks(document, session.subject, session.target)
            self.masks_on = not self.masks.is_empty
            self.judge.use(document, catalog, self.masks, self.search_path, self.temporary_names)
        return True

    def _facts_of_prepared(self, prepared: Prepared) -> SqlFacts:
        """The facts that EXECUTE runs on: those of today's context, since the target plans it anew as well."""
        if prepared.verdict.context is not self.judge.context:
            prepared.verdict = self.judge.judge(prepared.text, self.prepared_facts, self.cursor_facts)
            prepared.take_facts()
        if prepared.facts is None:
            raise KeyError(prepared.text)
        return prepared.facts

    @property
    def catalog(self) -> Catalog:
        if self._catalog is None:
            raise RuntimeError("the gate was asked to decide before refresh() succeeded")
        return self._catalog

    def use_path(self, search_path: tuple[str, ...] | None) -> None:
        if search_path != self.search_path:
            self.search_path = search_path
            self.changed_path = True

    def add_temporary(self, name: str) -> None:
        if name not in self.temporary_names:
            self.temporary_names = self.temporary_names | {name}
            self.changed_path = True

    @property
    def can_proceed(self) -> bool:
        """Has what `Need.SETTLED` waits for come?"""
        if self.exchange.is_settled or self.exchange.is_skipping:
            return True
        if self.awaits_copy or self.exchange.is_overfull:
            return False
        return self.prepared.is_certain and self.portals.is_certain


def _facts_of_portal(portal: Portal) -> SqlFacts:
    """The facts that FETCH reads by: those it was opened with, since its plan stays as it is."""
    if portal.facts is None:
        raise KeyError
    return portal.facts


class Operation:
    """The gate's note on one entry of the ledger.

    verdict and index: the text and which statement of it is being answered (simple Query). portal: for Execute and
    Describe of a portal; prepared: for Parse and Describe of a statement. change: the name that a Parse, Bind or Close
    changes, with its name space. plan: of the result that is passing; withheld: it is being dropped.
    """

    __slots__ = ("change", "copy", "index", "number", "plan", "portal", "prepared", "rewrites", "verdict", "withheld")

    def __init__(self, number: int, verdict: Verdict | None = None) -> None:
        self.number = number
        self.verdict = verdict
        self.index = 0
        self.portal: Portal | None = None
        self.prepared: Prepared | None = None
        self.change: tuple[Names[Prepared] | Names[Portal], str] | None = None
        self.plan: Plan | None = None
        self.rewrites: dict[int, Rewrite] = {}
        self.copy: object | None = None
        self.withheld = False
