"""The gateway's own view of a target's catalog: one connection a database, kept open, asked again and again.

Owns that connection and the newest snapshot. Must never: answer with a snapshot whose age it cannot vouch
for, or let many sessions that wait for one check cause more than one. Made by the gateway for each (target,
database), read by the gate (`latest`, `is_stale`), awaited by the door and the relay (`refresh`), polled by
`run`.

Theory of operation. A check asks three questions, each only when the one before could not settle it:

1. Has any transaction come or gone? The text of the current transaction snapshot is equal only when the same
   transactions are visible as before. (Its highest number alone would not do: an older transaction that
   commits late leaves that as it is. A standby does not list what is running, so there the question is
   skipped.) 2. Is the fingerprint of the catalog's tables another one? 3. What is in them? Read in one
   repeatable-read transaction; pg_get_viewdef looks at the present all the same, so the fingerprint kept is
   the one that was read before: what slipped in between is found by the next check.

Whoever awaits `refresh` gets a check that began after the call, shared with all others who wait for it. A
mark (`mark_stale`) is lifted only by a check that began after it. The account needs CONNECT on the database
and nothing else: every table read here is open to all by default.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from policy.sql.catalog import Catalog, build_catalog
from policy.sql.catalog_queries import BEGIN_SNAPSHOT, END_SNAPSHOT, FINGERPRINT, QUERIES, SETUP
from policy.sql.catalog_rows import rows_from_text
from proxyd.config import Login
from proxyd.upstream import UpstreamConnection, UpstreamError, UpstreamQueryError, UpstreamTarget, connect
from proxyd.upstream_errors import printable
from proxyd.upstream_query import QueryLimits, Row, query

# Whoever reads these may see them a little later than they were verified: this many polls.
MAX_AGE_POLLS = 3.0
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 5.0
LOAD_ATTEMPTS = 3

PROBE_LIMITS = QueryLimits(rows=10, bytes=1 << 20, deadline_s=5.0)
FINGERPRINT_LIMITS = QueryLimits(rows=10, bytes=1 << 20, deadline_s=20.0)
LOAD_LIMITS = QueryLimits(rows=2_000_000, bytes=512 * 1024 * 1024, deadline_s=60.0)

PROBE = (
    "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL"
    " ELSE pg_catalog.txid_current_snapshot()::pg_catalog.text END"
)

# A definition cannot be read while somebody alters what it stands on: then wait no longer than this.
PREPARATION = f"""
{SETUP};
SET default_transaction_read_only = on;
SET lock_timeout = 3000;
SET statement_timeout = 60000;
SET jit = off
"""

PARAMETERS = {"application_name": "proxyd catalog"}


class CatalogUnavailable(Exception):
    """The catalog cannot be read now. `reason` is for the log; the gate refuses what it cannot know."""

    def __init__(self, target: str, database: str, reason: str) -> None:
        super().__init__(f'catalog of database "{database}" on target "{target}": {reason}')
        self.target = target
        self.database = database
        self.reason = reason


Results = dict[str, list[Row]]
Observer = Callable[[Catalog | CatalogUnavailable], None]


@dataclass(frozen=True, slots=True)
class _Known:
    """A snapshot and what it was read under."""

    catalog: Catalog
    probe: str | None
    fingerprint: str | None


class CatalogSource:
    """The catalog of one database of one target. See the module for what is promised.

    observe: called with each new snapshot and each failure, for logs and metrics; must not raise.
    """

    def __init__(
        self,
        target: UpstreamTarget,
        login: Login,
        database: str,
        *,
        poll_interval_s: float = 1.0,
        connect_timeout_s: float = 5.0,
        observe: Observer | None = None,
    ) -> None:
        self.target = target
        self.login = login
        self.database = database
        self._poll_interval_s = poll_interval_s
        self._max_age_s = MAX_AGE_POLLS * poll_interval_s
        self._connect_timeout_s = connect_timeout_s
        self._observe = observe
        self._connection: UpstreamConnection | None = None
        self._known: _Known | None = None
        self._lock = trio.Lock()
        self._is_polled = False
        self._wake = trio.Event()  # somebody wants a check
        self._done = trio.Event()  # the check that is going on, or the next one, has ended
        # Checks are numbered by their beginning; 0 is none.
        self._begun = 0
        self._completed = 0
        self._succeeded = 0
        self._wanted = 0  # the highest that somebody waits for while `run` does the checks
        self._required = 0  # a check of this number or later must succeed before `latest` is to be used again
        self._verified_at = 0.0
        self._failure: CatalogUnavailable | None = None
        self._failures = 0
        self._not_before = 0.0

    @property
    def latest(self) -> Catalog | None:
        """The newest snapshot, however old; None before the first."""
        return None if self._known is None else self._known.catalog

    @property
    def is_stale(self) -> bool:
        """Must `refresh` come before `latest` is believed: marked, or not verified for too long?"""
        return (
            self._succeeded < self._required
            or self._known is None
            or trio.current_time() - self._verified_at > self._max_age_s
        )

    def mark_stale(self) -> None:
        """Something says that the catalog has changed: what is known now is not to be used without a new
        check.
        """
        self._required = self._begun + 1

    async def current(self, max_age_s: float | None = None) -> Catalog:
        """A snapshot verified at most `max_age_s` seconds ago (by default three polls). Raises
        CatalogUnavailable.
        """
        known = self._known
        if known is None or self.is_stale:
            return await self.refresh()
        if max_age_s is not None and trio.current_time() - self._verified_at > max_age_s:
            return await self.refresh()
        return known.catalog

    async def refresh(self) -> Catalog:
        """The snapshot by a check that begins after this call. Raises CatalogUnavailable."""
        wanted = self._begun + 1
        while self._completed < wanted:
            if self._is_polled:
                self._wanted = max(self._wanted, wanted)
                self._wake.set()
                await self._done.wait()
                continue
            async with self._lock:
                if self._completed < wanted:
                    await self._check()
        if self._failure is not None:
            raise self._unavailable(self._failure.reason)
        if self._known is None:
            raise self._unavailable("never read")
        return self._known.catalog

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check every `poll_interval_s` and whenever somebody awaits `refresh`; never ends by a fault.

        While this runs the checks are its own: a session that goes away does not break off what others wait
        for. When cancelled it closes the connection.
        """
        self._is_polled = True
        task_status.started()
        try:
            while True:
                async with self._lock:
                    await self._check()
                self._wake = trio.Event()
                if self._wanted <= self._completed:
                    with trio.move_on_after(self._poll_interval_s):
                        await self._wake.wait()
        finally:
            self._is_polled = False
            self._announce()
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection. A later check opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _check(self) -> None:
        """One check, whole or (when cancelled) not at all. The lock is held."""
        self._begun += 1
        number = self._begun
        began_at = trio.current_time()
        # Too soon after a failure that failure is the answer.
        if began_at >= self._not_before:
            before = self.latest
            try:
                self._known = await self._look()
            except UpstreamError as error:
                self._fail(str(error))
            else:
                self._failure, self._failures = None, 0
                self._succeeded, self._verified_at = number, began_at
                if before is not self._known.catalog:
                    self._tell(self._known.catalog)
        self._completed = number
        self._announce()

    def _announce(self) -> None:
        done, self._done = self._done, trio.Event()
        done.set()

    def _fail(self, reason: str) -> None:
        self._failure = self._unavailable(reason)
        delay_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = trio.current_time() + delay_s
        self._tell(self._failure)

    def _unavailable(self, reason: str) -> CatalogUnavailable:
        return CatalogUnavailable(self.target.name, self.database, reason)

    def _tell(self, news: Catalog | CatalogUnavailable) -> None:
        if self._observe is not None:
            self._observe(news)

    async def _look(self) -> _Known:
        """Answer on the open connection; when that turns out to be dead, once more on a new one."""
        if self._connection is not None:
            try:
                return await self._ask(self._connection)
            except UpstreamQueryError:
                raise
            except UpstreamError:
                await self.aclose()  # closed by the target meanwhile: a restart, an idle timeout
        self._connection = await self._connect()
        return await self._ask(self._connection)

    async def _connect(self) -> UpstreamConnection:
        connection = await connect(
            self.target, self.login, self.database, PARAMETERS, deadline_s=self._connect_timeout_s
        )
        try:
            await query(connection, PREPARATION)
        except BaseException:
            await connection.aclose()
            raise
        return connection

    async def _ask(self, connection: UpstreamConnection) -> _Known:
        try:
            return await self._compare(connection)
        finally:
            if connection.is_broken or connection.transaction_status != "I":
                await self.aclose()

    async def _compare(self, connection: UpstreamConnection) -> _Known:
        probe = await self._value(connection, PROBE, PROBE_LIMITS)
        known = self._known
        if known is not None:
            if probe is not None and probe == known.probe:
                return known
            # The probe came first, so whatever is newer than it will make another probe.
            if await self._value(connection, FINGERPRINT, FINGERPRINT_LIMITS) == known.fingerprint:
                return _Known(known.catalog, probe, known.fingerprint)
        fingerprint, results = await self._read(connection)
        # A second of computing for a large catalog: sessions go on meanwhile.
        catalog = await trio.to_thread.run_sync(_build, self.target.name, results)
        return _Known(catalog, probe, fingerprint)

    async def _value(self, connection: UpstreamConnection, sql: str, limits: QueryLimits) -> str | None:
        rows = await query(connection, sql, limits)
        return rows[0][0] if rows and rows[0] else None

    async def _read(self, connection: UpstreamConnection) -> tuple[str | None, Results]:
        """The fingerprint, then the rows. A view dropped while its definition is read is an error: then
        again.
        """
        for _ in range(LOAD_ATTEMPTS - 1):
            try:
                return await self._read_once(connection)
            except UpstreamQueryError:
                await query(connection, "ROLLBACK")
        return await self._read_once(connection)

    async def _read_once(self, connection: UpstreamConnection) -> tuple[str | None, Results]:
        await query(connection, BEGIN_SNAPSHOT)
        fingerprint = await self._value(connection, FINGERPRINT, FINGERPRINT_LIMITS)
        results = {name: await query(connection, sql, LOAD_LIMITS) for name, sql in QUERIES.items()}
        await query(connection, END_SNAPSHOT)
        return fingerprint, results


def _build(target: str, results: Results) -> Catalog:
    """Raises UpstreamError for whatever goes wrong: the rows come from the target."""
    try:
        return build_catalog(rows_from_text(results))
    except Exception as error:
        reason = f"its rows cannot be understood: {printable(repr(error))}"
        message = f'the catalog of target "{target}" cannot be read'
        raise UpstreamError("XX000", message, reason) from error
