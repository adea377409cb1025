"""Spending: counted before, corrected afterwards, never lost, never more than there is."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.llm.budget import Amounts, Budget, Exceeded, Limits, Reservation, day_of, until_tomorrow_s
from proxyd.store.budgets import KEPT_DAYS, BudgetStore
from proxyd.store.database import Database
from proxyd.store.errors import StoreError

DAY = "2026-11-21"
CALL = Amounts(0.10, 1000, 500, 1)


def budget(name: str = "models", **limits: float) -> Budget:
    return Budget(name, None, None, Limits(**limits))  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxyd.db"


@pytest.fixture
def store(path: Path) -> Iterator[BudgetStore]:
    database = Database.open(path)
    yield BudgetStore(database)
    database.close()


def reserved(store: BudgetStore, budgets: list[Budget], amounts: Amounts = CALL, **where: str) -> Reservation:
    found = store.reserve(where.get("subject", "alice"), where.get("day", DAY), budgets, amounts)
    assert isinstance(found, Reservation)
    return found


def spent(store: BudgetStore, name: str = "models", subject: str = "alice", day: str = DAY) -> Amounts | None:
    return next(
        (each.amounts for each in store.spending(day) if (each.budget, each.subject) == (name, subject)), None
    )


def test_a_call_is_counted_before_and_corrected_afterwards(store: BudgetStore) -> None:
    budgets = [budget(cost_usd=1.0)]
    reservation = reserved(store, budgets)
    assert spent(store) == Amounts(0.10, 1000, 500, 1)
    store.settle(reservation, Amounts(0.03, 900, 20, 1))
    assert spent(store) == Amounts(0.03, 900, 20, 1)


@pytest.mark.parametrize(
    ("limits", "what", "limit", "asked"),
    [
        ({"cost_usd": 0.25}, "cost_usd", 0.25, 0.10),
        ({"input_tokens": 2999}, "input_tokens", 2999, 1000),
        ({"output_tokens": 1499}, "output_tokens", 1499, 500),
        ({"requests": 2}, "requests", 2, 1),
    ],
)
def test_what_is_used_up(
    store: BudgetStore, limits: dict[str, float], what: str, limit: float, asked: float
) -> None:
    budgets = [budget(**limits)]
    reserved(store, budgets)
    reserved(store, budgets)
    found = store.reserve("alice", DAY, budgets, CALL)
    assert found == Exceeded("models", what, limit, pytest.approx(2 * asked), asked)
    assert spent(store) == Amounts(0.20, 2000, 1000, 2), "a call that does not fit counts for nothing"


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"cost_usd": 0.30}, 3),
        ({"input_tokens": 3000}, 3),
        ({"output_tokens": 1500}, 3),
        ({"requests": 3}, 3),
    ],
)
def test_a_budget_can_be_used_to_its_end(store: BudgetStore, limits: dict[str, float], count: int) -> None:
    budgets = [budget(**limits)]
    for _ in range(count):
        reserved(store, budgets)
    assert isinstance(store.reserve("alice", DAY, budgets, CALL), Exceeded)


def test_small_costs_add_up_exactly(store: BudgetStore) -> None:
    """Ten calls of 0.1 cents are one cent, which binary fractions would not have it."""
    budgets = [budget(cost_usd=0.01)]
    for _ in range(10):
        reserved(store, budgets, Amounts(0.001, 1, 1, 1))
    found = store.reserve("alice", DAY, budgets, Amounts(1e-12, 0, 0, 1))
    assert isinstance(found, Exceeded), "what costs less than can be counted costs the least that can be"


def test_several_budgets_take_a_call_all_or_none(store: BudgetStore) -> None:
    wide, narrow = budget("wide", requests=100), budget("narrow", requests=1)
    reserved(store, [wide, narrow])
    found = store.reserve("alice", DAY, [wide, narrow], CALL)
    assert isinstance(found, Exceeded) and found.budget == "narrow"
    assert spent(store, "wide") == spent(store, "narrow") == CALL


def test_everybody_and_every_day_have_their_own(store: BudgetStore) -> None:
    budgets = [budget(requests=1)]
    reserved(store, budgets)
    reserved(store, budgets, subject="bob")
    reserved(store, budgets, day="2026-11-22")
    assert isinstance(store.reserve("alice", DAY, budgets, CALL), Exceeded)
    assert isinstance(store.reserve("bob", DAY, budgets, CALL), Exceeded)


def test_names_are_data_and_never_sql(store: BudgetStore) -> None:
    odd = "'); DROP TABLE spending; --\"\n\u202e"
    reserved(store, [budget(odd, requests=5)], subject=odd)
    assert spent(store, odd, odd) == CALL


def test_a_call_over_midnight_counts_on_the_day_of_its_request(store: BudgetStore) -> None:
    reservation = reserved(store, [budget(requests=5)], day="2026-11-21")
    reserved(store, [budget(requests=5)], day="2026-11-22")
    store.settle(reservation, Amounts(0.01, 10, 10, 1))
    assert spent(store, day="2026-11-21") == Amounts(0.01, 10, 10, 1)
    assert spent(store, day="2026-11-22") == CALL


def test_a_clock_that_steps_gives_nothing_back(store: BudgetStore) -> None:
    """Forward over midnight, and back: what was spent today is still spent."""
    budgets = [budget(requests=1)]
    today, tomorrow = 1_800_000_000.0, 1_800_000_000.0 + 86400
    reserved(store, budgets, day=day_of(today))
    reserved(store, budgets, day=day_of(tomorrow))
    for now in (today, tomorrow, today):
        assert isinstance(store.reserve("alice", day_of(now), budgets, CALL), Exceeded)


@pytest.mark.parametrize(
    ("now", "day", "wait"),
    [
        (0.0, "1970-01-01", 86400),
        (86399.0, "1970-01-01", 1),
        (86399.999, "1970-01-01", 1),
        (86400.0, "1970-01-02", 86400),
        (1_700_000_000.0, "2023-11-14", 6400),
    ],
)
def test_days_are_utc(now: float, day: str, wait: int) -> None:
    assert (day_of(now), until_tomorrow_s(now)) == (day, wait)


# --- what is not known ------------------------------------------------------------------------------------------


def test_what_was_not_said_stays_the_worst_case(store: BudgetStore) -> None:
    reservation = reserved(store, [budget(requests=5)])
    store.settle(reservation, Amounts(None, 10, None, 1))
    assert spent(store) == Amounts(0.10, 10, 500, 1)


def test_what_no_budget_limits_may_be_unknown(store: BudgetStore) -> None:
    reservation = reserved(store, [budget(requests=5)], Amounts(None, 10, None, 1))
    assert spent(store) == Amounts(0.0, 10, 0, 1)
    store.settle(reservation, Amounts(0.02, 12, 40, 1))
    assert spent(store) == Amounts(0.02, 12, 40, 1)


def test_a_call_that_was_never_sent_is_given_back(store: BudgetStore) -> None:
    reservation = reserved(store, [budget(requests=1)])
    store.settle(reservation, Amounts())
    assert spent(store) == Amounts()
    reserved(store, [budget(requests=1)])


def test_an_answer_longer_than_was_asked_for_is_counted(store: BudgetStore) -> None:
    budgets = [budget(output_tokens=1000)]
    store.settle(reserved(store, budgets), Amounts(0.5, 1000, 5000, 1))
    assert isinstance(store.reserve("alice", DAY, budgets, Amounts(0.0, 0, 0, 1)), Exceeded)


@pytest.mark.parametrize("amount", [2**53, 2**62, 2**90])
def test_numbers_beyond_all_use_do_not_break_the_store(store: BudgetStore, amount: int) -> None:
    budgets = [budget(requests=100)]
    for _ in range(3):
        reservation = reserved(store, budgets, Amounts(float(amount), amount, amount, 1))
        store.settle(reservation, Amounts(float(amount), amount, amount, 1))
    found = spent(store)
    assert found is not None and found.requests == 3
    assert isinstance(store.reserve("alice", DAY, [budget(input_tokens=10**9)], CALL), Exceeded)


# --- what survives ----------------------------------------------------------------------------------------------

_PROGRAM = """
    import sys
    from pathlib import Path
    from policy.llm.budget import Amounts, Budget, Limits
    from proxyd.store.budgets import BudgetStore
    from proxyd.store.database import Database
    store = BudgetStore(Database.open(Path(sys.argv[1])))
    budgets = [Budget("models", None, None, Limits(requests=int(sys.argv[2])))]
    taken = 0
    while True:
        found = store.reserve("alice", "2026-11-21", budgets, Amounts(0.10, 1000, 500, 1))
        if type(found).__name__ == "Exceeded":
            break
        taken += 1
    print(taken, flush=True)
    sys.stdin.read()
