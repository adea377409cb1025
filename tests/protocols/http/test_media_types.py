"""Content-Type: one media type with its parameters, or nothing that anybody may rely on."""

from __future__ import annotations

import pytest

from protocols.http.media_types import media_type


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("application/json", ("application/json", {})),
        ("Application/JSON; Charset=UTF-8", ("application/json", {"charset": "UTF-8"})),
        ("text/plain;charset=utf-8;", ("text/plain", {"charset": "utf-8"})),
        ('multipart/form-data; boundary="a b;c=d"', ("multipart/form-data", {"boundary": "a b;c=d"})),
        ('text/plain ; a="\\"x\\\\"', ("text/plain", {"a": '"x\\'})),
        ("application/problem+json", ("application/problem+json", {})),
        ("text/event-stream;\tx=y", ("text/event-stream", {"x": "y"})),
        ("", ("", {})),
        ("json", ("", {})),
        ("/json", ("", {})),
        ("application/", ("", {})),
        ("application/json, text/plain", ("", {})),
        ("application/json text/plain", ("", {})),
        ("application/json; charset", ("", {})),
        ("application/json; charset=", ("", {})),
        ("application/json; charset=a; CHARSET=b", ("", {})),
        ('application/json; charset="a', ("", {})),
        ('application/json; charset="a"b', ("", {})),
        (" application/json", ("", {})),
        ("application/json; charset = a", ("", {})),
        ("application/json\x00", ("", {})),
    ],
)
def test_a_media_type(value: str, expected: tuple[str, dict[str, str]]) -> None:
    assert media_type(value) == expected
