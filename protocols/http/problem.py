"""Refusals as `application/problem+json` (RFC 9457). Called by the HTTP gates and the door."""

from __future__ import annotations

import json

CONTENT_TYPE = "application/problem+json"


def problem(
    status: int, title: str, detail: str, rule: str = "", hint: str = "", instance: str = ""
) -> bytes:
    """title: what happened, the same for all of its kind. detail: why, in this case. rule: the name of the rule that
    decided. hint: what to do next. instance: the exchange on record, as a URI. Empty ones are left out.
    """
    members: dict[str, str | int] = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    for name, value in (("rule", rule), ("hint", hint), ("instance", instance)):
        if value:
            members[name] = value
    return json.dumps(members, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
