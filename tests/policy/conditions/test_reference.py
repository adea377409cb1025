"""docs/policy.md: every name that a condition can read is in its table, its rules load, and what it says is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy.conditions import compile_condition
from policy.conditions.checking import FUNCTIONS, METHODS, TYPES
from policy.conditions.names import VARIABLES
from policy.conditions.syntax import MACROS
from policy.document import load_document

REFERENCE = (Path(__file__).resolve().parents[3] / "docs/policy.md").read_text()
SECTION = REFERENCE.partition("\n### `when`: conditions\n")[2].partition("\n## ")[0]
HEAD = """\
version: 1
roles: {ops: {groups: [ops]}}
access:
  - {name: all, roles: [ops], targets: {names: ["*"]}, logins: ["*"]}
rules:
"""


def test_every_name_is_in_the_table() -> None:
    table = "\n".join(line for line in SECTION.splitlines() if line.startswith("| `"))
    for kind, variables in VARIABLES.items():
        for name, shape in variables.items():
            (row,) = [line for line in table.splitlines() if line.startswith(f"| `{name}")][:1] or [""]
            assert row, (kind, name)
            for field in shape.fields:
                assert re.search(rf"`(?:{name})?\.{field}\b", table), (kind, name, field)


def test_every_function_is_named() -> None:
    for name in (*FUNCTIONS, *METHODS, *MACROS, "type", "has"):
        assert re.search(rf"`{name}(?:`|\()", SECTION), name
    assert "int" in TYPES


def test_the_rules_load_and_have_conditions() -> None:
    (rules,) = re.findall(r"^```yaml\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
    document = load_document(HEAD + rules, "docs/policy.md")
    assert document.warnings == ()
    sql, ssh, http = document.rules, document.ssh_rules, document.http_rules
    found = [*(r.condition for r in sql), *(r.condition for r in ssh), *(r.condition for r in http)]
    assert len(found) == 4
    assert None not in found


@pytest.mark.parametrize(
    ("written", "rest"),
    [
        ("double(http.body.count) * 1.5", " > 1.0"),
        ("has(http.body) && has(http.body.amount) &&", " http.body.amount > 100"),
        ("type(http.body.amount) != int || http.body.amount == 5", ""),
        ('llm.max_tokens > 4000 || http.path == "/x"', ""),
    ],
)
def test_the_expressions_in_the_text_compile(written: str, rest: str) -> None:
    assert f"`{written}`" in SECTION
    compile_condition(written + rest, "http")
