"""What has been spent of the budgets, by day, budget and subject.

A call is counted with the most that it may come to before it is sent, and corrected once the answer says what it came
to. There are no reservations beside that which could be lost or forgotten: what a process had set aside when it died
stays spent, as the worst case, because nobody knows what the provider has charged for it. A call counts on the day of
its request, also when its answer ends on the next one.

Called by the gate of models, and (to read) by `proxyd budgets`.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from policy.llm.budget import Amounts, Budget, Exceeded, Limits, Reservation
from proxyd.store.database import Database
from proxyd.store.errors import StoreError

KEPT_DAYS: Final = 400
NANO: Final = 1_000_000_000
_LARGEST: Final = 2**61  # sums of two stay within SQLite's integers

_SELECT: Final = (
    "SELECT cost_nano_usd, input_tokens, output_tokens, requests FROM spending"
    " WHERE day = ? AND budget = ? AND subject = ?"
)
_ADD: Final = (
    "INSERT INTO spending (day, budget, subject, cost_nano_usd, input_tokens, output_tokens, requests)"
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, budget, subject) DO UPDATE SET"
    " cost_nano_usd = min(2305843009213693952, max(0, cost_nano_usd + excluded.cost_nano_usd)),"
    " input_tokens = min(2305843009213693952, max(0, input_tokens + excluded.input_tokens)),"
    " output_tokens = min(2305843009213693952, max(0, output_tokens + excluded.output_tokens)),"
    " requests = max(0, requests + excluded.requests)"
)
_LIST: Final = (
    "SELECT day, budget, subject, cost_nano_usd, input_tokens, output_tokens, requests FROM spending"
    " WHERE day = ? ORDER BY subject, budget"
)


@dataclass(frozen=True, slots=True)
class Spending:
    """What one subject has spent of one budget on one day."""

    day: str
    budget: str
    subject: str
    amounts: Amounts


class BudgetStore:
    """The spending in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(
        self, subject: str, day: str, budgets: Sequence[Budget], amounts: Amounts
    ) -> Reservation | Exceeded:
        """Count `amounts` in all of `budgets`, if they fit into each of them. Raises StoreError.

        An amount of None must be one that none of the budgets limits; nothing is counted for it yet.
        """
        asked = _numbers(amounts)
        with self._database.transaction() as connection:
            for budget in budgets:
                exceeded = _exceeded(budget, _spent(connection, day, budget.name, subject), asked)
                if exceeded is not None:
                    return exceeded
            for budget in budgets:
                connection.execute(_ADD, (day, budget.name, subject, *asked))
        return Reservation(subject, day, tuple(budget.name for budget in budgets), amounts)

    def settle(self, reservation: Reservation, actual: Amounts) -> None:
        """Put what the call came to in place of what was set aside for it; `Amounts()` if it was never sent.

        None in `actual` keeps what was set aside. Raises StoreError, after which what was set aside stays spent.
        """
        kept = [
            mine if said is None else said
            for mine, said in zip(
                _numbers(reservation.amounts),
                (_nano(actual.cost_usd), actual.input_tokens, actual.output_tokens, actual.requests),
                strict=True,
            )
        ]
        change = [
            min(after, _LARGEST) - before
            for before, after in zip(_numbers(reservation.amounts), kept, strict=True)
        ]
        if not any(change):
            return
        with self._database.transaction() as connection:
            for budget in reservation.budgets:
                connection.execute(_ADD, (reservation.day, budget, reservation.subject, *change))

    def spending(self, day: str) -> list[Spending]:
        """Everything spent on `day`. Raises StoreError."""
        return [_row(row) for row in self._database.rows(_LIST, (day,))]

    def forget(self, today: str) -> None:
        """Drop what is older than KEPT_DAYS. Raises StoreError."""
        oldest = (date.fromisoformat(today) - timedelta(days=KEPT_DAYS)).isoformat()
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM spending WHERE day < ?", (oldest,))


def _spent(connection: sqlite3.Connection, day: str, budget: str, subject: str) -> tuple[int, int, int, int]:
    row = connection.execute(_SELECT, (day, budget, subject)).fetchone()
    if row is None:
        return 0, 0, 0, 0
    cost, inputs, outputs, requests = (int(value) for value in row)
    return cost, inputs, outputs, requests


def _exceeded(
    budget: Budget, spent: tuple[int, int, int, int], asked: tuple[int, int, int, int]
) -> Exceeded | None:
    limits = _limits(budget.day)
    names = (("cost_usd", NANO), ("input_tokens", 1), ("output_tokens", 1), ("requests", 1))
    for (name, unit), limit, before, more in zip(names, limits, spent, asked, strict=True):
        if limit is not None and before + more > limit:
            return Exceeded(budget.name, name, limit / unit, before / unit, more / unit)
    return None


def _limits(limits: Limits) -> tuple[int | None, int | None, int | None, int | None]:
    cost = None if limits.cost_usd is None else math.floor(limits.cost_usd * NANO)
    return cost, limits.input_tokens, limits.output_tokens, limits.requests


def _numbers(amounts: Amounts) -> tuple[int, int, int, int]:
    return (
        min(_nano(amounts.cost_usd) or 0, _LARGEST),
        min(amounts.input_tokens or 0, _LARGEST),
        min(amounts.output_tokens or 0, _LARGEST),
        amounts.requests,
    )


def _nano(cost_usd: float | None) -> int | None:
    """Rounded up: many small calls do not come to nothing."""
    return None if cost_usd is None else math.ceil(round(cost_usd * NANO, 3))


def _row(row: tuple[object, ...]) -> Spending:
    match row:
        case (str(day), str(budget), str(subject), int(cost), int(inputs), int(outputs), int(requests)):
            return Spending(day, budget, subject, Amounts(cost / NANO, inputs, outputs, requests))
    raise StoreError("the store holds a row that is not its own: restore the file from a backup")
