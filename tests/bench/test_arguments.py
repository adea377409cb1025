"""Which parts of the bench are measured."""

from __future__ import annotations

import pytest

from bench.__main__ import NAMES, PARTS, wanted_parts


def test_everything_is_measured_unless_something_is_named() -> None:
    assert wanted_parts(None) == list(PARTS)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (["ssh"], ["login", "echo", "scp", "idle", "mixed"]),
        (["postgres"], ["latency", "throughput", "rows", "memory"]),
        (["scp", "latency", "scp"], ["latency", "scp"]),
        (["ssh", "rows"], ["rows", "login", "echo", "scp", "idle", "mixed"]),
    ],
)
def test_halves_stand_for_their_parts_and_the_order_is_always_the_same(
    only: list[str], wanted: list[str]
) -> None:
    assert wanted_parts(only) == wanted


def test_each_contestant_has_one_name() -> None:
    assert NAMES == ("direct", "pgbouncer", "nginx", "mitmproxy", "jump", "proxyd")
