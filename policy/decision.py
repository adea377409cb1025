"""The answer of `policy.evaluate`: effect, reasons and obligations. A denial is a Decision, never an exception."""

from __future__ import annotations

from enum import Enum

import msgspec

from policy.facts import ColumnName


class Effect(Enum):
    ALLOW = "allow"
    HOLD = "hold"
    DENY = "deny"


class Reason(msgspec.Struct, frozen=True):
    """Why. `rule` is the rule's, mask's or access entry's name ("" for "no rule allows it")."""

    rule: str
    message: str
    hint: str = ""


class MaskObligation(msgspec.Struct, frozen=True):
    """The output column at `position` (0-based) must leave rewritten by the mask named `mask`."""

    position: int
    mask: str
    column: ColumnName


class Decision(msgspec.Struct, frozen=True):
    effect: Effect
    reasons: tuple[Reason, ...] = ()
    masks: tuple[MaskObligation, ...] = ()
    policy_version: str = ""


class SessionLimits(msgspec.Struct, frozen=True):
    """Limits of one session; None is no limit. Seconds and counts."""

    max_age_s: float | None = None
    idle_s: float | None = None
    statements: int | None = None
    rows: int | None = None


class Admission(msgspec.Struct, frozen=True):
    """May this subject open a session to this target as this login?"""

    effect: Effect
    reasons: tuple[Reason, ...] = ()
    limits: SessionLimits = SessionLimits()
    policy_version: str = ""
