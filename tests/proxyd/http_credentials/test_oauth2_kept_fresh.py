"""The gateway's own tokens renewed in the background: when, how often, and what requests see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from policy.located_yaml import parse, validate
from proxyd.config import HttpOAuth2
from proxyd.http_credentials import oauth2
from proxyd.http_credentials.oauth2 import OAuth2Injector
from proxyd.http_credentials.token_endpoint import Token
from proxyd.telemetry import Telemetry
from tests.proxyd.documents import write_secret
from tests.proxyd.http_credentials.test_oauth2 import LOGIN, REQUEST, Endpoint, shown

NOW = 1_800_000_000.0


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    made = Endpoint()
    monkeypatch.setattr(oauth2, "fetch_token", made.fetch)
    return made


def injector_of(tmp_path: Path, chance: float = 0.0) -> OAuth2Injector:
    write_secret(tmp_path / "secret", "hush")
    login = validate(HttpOAuth2, parse(LOGIN, "login"), context={"directory": tmp_path})
    return OAuth2Injector(login, frozenset(), clock=lambda: NOW, chance=lambda: chance)


@asynccontextmanager
async def kept_fresh(injector: OAuth2Injector) -> AsyncIterator[StringIO]:
    """Yields what is logged meanwhile."""
    said = StringIO()
    telemetry = Telemetry("info", said)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(injector.keep_fresh, telemetry.log)
        await wait_all_tasks_blocked()
        yield said
        nursery.cancel_scope.cancel()


async def test_nothing_is_fetched_before_somebody_asks(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    injector = injector_of(tmp_path)
    async with kept_fresh(injector):
        await trio.sleep(10_000)
    assert endpoint.secrets == []


@pytest.mark.parametrize(
    ("lifetime_s", "chance", "renewed_after_s"),
    [(300.0, 0.0, 270.0), (300.0, 1.0, 240.0), (3600.0, 0.0, 3540.0), (3600.0, 1.0, 3480.0)],
)
async def test_a_token_in_use_is_renewed_before_its_end_and_nobody_waits(
    tmp_path: Path,
    endpoint: Endpoint,
    autojump_clock: MockClock,
    lifetime_s: float,
    chance: float,
    renewed_after_s: float,
) -> None:
    endpoint.lifetime_s = lifetime_s
    injector = injector_of(tmp_path, chance)
    async with kept_fresh(injector):
        await injector.prepare()
        for number in range(1, 6):
            assert shown(injector) == f"Bearer T{number}"
            await trio.sleep(renewed_after_s - 2)
            assert shown(injector) == f"Bearer T{number}"
            await trio.sleep(2.5)  # the next is being fetched: that takes a second
            assert shown(injector) == f"Bearer T{number}"
            await trio.sleep(1.5 - endpoint.delay_s + 0.01)
        assert len(endpoint.secrets) == 6
    assert injector.numbers.successes == 6
    assert injector.numbers.ends_at == NOW + lifetime_s


async def test_a_token_that_nobody_uses_is_left_to_end(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    injector = injector_of(tmp_path)
    async with kept_fresh(injector):
        await injector.prepare()
        await trio.sleep(299)
        assert len(endpoint.secrets) == 1
        assert shown(injector) is None  # a moment before its end it is not used for what is to arrive
        await injector.prepare()
        assert shown(injector) == "Bearer T2"
        await trio.sleep(100_000)
        assert len(endpoint.secrets) == 3  # once, because it was used


async def test_one_that_is_used_again_late_is_renewed_while_it_serves(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    injector = injector_of(tmp_path)
    async with kept_fresh(injector):
        await injector.prepare()
        await trio.sleep(280)
        assert len(endpoint.secrets) == 1
        assert shown(injector) == "Bearer T1"
        await trio.sleep(endpoint.delay_s + 0.1)
        assert shown(injector) == "Bearer T2"


async def test_an_endpoint_that_fails_is_asked_in_growing_pauses_and_the_old_token_serves(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint.lifetime_s = 3600.0
    endpoint.delay_s = 0.0
    injector = injector_of(tmp_path, chance=1.0)
    asked: list[float] = []
    fetch = endpoint.fetch

    async def watched(login: HttpOAuth2, client_secret: str, trusted: object) -> Token:
        asked.append(trio.current_time())
        return await fetch(login, client_secret, trusted)

    async with kept_fresh(injector) as log:
        await injector.prepare()
        assert shown(injector) == "Bearer T1"
        endpoint.is_down = True
        monkeypatch.setattr(oauth2, "fetch_token", watched)
        began = trio.current_time()
        await trio.sleep(3560)
        assert shown(injector) == "Bearer T1"
        pauses = [round(later - one) for one, later in pairwise(asked)]
        assert pauses == [2, 4, 8, 16, 30]
        assert round(asked[0] - began) == 3480
        endpoint.is_down = False
        await trio.sleep(12)
        assert shown(injector) == f"Bearer T{len(endpoint.secrets)}"
    assert injector.numbers.failures == 6
    assert injector.numbers.successes == 2
    said = log.getvalue()
    assert said.count("the token for a target is not renewed") == 6
    assert said.count('"warning"') == 1
    assert '"after_failures": 6' in said
    assert "hush" not in said and "T1" not in said


async def test_a_dead_endpoint_is_given_up_with_the_token_until_somebody_asks(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    injector = injector_of(tmp_path)
    async with kept_fresh(injector):
        await injector.prepare()
        assert shown(injector) == "Bearer T1"
        endpoint.is_down = True
        await trio.sleep(1000)
        tried = len(endpoint.secrets)
        assert tried > 2
        await trio.sleep(10_000)
        assert len(endpoint.secrets) == tried
        assert shown(injector) is None
        endpoint.is_down = False
        await injector.prepare()
        assert shown(injector) == f"Bearer T{tried + 1}"


async def test_requests_and_the_background_are_one_fetch(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    endpoint.delay_s = 40.0  # longer than what is left of the token
    injector = injector_of(tmp_path)
    async with kept_fresh(injector):
        await injector.prepare()
        assert shown(injector) == "Bearer T1"
        await trio.sleep(299)
        assert shown(injector) is None
        async with trio.open_nursery() as crowd:
            for _ in range(20):
                crowd.start_soon(injector.prepare)
        assert shown(injector) == "Bearer T2"
        assert len(endpoint.secrets) == 2


async def test_a_new_secret_and_a_refused_token_are_for_the_next_request(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock
) -> None:
    injector = injector_of(tmp_path)
    async with kept_fresh(injector):
        await injector.prepare()
        assert shown(injector) == "Bearer T1"
        write_secret(tmp_path / "secret", "new")
        assert injector.reload()
        await trio.sleep(1000)
        assert endpoint.secrets == ["hush"]
        await injector.prepare()
        assert shown(injector) == "Bearer T2"
        await trio.sleep(20)
        injector.invalidate()
        assert injector.ready(REQUEST) is None
        await injector.prepare()
        assert shown(injector) == "Bearer T3"
        await trio.sleep(290)
        assert shown(injector) == "Bearer T4"
    assert endpoint.secrets == ["hush", "new", "new", "new"]


async def test_a_fault_of_ours_costs_one_renewal(
    tmp_path: Path, endpoint: Endpoint, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    injector = injector_of(tmp_path)
    async with kept_fresh(injector) as log:
        await injector.prepare()
        assert shown(injector) == "Bearer T1"
        keep, calls = injector._keep, 0

        def broken(_: OAuth2Injector, token: Token) -> object:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise RuntimeError("oops")
            return keep(token)

        monkeypatch.setattr(OAuth2Injector, "_keep", broken)
        await trio.sleep(290)
        assert shown(injector) == "Bearer T3"
    assert "renewing a token crashed" in log.getvalue()
