"""Keys kept fresh: how often an issuer is asked, what a dead one does to whom, and what is said of it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from proxyd.identity.oidc import TokenRefused, Tokens
from proxyd.identity.oidc import issuer_keys as issuer_keys_module
from proxyd.identity.oidc.documents import FetchError
from proxyd.identity.oidc.issuer_keys import MIN_INTERVAL_S
from proxyd.identity.oidc.jwks import KeySet
from tests.proxyd.identity.oidc.issuing import NOW, Bench, issuer, jwk, key_set, token

OLD = key_set(jwk("rsa"))
NEW = key_set(jwk("rsa/2"))
NEW_TOKEN = token(kind="rsa/2", key_id="rsa/2")
DEAD = FetchError("https://login.example did not answer within 5 s")


class Issuer:
    """Answers in place of the network. `answers`: what comes of each question, the last again and again."""

    def __init__(self, *answers: KeySet | Exception, delay_s: float = 0.0) -> None:
        self.answers = deque(answers)
        self.delay_s = delay_s
        self.asked_at: list[float] = []
        self.at_work = 0
        self.most_at_work = 0

    async def fetch(self, *_: object) -> KeySet:
        self.asked_at.append(trio.current_time())
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await trio.sleep(self.delay_s)
        finally:
            self.at_work -= 1
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Run:
    """A `Tokens` that runs against a played issuer, on the test's clock."""

    def __init__(self, played: Issuer, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        monkeypatch.setattr(issuer_keys_module, "fetch_keys", played.fetch)
        self.played = played
        self.bench = Bench(issuers=(issuer(**settings),))
        self.tokens = Tokens(
            self.bench.issuers,
            log=self.bench.tokens()._log,
            metrics=self.bench.metrics,
            clock=lambda: NOW,
            monotonic=trio.current_time,
        )

    def start(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(self.tokens.run)

    def metric(self, name: str) -> float:
        lines = self.bench.metrics.render().decode().splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))


@pytest.fixture
async def nursery_() -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as made:
        yield made
        made.cancel_scope.cancel()


async def test_the_first_client_waits_for_the_first_keys(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, delay_s=2.0), monkeypatch)
    run.start(nursery_)
    assert (await run.tokens.subject_of(token())).name == "alice@example.com"
    assert trio.current_time() == run.played.asked_at[0] + 2.0


async def test_keys_are_fetched_again_at_the_interval(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD), monkeypatch, refresh="60s")
    run.start(nursery_)
    await trio.sleep(190)
    begin = run.played.asked_at[0]
    assert [at - begin for at in run.played.asked_at] == [0, 60, 120, 180]


async def test_an_unknown_key_is_fetched_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, NEW), monkeypatch)
    run.start(nursery_)
    await run.tokens.subject_of(token())
    await trio.sleep(MIN_INTERVAL_S)
    assert (await run.tokens.subject_of(NEW_TOKEN)).name == "alice@example.com"
    with pytest.raises(TokenRefused, match="does not publish"):
        await run.tokens.subject_of(token())
    assert len(run.played.asked_at) == 2


async def test_a_flood_of_unknown_keys_does_not_reach_the_issuer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, delay_s=0.5), monkeypatch)
    run.start(nursery_)
    await run.tokens.subject_of(token())
    begin = trio.current_time()
    refused = 0

    async def client(number: int) -> None:
        nonlocal refused
        for attempt in range(10):
            with pytest.raises(TokenRefused, match="does not publish"):
                await run.tokens.subject_of(token(key_id=f"{number}-{attempt}"))
            refused += 1
            await trio.sleep(1.0)

    async with trio.open_nursery() as clients:
        for number in range(30):
            clients.start_soon(client, number)
    assert refused == 300
    elapsed_s = trio.current_time() - begin
    assert len(run.played.asked_at) <= 2 + elapsed_s / MIN_INTERVAL_S
    assert run.played.most_at_work == 1


async def test_those_who_wait_share_one_answer(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, NEW, delay_s=1.0), monkeypatch)
    run.start(nursery_)
    await run.tokens.subject_of(token())
    await trio.sleep(MIN_INTERVAL_S)
    names: list[str] = []

    async def client() -> None:
        names.append((await run.tokens.subject_of(NEW_TOKEN)).name)

    async with trio.open_nursery() as clients:
        for _ in range(20):
            clients.start_soon(client)
    assert names == ["alice@example.com"] * 20
    assert len(run.played.asked_at) == 2


async def test_a_client_that_leaves_does_not_break_off_what_others_wait_for(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, delay_s=2.0), monkeypatch)
    run.start(nursery_)
    with trio.move_on_after(1.0) as scope:
        await run.tokens.subject_of(token())
    assert scope.cancelled_caught
    assert (await run.tokens.subject_of(token())).name == "alice@example.com"
    assert len(run.played.asked_at) == 1


