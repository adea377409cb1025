"""Credentials of HTTP targets in the background: each on its own."""

from __future__ import annotations

from io import StringIO
from typing import cast

import trio
from trio.testing import MockClock

from policy.facts import Target
from protocols.http.messages import RequestHead
from proxyd.config import HttpTarget, HttpTargetLogin
from proxyd.http_credentials import Injected
from proxyd.http_targets import AFTER_CRASH_S, HttpAccount, HttpTargetRuntime, keep_credentials
from proxyd.http_upstream_target import HttpUpstreamTarget
from proxyd.telemetry import Log, Telemetry


class Kept:
    """An injector whose background task crashes `crashes` times, and then runs on."""

    needs_body_hash = False

    def __init__(self, crashes: int) -> None:
        self._crashes = crashes
        self.began_at: list[float] = []

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        return None

    async def prepare(self) -> None: ...

    def invalidate(self) -> None: ...

    async def keep_fresh(self, log: Log) -> None:
        self.began_at.append(trio.current_time())
        await trio.lowlevel.checkpoint()
        if len(self.began_at) <= self._crashes:
            raise RuntimeError("oops")
        await trio.sleep_forever()

    def reload(self) -> bool:
        return False


async def test_a_crash_is_one_credentials_alone(autojump_clock: MockClock) -> None:
    crashing, sound, said = Kept(2), Kept(0), StringIO()
    accounts = {
        name: HttpAccount(cast(HttpTargetLogin, None), cast(HttpUpstreamTarget, None), injector)
        for name, injector in (("crashing", crashing), ("sound", sound))
    }
    target = HttpTargetRuntime(cast(HttpTarget, None), Target("api", "http", {}), accounts)
    start = trio.current_time()
    with trio.move_on_after(60):
        await keep_credentials([target], Telemetry("info", said).log)
    assert sound.began_at == [start]
    assert crashing.began_at == [start, start + AFTER_CRASH_S, start + 2 * AFTER_CRASH_S]
    log = said.getvalue()
    assert log.count("keeping a target's credential fresh crashed") == 2
    assert log.count('"login": "crashing"') == 2 and '"login": "sound"' not in log
