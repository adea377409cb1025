"""docs/policy.md: every key of the `ssh` section is in it, its documents load, and its table of decisions is true."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from policy.document import PolicyDocument, load_document
from policy.facts import Subject, Target
from policy.ssh.evaluate import judge_ssh
from policy.ssh_rules.paths import FILE_VERBS
from policy.ssh_rules.section import SshMatcher
from proxyd.cli.ssh_operation import add_operations, operation_of

REFERENCE = (Path(__file__).resolve().parents[3] / "docs/policy.md").read_text()
SECTION = REFERENCE.partition("\n### `ssh`\n")[2].partition("\n### ")[0]
WEB = Target("web1", "ssh", {"role": "web"})
WHO = {"ops": Subject("olga", ("ops",)), "builders": Subject("bot", claims={"kind": "agent"})}
ROWS = re.findall(r"^\| (ops|builders) \| `(.*)` \| (allow|hold|deny) \|$", SECTION, re.MULTILINE)


def document() -> PolicyDocument:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    return load_document(example, "docs/policy.md")


@pytest.mark.parametrize("key", sorted(SshMatcher.model_fields))
def test_every_key_is_described(key: str) -> None:
    assert re.search(rf"^\| `{key}` \|", SECTION, re.MULTILINE), key


@pytest.mark.parametrize("verb", sorted(FILE_VERBS))
def test_every_file_operation_is_named(verb: str) -> None:
    assert f"`{verb}`" in SECTION


def test_the_first_example_is_sound() -> None:
    first = re.findall(r"^```yaml\n(version.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)[0]
    assert load_document(first, "docs/policy.md").warnings == ()


def test_the_example_is_sound() -> None:
    assert document().warnings == ()
    assert len(ROWS) > 20


@pytest.mark.parametrize(("who", "options", "expected"), ROWS)
def test_the_table_of_decisions(who: str, options: str, expected: str) -> None:
    parser = argparse.ArgumentParser()
    add_operations(parser.add_mutually_exclusive_group(required=True))
    facts = operation_of(parser.parse_args(shlex.split(options)))
    decision = judge_ssh(document(), WHO[who], WEB, "deploy", facts)
    assert decision.effect.value == expected, decision.reasons
