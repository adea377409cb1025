"""docs/policy.md: every key of `http` and `llm` is in it, its documents load, and its table of decisions is true."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from policy.detectors import NAMES
from policy.document import PolicyDocument, load_document
from policy.facts import Subject, Target
from policy.http.evaluate import judge_http
from policy.http_rules.section import HttpMatcher
from policy.llm.operations import OPERATIONS
from policy.llm.section import LlmMatcher
from policy.sections import MaskSection, PolicySections, Rule, TargetedBudget
from proxyd.cli.http_operation import AskedTarget, add_request, request_of
from tests.policy.http.requests import HEAD

REFERENCE = (Path(__file__).resolve().parents[3] / "docs/policy.md").read_text()
HTTP = REFERENCE.partition("\n### `http`\n")[2].partition("\n### `llm`")[0]
LLM = REFERENCE.partition("\n### `llm`\n")[2].partition("\n### `")[0]
BUDGETS = REFERENCE.partition("\n## `budgets`\n")[2].partition("\n## ")[0]
MASKS = REFERENCE.partition("\n## `masks`\n")[2].partition("\n### ")[0]
DETECT = REFERENCE.partition("\n### Masks by detectors")[2].partition("\n## ")[0]
API = Target("api", "http")
WHO = {"shop": Subject("sam", ("shop",)), "support": Subject("sue", ("support",))}
ROWS = re.findall(r"^\| (shop|support) \| `(.*)` \| (allow|hold|deny) \|$", HTTP, re.MULTILINE)
FRAGMENTS = re.findall(
    r"^```yaml\n((?:rules|detectors|budgets):\n.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL
)


def document() -> PolicyDocument:
    (example,) = re.findall(r"^```yaml\n(version.*?)^```", HTTP, re.MULTILINE | re.DOTALL)
    return load_document(example, "docs/policy.md")


def described(section: str, keys: object) -> list[str]:
    return [key for key in keys if not re.search(rf"^\| `{key}`", section, re.MULTILINE)]  # type: ignore[attr-defined]


def aliases(model: type[MaskSection] | type[PolicySections] | type[Rule]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def test_every_key_is_described() -> None:
    assert described(HTTP, HttpMatcher.model_fields) == []
    assert described(LLM, LlmMatcher.model_fields) == []
    assert described(BUDGETS, TargetedBudget.model_fields) == []
    assert described(MASKS, aliases(MaskSection)) == []
    assert described(REFERENCE, (*aliases(PolicySections), *aliases(Rule))) == []


def test_every_operation_and_detector_is_named() -> None:
    assert [name for name in OPERATIONS if f"`{name}`" not in LLM] == []
    assert [name for name in NAMES if f"`{name}`" not in DETECT] == []


def test_the_example_is_sound() -> None:
    assert document().warnings == ()
    assert len(ROWS) > 20


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_other_examples_are_sound(fragment: str) -> None:
    head = HEAD.replace("access:", "  agent: {claims: {kind: agent}}\naccess:").replace(
        "roles: [ops", "roles: [agent, ops"
    )
    assert load_document(head + fragment, "docs/policy.md").warnings == ()


def test_there_are_other_examples() -> None:
    assert len(FRAGMENTS) >= 3


@pytest.mark.parametrize(("who", "options", "expected"), ROWS)
def test_the_table_of_decisions(who: str, options: str, expected: str) -> None:
    parser = argparse.ArgumentParser()
    add_request(parser, parser.add_mutually_exclusive_group(required=True))
    asked = request_of(parser.parse_args(shlex.split(options)), AskedTarget("api.internal"))
    assert asked.facts is not None
    decision = judge_http(document(), WHO[who], API, "default", asked.facts)
    assert decision.effect.value == expected, decision.reasons
