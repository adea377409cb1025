"""What a person is told about a refusal."""

from __future__ import annotations

import pytest

from policy.decision import Decision, Effect, Reason
from proxyd.gates.refusals import refusal_text

RULE = Reason("no-secrets", "secrets are off limits.", "Ask for an account.")


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ((RULE,), "proxyd: secrets are off limits (rule no-secrets). Ask for an account."),
        ((Reason("", "no rule allows it"),), "proxyd: no rule allows it."),
        ((), "proxyd: denied."),
        ((Reason("r", "look in .."),), "proxyd: look in (rule r)."),
        ((Reason("r", "no", "Use ../x."),), "proxyd: no (rule r). Use ../x."),
        (
            (RULE, RULE),
            "proxyd: secrets are off limits (rule no-secrets). Ask for an account. And 1 more reason.",
        ),
        ((Reason("r", "a\x1b[2Jb\n"),), "proxyd: a?[2Jb? (rule r)."),
        ((Reason("two", "rule two holds this", "Ask."),), "proxyd: rule two holds this. Ask."),
    ],
)
def test_a_denial_is_one_line(reasons: tuple[Reason, ...], expected: str) -> None:
    assert refusal_text(Decision(Effect.DENY, reasons)) == expected


def test_a_hold_says_that_nobody_can_be_asked_yet() -> None:
    text = refusal_text(Decision(Effect.HOLD, (RULE,)))
    assert text.endswith("Ask for an account. This version cannot ask for an approval yet.")
