"""The catalogs that the gateway follows: one source for each database that somebody has asked for.

Owns which are followed, and until when: a target that a reload has changed gets new ones, and the old go on for as long
as sessions that began with them. Made by `proxyd.gateway`; the daemon gives it the nursery in which sources are polled.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

import trio

from policy.sql.catalog import Catalog
from proxyd.catalog import CatalogSource, CatalogUnavailable
from proxyd.config import PostgresTarget
from proxyd.metrics import Metrics
from proxyd.sessions import Session
from proxyd.telemetry import Log
from proxyd.upstream import UpstreamTarget

MAX_CATALOGS = 256

_Key = tuple[str, str]  # target, database


class Catalogs:
    """`nursery`: None until the daemon runs; until then nothing is polled."""

    def __init__(self, log: Log, metrics: Metrics) -> None:
        self.nursery: trio.Nursery | None = None
        self._log = log
        self._metrics = metrics
        self._sources: dict[_Key, CatalogSource] = {}
        self._polled: dict[_Key, trio.CancelScope] = {}

    def get(self, config: PostgresTarget, upstream: UpstreamTarget, database: str) -> CatalogSource:
        """The one source of this database's catalog; new ones have no snapshot until `refresh`.

        Polled in `nursery` from its first success on; one that never succeeds is forgotten, so that names
        that a client makes up leave nothing behind. Raises CatalogUnavailable when there are too many.
        """
        key = (config.name, database)
        source = self._sources.get(key)
        if source is None:
            if len(self._sources) >= MAX_CATALOGS:
                raise CatalogUnavailable(*key, f"{MAX_CATALOGS} databases are followed already")
            source = self._sources[key] = self._new(config, upstream, database)
        return source

    def _new(self, config: PostgresTarget, upstream: UpstreamTarget, database: str) -> CatalogSource:
        reader = config.login(config.catalog.login)
        if reader is None:
            raise CatalogUnavailable(config.name, database, "its login is not configured")

        def observe(news: Catalog | CatalogUnavailable) -> None:
            self._take_news(source, news)

        source = CatalogSource(
            upstream,
            reader,
            database,
            poll_interval_s=config.catalog.poll,
            connect_timeout_s=config.connect_timeout,
            observe=observe,
        )
        return source

    def retire(self, targets: Container[str], sessions: Sequence[Session]) -> None:
        """From now on these targets are others, or none. `sessions`: those that are live, which go on as they began."""
        for key in [key for key in self._sources if key[0] in targets]:
            del self._sources[key]
            scope = self._polled.pop(key, None)
            if scope is not None and self.nursery is not None:
                began_with_it = [one for one in sessions if (one.target, one.detail) == key]
                self.nursery.start_soon(_cancel_after, scope, began_with_it)

    def _take_news(self, source: CatalogSource, news: Catalog | CatalogUnavailable) -> None:
        name, database = key = (source.target.name, source.database)
        is_success = isinstance(news, Catalog)
        self._metrics.catalog_loaded(name, is_success=is_success)
        is_current = self._sources.get(key) is source
        if isinstance(news, CatalogUnavailable):
            self._log.warning("catalog unavailable", target=name, database=database, reason=news.reason)
            if is_current and key not in self._polled:
                del self._sources[key]
            return
        self._log.info("catalog loaded", target=name, database=database, version=news.version)
        if is_current and key not in self._polled and self.nursery is not None:
            scope = self._polled[key] = trio.CancelScope()
            self.nursery.start_soon(self._follow, key, source, scope, name=f"catalog of {name}/{database}")

    async def _follow(self, key: _Key, source: CatalogSource, scope: trio.CancelScope) -> None:
        """Poll until cancelled. A fault of ours in there costs this catalog its snapshot, not the daemon."""
        try:
            with scope:
                await source.run()
        except Exception:
            self._log.exception("catalog reader crashed", target=key[0], database=key[1])
            if self._polled.get(key) is scope:
                del self._polled[key], self._sources[key]


async def _cancel_after(scope: trio.CancelScope, sessions: Sequence[Session]) -> None:
    for session in sessions:
        await session.gone.wait()
    scope.cancel()
