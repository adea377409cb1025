"""Reading the target's search_path as the server writes it."""

from __future__ import annotations

import pytest

from proxyd.gates.postgres.search_path import parse_search_path


@pytest.mark.parametrize(
    ("value", "schemas"),
    [
        ("", ()),
        ("public", ("public",)),
        ('"$user", public', ("$user", "public")),
        ("Shop,  other", ("shop", "other")),
        ('"Odd ""Name""", "a,b"', ('Odd "Name"', "a,b")),
        ("pg_catalog, pg_temp", ("pg_catalog", "pg_temp")),
    ],
)
def test_what_the_server_writes(value: str, schemas: tuple[str, ...]) -> None:
    assert parse_search_path(value) == schemas


@pytest.mark.parametrize("value", [",", "a,", "a b", '"open', "a,,b"])
def test_what_cannot_be_read_is_not_guessed(value: str) -> None:
    assert parse_search_path(value) is None
