"""docs/config.md: every key of the model is in it, and its example is sound."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from policy.located_yaml import Section, parse, validate
from proxyd.config import Config, Issuer, LoadedConfig
from proxyd.config.issuers import TokenClaims

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


def rows_of(heading: str) -> dict[str, str]:
    """Of the first table behind `heading`: each key with its default."""
    table = REFERENCE.partition(heading)[2].partition("| key |")[2].partition("\n\n")[0]
    return dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", table, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "model"), [("### Issuers", Issuer), ("`name_prefix` | text", TokenClaims)]
)
def test_the_defaults_of_issuers_are_those_that_are_told(heading: str, model: type[Section]) -> None:
    told = rows_of(heading)
    assert list(told) == list(model.model_fields)
    needed = {"name": "company", "issuer": "https://login.example", "audiences": ["proxyd"]}
    written = {key: text.strip("`") for key, text in told.items() if text != "required"}
    lines = [f"{key}: {json.dumps(needed[key]) if key not in written else written[key]}" for key in told]
    assert validate(model, parse("\n".join(lines), "told")) == validate(
        model, parse(json.dumps({key: needed[key] for key in told if key not in written}), "bare")
    )
    for key, field in model.model_fields.items():
        assert field.is_required() is (key not in written), key


def test_the_example_of_an_issuer_has_every_key(tmp_path: Path) -> None:
    block = REFERENCE.partition("Every key, in use:\n\n")[2].partition("\n\n")[0]
    (written,) = yaml.safe_load(textwrap.dedent(block))["identity"]["issuers"]
    assert list(written) == list(Issuer.model_fields)
    assert list(written["claims"]) == list(TokenClaims.model_fields)
    located = parse(json.dumps(written), "written")
    issuer = validate(Issuer, located, context={"directory": tmp_path})
    plain = Issuer(name="a", issuer="https://a.example", audiences=("a",))
    assert [key for key in written if getattr(issuer, key) == getattr(plain, key)] == []
