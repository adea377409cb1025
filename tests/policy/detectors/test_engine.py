"""The engine: positions, bounds, and the inner names of google-re2 that make it quick."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policy.detectors import engine
from policy.detectors.engine import Pattern


def test_the_inner_names_are_still_there() -> None:
    """Without them everything works, at half the speed: then `Pattern` wants another way to RE2's own object."""
    assert engine._ANYWHERE is not None and engine._HERE != "here"
    assert Pattern(b"a")._match.__qualname__ != engine._matching.__qualname__ + ".<locals>.match"


@pytest.fixture(params=["inner", "public"])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Pattern]:
    if request.param == "public":
        monkeypatch.setattr(engine, "_ANYWHERE", None)
    return Pattern


def test_positions(made: Callable[[bytes], Pattern]) -> None:
    pattern = made(rb"\bab+\b")
    data = b"ab cabb abb"
    assert pattern.find(data, 0, len(data)) == (0, 2)
    assert pattern.find(data, 1, len(data)) == (8, 11)
    assert pattern.find(data, 3, 10) is None  # what stands behind is seen
    assert pattern.find(data, 4, 7) is None  # what stands before is seen
    assert pattern.find_at(data, 8, len(data)) == 11
    assert pattern.find_at(data, 7, len(data)) == -1
    assert list(pattern.find_all(data, 0, len(data))) == [(0, 2), (8, 11)]


@pytest.mark.parametrize("bounds", [(-1, 3), (2, 1), (0, 12), (12, 12), (5, -1)])
def test_bounds_that_are_none_find_nothing(made: Callable[[bytes], Pattern], bounds: tuple[int, int]) -> None:
    pattern = made(b"a*")
    assert pattern.find(b"aaaaaaaaaaa", *bounds) is None
    assert pattern.find_at(b"aaaaaaaaaaa", *bounds) == -1


def test_empty_matches_go_on(made: Callable[[bytes], Pattern]) -> None:
    assert [span for span in made(b"a*").find_all(b"baab", 0, 4) if span[1] > span[0]] == [(1, 3)]
