"""How much the measurements over HTTP do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpEffort:
    """Counts, bytes, seconds. text_bytes: what the detectors look through."""

    rounds: int
    run_s: int
    events: int
    pause_s: float
    download_bytes: int
    download_rounds: int
    token_checks: int
    text_bytes: int


FULL = HttpEffort(
    rounds=5,
    run_s=6,
    events=300,
    pause_s=0.01,
    download_bytes=1_000_000_000,
    download_rounds=3,
    token_checks=2000,
    text_bytes=20_000_000,
)
QUICK = HttpEffort(
    rounds=2,
    run_s=2,
    events=60,
    pause_s=0.005,
    download_bytes=200_000_000,
    download_rounds=1,
    token_checks=300,
    text_bytes=4_000_000,
)
