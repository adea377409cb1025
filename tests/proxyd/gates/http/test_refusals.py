"""What a client is told: problem documents, gRPC's status."""

from __future__ import annotations

import json

import pytest

from policy.decision import Decision, Effect, Reason
from proxyd.gates.http.refusals import MAX_TEXT_CHARACTERS, Kind, Refusal, answer, denied


def test_a_denial_says_what_why_and_what_next() -> None:
    decision = Decision(
        Effect.DENY, (Reason("no-admin", "that is closed", "Ask ops"), Reason("", "nor is it open"))
    )
    told = answer(denied(decision))
    assert told.head.status == 403
    assert told.head.body_bytes == len(told.body)
    assert dict(told.head.headers)["content-type"] == "application/problem+json"
    document = json.loads(told.body)
    assert document["detail"] == "that is closed. Nor is it open."
    assert (document["rule"], document["hint"]) == ("no-admin", "Ask ops.")


@pytest.mark.parametrize("status", [400, 408, 414, 417, 431, 501, 505])
def test_what_the_message_itself_lacks_has_a_next_step_too(status: int) -> None:
    assert json.loads(answer(Refusal(status, Kind.PROTOCOL, "odd")).body)["hint"]
    told = json.loads(answer(Refusal(status, Kind.PROTOCOL, "odd", hint="This way.")).body)
    assert told["hint"] == "This way."


def test_what_is_held_needs_an_approval() -> None:
    refusal = denied(Decision(Effect.HOLD, (Reason("risky", "held"),)))
    assert refusal.kind is Kind.HELD
    assert json.loads(answer(refusal).body)["title"] == "The request needs an approval"


def test_nothing_allows_it() -> None:
    assert json.loads(answer(denied(Decision(Effect.DENY))).body)["detail"] == "No rule allows this request."


@pytest.mark.parametrize(
    ("status", "grpc"), [(401, "16"), (403, "7"), (429, "8"), (503, "14"), (504, "4"), (418, "13")]
)
def test_grpc_gets_its_own_status(status: int, grpc: str) -> None:
    told = answer(Refusal(status, Kind.DENIED, "No: 100% sure\n\u00e4"), is_grpc=True)
    headers = dict(told.head.headers)
    assert (told.head.status, headers["grpc-status"]) == (200, grpc)
    assert headers["grpc-message"] == "proxyd: No: 100%25 sure%0A%C3%A4"


def test_texts_are_bounded() -> None:
    refusal = Refusal(400, Kind.PROTOCOL, "x" * 100_000, hint="y" * 100_000)
    assert len(answer(refusal).body) < 2 * MAX_TEXT_CHARACTERS + 1000


def test_a_body_of_another_shape() -> None:
    told = answer(Refusal(403, Kind.DENIED, "no", body=("application/json", b"{}"), headers=(("x-a", "b"),)))
    assert told.body == b"{}"
    assert ("x-a", "b") in told.head.headers
