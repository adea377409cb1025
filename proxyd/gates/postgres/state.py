"""The state of one PostgreSQL session as both sides of its gate see it: ledger, names, context, limits.

The requests side (`requests`) and the replies side (`replies`) share one of these; what a text changes in it is in
`effects`. No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from policy.decision import SessionLimits
from policy.detection import detection_for
from policy.evaluate import MaskSet
from policy.facts import SqlFacts, Subject, Target
from policy.sql import state as sql
from policy.sql.catalog import Catalog
from protocols.postgres.exchange import Exchange
from proxyd.gates.postgres.detecting.values import ValueDetection
from proxyd.gates.postgres.judge import Judge, PolicyInForce, VerdictCache
from proxyd.gates.postgres.ledger import Operation, Portal, Prepared
from proxyd.gates.postgres.names import NamedFacts, Names

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
    """What is known when the session opens.

    role: the target's own name of the login. policy: gives what is in force at the moment of the call. search_path: as
    the target has it at the start, "$user" included, None when not known. reports_search_path: the target tells every
    change of it, at the latest before ReadyForQuery (PostgreSQL 18).
    """

    subject: Subject
    target: Target
    database: str
    login: str
    role: str
    limits: SessionLimits
    policy: Callable[[], PolicyInForce]
    catalog: CatalogInForce
    cache: VerdictCache
    search_path: tuple[str, ...] | None
    reports_search_path: bool = False


class State:
    """See the module.

    masks_on: some mask of columns applies to this subject at this target. detection: what detectors are to look for in
    what the target answers, None for nothing.
    """

    __slots__ = (
        "_catalog",
        "_detected",
        "_in_force",
        "awaits_copy",
        "batch_has_executed",
        "batch_is_open",
        "changed_catalog",
        "copies_in",
        "copy_has_data",
        "cursor_facts",
        "detection",
        "exchange",
        "is_changed",
        "is_discarding",
        "judge",
        "masks",
        "masks_on",
        "path_is_in_doubt",
        "portals",
        "prepared",
        "prepared_facts",
        "reported_path",
        "resolution",
        "results_masked",
        "rows",
        "rows_masked",
        "session",
        "statements",
    )

    def __init__(self, session: SessionSetting) -> None:
        self.session = session
        self.exchange: Exchange[Operation] = Exchange()
        self.prepared: Names[Prepared] = Names(MAX_PREPARED_STATEMENTS)
        self.portals: Names[Portal] = Names(MAX_PORTALS)
        self.prepared_facts = NamedFacts(self.prepared, _facts_of_prepared)
        self.cursor_facts = NamedFacts(self.portals, _facts_of_portal)
        self.judge = Judge(session.subject, session.target, session.database, session.login, session.cache)
        # What names resolve by. Prepared statements and cursors are looked up in the ledgers, not here.
        self.resolution = sql.SessionState(
            search_path=session.search_path,
            login_role=session.role,
            prepared=self.prepared_facts,
            cursors=self.cursor_facts,
        )
        self.masks: MaskSet | None = None
        self.masks_on = True
        self.detection: ValueDetection | None = None
        self.batch_is_open = False  # extended messages of this batch have been forwarded, its Sync has not
        self.batch_has_executed = False
        self.is_discarding = False  # a denial in the extended protocol: drop what comes up to Sync
        self.awaits_copy = (
            False  # COPY FROM STDIN is on its way: what follows means different things by its outcome
        )
        self.copies_in = False  # the target has asked for COPY data
        self.copy_has_data = False
        self.changed_catalog = False  # DDL has been forwarded in the transaction that is open
        self.path_is_in_doubt = (
            False  # the path may have changed, or be changed back by the transaction's end
        )
        self.reported_path = session.search_path
        self.statements = 0
        self.rows = 0
        self.rows_masked = 0
        self.results_masked = 0
        self.is_changed = (
            True  # names may resolve otherwise than what `judge` was told: refresh() before judging
        )
        self._detected: Counter[str] = Counter()
        self._in_force: PolicyInForce | None = None
        self._catalog: Catalog | None = None

    def refresh(self) -> bool:
        """Take up the policy and the catalog in force; False when there is no usable catalog snapshot."""
        session = self.session
        in_force = session.policy()
        catalog = session.catalog.latest
        if catalog is None or session.catalog.is_stale:
            return False
        if in_force is not self._in_force or catalog is not self._catalog or self.is_changed:
            self._in_force, self._catalog = in_force, catalog
            self.is_changed = False
            self.masks = self.judge.use(in_force, catalog, self.resolution).masks
            self.masks_on = not self.masks.is_empty
            self._use_detection(in_force)
        return True

    def _use_detection(self, in_force: PolicyInForce) -> None:
        session = self.session
        detection = detection_for(in_force.document, session.subject, session.target)
        before = self.detection
        if detection is None:
            if before is not None:
                self._detected.update(before.counts)
            self.detection = None
        elif before is None or before.detection is not detection:
            if before is not None:
                self._detected.update(before.counts)
            self.detection = ValueDetection(detection)

    @property
    def detected(self) -> Counter[str]:
        """What detectors have found in this session, by kind."""
        return self._detected if self.detection is None else self._detected + self.detection.counts

    @property
    def takes_rows_apart(self) -> bool:
        """Are rows looked into, so that they must come whole and with a description?"""
        return self.masks_on or self.detection is not None

    @property
    def catalog(self) -> Catalog:
        if self._catalog is None:
            raise RuntimeError("the gate was asked to decide before refresh() succeeded")
        return self._catalog

    def foresee(self, effects: Iterable[sql.SessionEffect]) -> None:
        """Take into account what a text that is being forwarded may change in how names resolve.

        A search path is not known from here until everything forwarded has been answered: an error, a ROLLBACK or the
        end of a SET LOCAL may bring back the one before. A temporary relation is in doubt forever, because a rollback
        may take it away again.
        """
        for effect in effects:
            if effect.creates_temporary or effect.changes_temporary:
                changed = sql.apply(self.resolution, effect)
                self._resolve_by(
                    changed.temporary_names, changed.temporary_columns, self.resolution.search_path
                )
            if effect.changes_search_path or effect.resets_search_path or effect.discards == "all":
                self.path_is_in_doubt = True
                self.use_path(None)
            elif effect.transaction is not None and self.path_is_in_doubt:
                self.use_path(None)

    def settle_path(self, confirmed: tuple[str, ...] | None) -> None:
        """Nothing is under way: take up the path that the target has now.

        Where the target does not report it, only `confirmed` is known, the path of a SET that stood alone.
        """
        is_idle = self.exchange.transaction_status == ord("I")
        if self.session.reports_search_path:
            self.use_path(self.reported_path)
        elif self.path_is_in_doubt and is_idle:
            self.use_path(confirmed)
        if is_idle:
            self.path_is_in_doubt = False

    def use_path(self, search_path: tuple[str, ...] | None) -> None:
        if search_path != self.resolution.search_path:
            self._resolve_by(self.resolution.temporary_names, self.resolution.temporary_columns, search_path)

    def _resolve_by(
        self,
        names: frozenset[str],
        columns: Mapping[str, tuple[str, ...]],
        search_path: tuple[str, ...] | None,
    ) -> None:
        self.resolution = sql.SessionState(
            search_path=search_path,
            login_role=self.resolution.login_role,
            temporary_names=names,
            temporary_columns=columns,
            prepared=self.prepared_facts,
            cursors=self.cursor_facts,
        )
        self.is_changed = True

    def end_batch(self) -> None:
        """A Sync or a simple Query has been forwarded, or refused."""
        self.batch_is_open = False
        self.batch_has_executed = False
        self.is_discarding = False

    @property
    def can_proceed(self) -> bool:
        """Has what `Need.SETTLED` waits for come?"""
        if self.exchange.is_settled or self.exchange.is_skipping:
            return True
        if self.awaits_copy or self.exchange.is_overfull:
            return False
        return self.prepared.is_certain and self.portals.is_certain


def _facts_of_prepared(prepared: Prepared) -> sql.Prepared:
    if prepared.known is None:
        raise KeyError
    return prepared.known


def _facts_of_portal(portal: Portal) -> SqlFacts:
    """The facts that FETCH reads by: those it was opened with, since its plan stays as it is."""
    if portal.facts is None:
        raise KeyError
    return portal.facts
