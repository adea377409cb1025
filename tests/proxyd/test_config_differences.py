"""Which keys of two configurations differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxyd.config.differences import differing_keys
from proxyd.references import Material
from tests.proxyd.documents import CONFIG, write_setup


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        ("connections: 10", "connections: 11", ["listeners.postgres.limits.connections"]),
        ("name: postgres", "name: db", ["listeners.postgres", "listeners.db"]),
        ("127.0.0.1:5432", "127.0.0.1:5433", ["targets.shop.address"]),
        ("level: info", "level: debug", ["log.level"]),
        (
            "drain_timeout: 5s",
            "drain_timeout: 6s\nlimits: {statement: 1MiB}",
            ["limits.statement", "drain_timeout"],
        ),
        ("drain_timeout: 5s", "drain_timeout: 5000ms", []),
    ],
)
def test_by_the_names_that_people_write(tmp_path: Path, old: str, new: str, keys: list[str]) -> None:
    assert old in CONFIG
    before, after = (
        Material.read(write_setup(tmp_path, config=config), 0.0).config
        for config in (CONFIG, CONFIG.replace(old, new))
    )
    assert list(differing_keys(before, after)) == keys
    assert list(differing_keys(before, before)) == []
