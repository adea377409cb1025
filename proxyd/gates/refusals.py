"""The one line that tells a person why the gateway refused something in an SSH session, and what to do next."""

from __future__ import annotations

from policy.decision import Decision, Effect, Reason


def refusal_text(decision: Decision) -> str:
    """`proxyd: MESSAGE (rule NAME). HINT`, of the first reason."""
    reasons = decision.reasons or (Reason("", "denied", ""),)
    first = reasons[0]
    # A hold names its rule in the message itself.
    rule = f" (rule {first.rule})" if first.rule and f"rule {first.rule} " not in first.message else ""
    others = len(reasons) - 1
    more = f" And {others} more reason{'s' * (others > 1)}." if others else ""
    hint = f" {first.hint}" if first.hint else ""
    if decision.effect is Effect.HOLD:
        hint += " This version cannot ask for an approval yet."
    return printable(f"proxyd: {first.message.rstrip('. ')}{rule}.{hint}{more}")


def printable(text: str) -> str:
    """The text without anything a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)
