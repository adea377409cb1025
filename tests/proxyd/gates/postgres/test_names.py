"""What a name stands for, while changes are under way."""

from __future__ import annotations

import pytest

from proxyd.gates.postgres.names import NamedFacts, Names, TooManyNames, Unsettled


def names(limit: int = 10) -> Names[str]:
    return Names(limit)


def test_a_pending_change_is_seen_in_its_own_batch_only() -> None:
    ledger = names()
    ledger.change("s", 1, "new")
    assert ledger.lookup("s", 1) == "new"
    with pytest.raises(Unsettled):
        ledger.lookup("s", 2)
    ledger.confirm("s")
    assert ledger.lookup("s", 2) == "new"


def test_an_abandoned_change_leaves_the_old_meaning() -> None:
    ledger = names()
    ledger.settle("s", "old")
    ledger.change("s", 1, "new")
    ledger.abandon("s")
    assert ledger.lookup("s", 2) == "old"


def test_changes_are_confirmed_in_order() -> None:
    ledger = names()
    ledger.change("s", 1, "first")
    ledger.change("s", 1, None)
    ledger.change("s", 1, "second")
    assert ledger.lookup("s", 1) == "second"
    ledger.confirm("s")
    ledger.confirm("s")
    ledger.confirm("s")
    assert ledger.lookup("s", 2) == "second"


def test_removal_is_a_change_like_any_other() -> None:
    ledger = names()
    ledger.settle("s", "old")
    ledger.change("s", 1, None)
    assert ledger.lookup("s", 1) is None
    ledger.confirm("s")
    assert ledger.lookup("s", 2) is None


def test_a_statement_that_may_change_any_name_makes_all_uncertain() -> None:
    ledger = names()
    ledger.settle("s", "old")
    ledger.hold_uncertain()
    with pytest.raises(Unsettled):
        ledger.lookup("s", 1)
    ledger.release_uncertain()
    assert ledger.lookup("s", 1) == "old"


def test_the_number_of_names_is_bounded() -> None:
    ledger = names(limit=2)
    ledger.settle("a", "1")
    ledger.change("b", 1, "2")
    with pytest.raises(TooManyNames):
        ledger.change("c", 1, "3")
    ledger.change("a", 1, None)


def test_the_analysis_sees_confirmed_names_and_waits_for_pending_ones() -> None:
    ledger = names()
    ledger.settle("a", "one")
    view = NamedFacts(ledger, len)
    assert view["a"] == 3
    assert list(view) == ["a"]
    assert len(view) == 1
    with pytest.raises(KeyError):
        view["b"]
    ledger.change("b", 1, "two")
    with pytest.raises(Unsettled):
        view["a"]
