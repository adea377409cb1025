"""The bench of detectors: the same values whole and as a stream, in every text."""

from __future__ import annotations

from bench.detectors import measure


def test_it_measures_every_text() -> None:
    found = measure(0.3)
    assert set(found) == {"logs", "json", "prose", "all"}
    for numbers in found.values():
        assert numbers["whole"] > 0
        assert numbers["stream"] > 0
        assert numbers["values"] > 0
    assert found["all"]["values"] == sum(found[name]["values"] for name in ("logs", "json", "prose"))
