"""docs/config.md: every key of the model is in it, and its example is sound."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from proxyd.config import Config, LoadedConfig

REFERENCE = (Path(__file__).resolve().parents[2] / "docs/config.md").read_text()


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    for inner in get_args(annotation):
        yield from models(inner)


KEYS = sorted({field.alias or name for model in models(Config) for name, field in model.model_fields.items()})


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_described(key: str) -> None:
    assert re.search(rf"^\| `{key}` \||^`{key}`: ", REFERENCE, re.MULTILINE), key


def test_the_example_is_sound(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    path = tmp_path / "proxyd.yaml"
    path.write_text(example)
    config = LoadedConfig.read(path).config
    assert config.targets[0].login("readonly") is not None
    assert config.targets[1].login("deploy") is not None
    assert config.targets[2].login("reader") is not None
    assert config.identity.certificates.groups.map == {"Data Team": ("data",)}