"""


def spend(path: Path, limit: int) -> subprocess.Popen[str]:
    """A process that spends the budget of `limit` requests to its end, says how many it got, and stays."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(path), str(limit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def taken_by(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_what_a_dead_process_had_set_aside_stays_spent(path: Path) -> None:
    with spend(path, 3) as process:
        assert taken_by(process) == 3
        process.send_signal(signal.SIGKILL)
    database = Database.open(path)
    store = BudgetStore(database)
    assert spent(store) == Amounts(pytest.approx(0.30), 3000, 1500, 3)
    assert isinstance(store.reserve("alice", DAY, [budget(requests=3)], CALL), Exceeded)
    database.close()


def test_processes_that_spend_at_once_never_spend_too_much(path: Path) -> None:
    Database.open(path).close()
    running = [spend(path, 200) for _ in range(3)]
    counts = [taken_by(process) for process in running]
    for process in running:
        with process:
            process.kill()
    assert sum(counts) == 200


def test_a_locked_store_is_an_error_and_waits_for_nobody_for_long(
    path: Path, store: BudgetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxyd.store.database.BUSY_TIMEOUT_S", 0.01)
    other = Database.open(path)
    mine = Database.open(path)
    with other.transaction(), pytest.raises(StoreError, match="locked"):
        BudgetStore(mine).reserve("alice", DAY, [budget(requests=5)], CALL)
    assert store.spending(DAY) == []
    other.close()
    mine.close()


def test_a_closed_store_is_an_error(path: Path) -> None:
    database = Database.open(path)
    store = BudgetStore(database)
    reservation = reserved(store, [budget(requests=5)])
    database.close()
    with pytest.raises(StoreError):
        store.reserve("alice", DAY, [budget(requests=5)], CALL)
    with pytest.raises(StoreError):
        store.settle(reservation, Amounts())


def test_old_days_are_forgotten(store: BudgetStore) -> None:
    for day in ("2025-01-01", "2026-11-20", DAY):
        reserved(store, [budget(requests=5)], day=day)
    store.forget(DAY)
    assert spent(store, day="2025-01-01") is None
    assert spent(store, day="2026-11-20") == spent(store) == CALL
    assert KEPT_DAYS >= 31