async def test_a_dead_issuer_does_not_stop_those_already_known(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, DEAD), monkeypatch, refresh="60s", stale="1h")
    run.start(nursery_)
    assert (await run.tokens.subject_of(token())).name == "alice@example.com"
    assert run.metric("proxyd_issuer_up") == 1
    fetched_at = trio.current_time()
    await trio.sleep(3000)
    assert run.tokens.check(token()).name == "alice@example.com"
    assert run.metric("proxyd_issuer_up") == 0
    assert run.metric('proxyd_issuer_fetches_total{issuer="company",outcome="failure"}') >= 40
    assert run.metric("proxyd_issuer_last_success_timestamp_seconds") == NOW
    assert run.metric("proxyd_issuer_keys") == 1
    warnings = [line for line in run.bench.log if line["level"] == "warning"]
    assert [line["event"] for line in warnings] == ["issuer does not give its keys"]
    assert "did not answer" in warnings[0]["reason"]
    await trio.sleep(fetched_at + 3601 - trio.current_time())
    with pytest.raises(TokenRefused, match="are not known"):
        run.tokens.check(token())


async def test_a_dead_issuer_is_asked_again_soon_and_then_seldom(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(DEAD), monkeypatch)
    run.start(nursery_)
    await trio.sleep(125)
    waits = [
        later - earlier for earlier, later in zip(run.played.asked_at, run.played.asked_at[1:], strict=False)
    ]
    assert waits == [1, 2, 4, 8, 16, 32, 60]


async def test_an_issuer_that_comes_back_is_believed_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(DEAD, DEAD, OLD), monkeypatch)
    run.start(nursery_)
    with pytest.raises(TokenRefused, match="are not known") as caught:
        await run.tokens.subject_of(token())
    assert caught.value.may_pass
    await trio.sleep(3.5)
    assert run.tokens.check(token()).name == "alice@example.com"
    assert run.metric("proxyd_issuer_up") == 1


async def test_an_issuer_that_publishes_no_key_any_more_has_withdrawn_them(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    """It answers, so its word counts: old keys are for issuers that do not."""
    run = Run(Issuer(OLD, key_set(), OLD), monkeypatch, refresh="60s")
    run.start(nursery_)
    assert (await run.tokens.subject_of(token())).name == "alice@example.com"
    await trio.sleep(60.5)
    assert run.tokens.known(token()) is None
    with pytest.raises(TokenRefused, match="does not publish"):
        run.tokens.check(token())
    assert (run.metric("proxyd_issuer_up"), run.metric("proxyd_issuer_keys")) == (0, 0)
    await trio.sleep(1)
    assert run.tokens.check(token()).name == "alice@example.com"
    assert (run.metric("proxyd_issuer_up"), run.metric("proxyd_issuer_keys")) == (1, 1)


async def test_an_error_of_ours_does_not_end_the_refreshing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(ZeroDivisionError(), OLD), monkeypatch)
    run.start(nursery_)
    await trio.sleep(2)
    assert run.tokens.check(token()).name == "alice@example.com"
    assert [line["level"] for line in run.bench.log][:2] == ["error", "warning"]


async def test_who_cannot_wait_has_the_issuer_asked(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD, NEW), monkeypatch)
    run.start(nursery_)
    await run.tokens.subject_of(token())
    await trio.sleep(MIN_INTERVAL_S)
    with pytest.raises(TokenRefused, match="does not publish") as caught:
        run.tokens.check(NEW_TOKEN)
    assert "try again" in caught.value.text
    await wait_all_tasks_blocked()
    assert run.tokens.check(NEW_TOKEN).name == "alice@example.com"


async def test_a_reload_ends_and_begins_refreshing(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    run = Run(Issuer(OLD), monkeypatch, refresh="60s")
    run.start(nursery_)
    await trio.sleep(1)
    run.tokens.take(run.tokens.prepare([issuer(refresh="20s")]))
    asked = len(run.played.asked_at)
    await trio.sleep(50)
    assert len(run.played.asked_at) - asked == 3  # at 0, 20 and 40; the old task is gone
    run.tokens.take(())
    asked = len(run.played.asked_at)
    await trio.sleep(1000)
    assert len(run.played.asked_at) == asked


async def test_issuers_are_asked_by_themselves(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock, nursery_: trio.Nursery
) -> None:
    """One that hangs keeps nobody of another waiting."""
    run = Run(Issuer(OLD), monkeypatch)
    other = issuer(name="other", issuer="https://other.example", name_prefix="o:")

    async def fetch(asked: Any, *_: object) -> KeySet:
        if asked.name == "other":
            await trio.sleep_forever()
        return OLD

    monkeypatch.setattr(issuer_keys_module, "fetch_keys", fetch)
    run.tokens.take(run.tokens.prepare([other, *run.bench.issuers]))
    run.start(nursery_)
    with trio.fail_after(1):
        assert (await run.tokens.subject_of(token())).name == "alice@example.com"
    from tests.proxyd.identity.oidc.issuing import claims

    begin = trio.current_time()
    with pytest.raises(TokenRefused, match="are not known"):
        await run.tokens.subject_of(token(claims(iss="https://other.example")))
    assert trio.current_time() - begin == other.timeout
