"""How much the measurements over SSH do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SshEffort:
    """Counts, bytes, seconds. warm_sessions: open before the idle ones are counted, so that what the first ones make
    the daemon allocate is no part of them.
    """

    logins: int
    keystrokes: int
    pause_s: float
    transfer_rounds: int
    transfer_bytes: int
    warm_sessions: int
    idle_sessions: int
    mixed_rounds: int
    quiet_s: float


FULL = SshEffort(
    logins=30,
    keystrokes=500,
    pause_s=0.01,
    transfer_rounds=3,
    transfer_bytes=1_000_000_000,
    warm_sessions=20,
    idle_sessions=200,
    mixed_rounds=2,
    quiet_s=4.0,
)
QUICK = SshEffort(
    logins=5,
    keystrokes=100,
    pause_s=0.005,
    transfer_rounds=1,
    transfer_bytes=150_000_000,
    warm_sessions=5,
    idle_sessions=30,
    mixed_rounds=1,
    quiet_s=1.0,
)
