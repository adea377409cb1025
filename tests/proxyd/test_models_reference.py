"""docs/models.md: its examples are sound, and it names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy.document import load_document
from policy.llm.length import BYTES_PER_TOKEN, TOKENS_FOR_TOOLS, TOKENS_PER_IMAGE, TOKENS_PER_THING
from policy.llm.operations import OPERATIONS
from policy.llm.prices import NO_PRICES
from policy.llm.reading import read_call
from policy.located_yaml import parse, validate
from proxyd.config import Config

REFERENCE = (Path(__file__).resolve().parents[2] / "docs/models.md").read_text()
CONFIGURATION, BUDGETS = re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
REST = """\
version: 1
listeners:
  - name: web
    protocol: http
    address: 127.0.0.1:8443
    tls: {certificate: server.crt, key: server.key, client_ca: ca.crt}
    domain: gateway.example
policy: policy.yaml
tapes: {directory: tapes}
"""
POLICY = """\
version: 1
roles: {agent: {groups: [agents]}}
access:
  - {name: all, roles: [agent], targets: {protocol: http}, logins: [default]}
"""


def test_the_configuration_is_sound() -> None:
    config = validate(Config, parse(REST + CONFIGURATION, "models.md"), context={"directory": Path("/etc")})
    assert [getattr(target, "api", None) for target in config.targets] == ["openai", "anthropic"]
    table = config.models.table()
    dear, cheap = table.price("gpt-4o"), table.price("gpt-4o-mini")
    assert dear is not None and cheap is not None and cheap.input < dear.input
    assert config.store is not None


def test_the_budgets_are_sound() -> None:
    (budget,) = load_document(POLICY + BUDGETS, "policy.yaml").budgets
    assert (budget.name, budget.day.requests) == ("agents", 1000)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_is_named(operation: str) -> None:
    assert f"| `{operation}` |" in REFERENCE


@pytest.mark.parametrize(
    ("row", "api"),
    [
        (row, api)
        for row in re.findall(r"^\| `\w+` \|.*$", REFERENCE, re.MULTILINE)
        for api in ("openai", "anthropic")
    ],
)
def test_every_path_is_what_it_says(row: str, api: str) -> None:
    _, operation, openai, anthropic, _ = [cell.strip() for cell in row.split("|")]
    cell = openai if api == "openai" else anthropic
    for method, path in re.findall(r"`(GET|POST) (/[^`]*)`", cell):
        facts = read_call(api, method, path, None, NO_PRICES)
        assert facts is not None
        assert f"`{facts.operation}`" == operation


def test_the_estimate_is_what_it_says() -> None:
    assert BYTES_PER_TOKEN == 3 and "a token for three bytes of text" in REFERENCE
    assert f"{TOKENS_PER_THING} for each message, part and tool" in REFERENCE
    assert f"{TOKENS_FOR_TOOLS} for tools as such" in REFERENCE
    assert f"{TOKENS_PER_IMAGE:,} for a picture" in REFERENCE
