"""The test under a real systemd takes minutes and root: it is collected when asked for by its path."""

from __future__ import annotations

from pathlib import Path

import pytest

BOOT = "test_boot.py"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make test-systemd` names this directory; `make test` names none, or `tests`."""
    if collection_path.name != BOOT:
        return None
    here = Path(__file__).parent
    asked = [Path(str(argument).partition("::")[0]).resolve() for argument in config.args]
    return None if any(path == here or here in path.parents for path in asked) else True
