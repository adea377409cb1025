"""Problem documents: members of RFC 9457, ASCII only, nothing that is empty."""

from __future__ import annotations

import json

from protocols.http.problem import problem


def test_all_members() -> None:
    body = problem(403, "Denied", "No rule\r\nallows \u201cit\u201d.", "no-deletes", "Ask.", "/x/1")
    body.decode("ascii")
    assert b"\r" not in body
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Denied",
        "status": 403,
        "detail": "No rule\r\nallows \u201cit\u201d.",
        "rule": "no-deletes",
        "hint": "Ask.",
        "instance": "/x/1",
    }


def test_empty_members_are_left_out() -> None:
    assert set(json.loads(problem(400, "Bad", "So."))) == {"type", "title", "status", "detail"}
