"""The bench of detectors: the same values whole and as a stream, in every text; every body is masked."""

from __future__ import annotations

from bench import detected_bodies
from bench.detectors import measure
from bench.http_report import body_lines


def test_it_measures_every_text() -> None:
    found = measure(0.3)
    assert set(found) == {"logs", "json", "prose", "all"}
    for numbers in found.values():
        assert numbers["whole"] > 0
        assert numbers["stream"] > 0
        assert numbers["values"] > 0
    assert found["all"]["values"] == sum(found[name]["values"] for name in ("logs", "json", "prose"))


def test_it_measures_every_body() -> None:
    found = detected_bodies.measure(0.1, rounds=1)
    assert found.keys() >= detected_bodies.WANTED_MB_S.keys()
    assert all(numbers["mb_s"] > 0 for numbers in found.values())
    assert found["json full"]["values"] > 2 * 0.1e6 / 500
    assert (
        found["json some"]["values"] == found["json lines"]["values"] == found["json indented"]["values"] > 0
    )
    assert found["events"]["values"] == found["model stream"]["values"]
    lines = body_lines(found)
    assert len(lines) == len(found)
    assert {line.what for line in lines if line.wanted} == {
        f"masked bodies, {body}: proxyd" for body in detected_bodies.WANTED_MB_S
    }
