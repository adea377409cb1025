"""Conditions that are faults of a document: each with its place, what is wrong and what to write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.conditions import compile_condition
from policy.conditions.names import VARIABLES, Kind
from policy.document import DocumentError, load_document
from policy.patterns import PatternError


def fault(text: str, kind: Kind = "http") -> str:
    with pytest.raises(PatternError) as caught:
        compile_condition(text, kind)
    return f"{caught.value.message}; {caught.value.remedy}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the condition is empty (character 1 of the condition)"),
        ("  // nothing", "the condition is empty (character 13 "),
        ("1 +", "the condition ends where something else is expected (character 4 "),
        ("1 == ) 2", "`)` stands where something else is expected (character 6 "),
        ("true true", "`true` stands where something else is expected (character 6 "),
        ("true;", "`;` means nothing here (character 5 "),
        ("login = 'a'", "`=` means nothing here (character 7 of the condition); write `==`"),
        ("true & false", "`&` means nothing here (character 6 of the condition); write `&&`"),
        ("true | false", "`|` means nothing here (character 6 of the condition); write `||`"),
        (
            "true\n  && (login == 'a'",
            "`(` is not closed (line 2, character 6 of the condition); close it with `)`",
        ),
        ("login in ['a'", "`[` is not closed (character 10 "),
        ("{'a': 1", "`{` is not closed (character 1 "),
        ("login == 'a", "the text that begins with ' does not end (character 10 "),
        ('login == """a"', 'the text that begins with """ does not end (character 10 '),
        ("login == 'a\nb'", "the text that begins with ' does not end (line 1, character 10 "),
        ("login == '\\d'", "`\\d` is no escape (character 10 of the condition); write `\\\\`"),
        ("login == '\\U99999999'", "`\\U99999999` is no escape"),
        ("login == '\\ud800'", "half a character (a surrogate) (character 10 "),
        ("login == b'a'", "bytes cannot be compared"),
        ("99999999999999999999 > 1", "`99999999999999999999` is too large (character 1 "),
        ("9223372036854775808 > 1", "`9223372036854775808` is too large (character 1 "),
        ("18446744073709551616u > 1u", "`18446744073709551616u` is too large"),
        ("1e999 > 1.0", "`1e999` is too large"),
        ("1 < 2 < 3", "two comparisons in a row (character 7 "),
        ("if == 1", "`if` is reserved in CEL (character 1 "),
        (
            "http.body.in == 1",
            '`in` is a word of the language (character 11 of the condition); write `["in"]`',
        ),
        ("http.body.`a` == 1", '``` means nothing here (character 11 of the condition); write `["name"]`'),
        ("http.?body == 1", "`?` stands where something else is expected (character 6 "),
        ("http.body[?'a'] == 1", "`?` stands where something else is expected (character 11 "),
        ("Order{a: 1} == 1", "messages cannot be made here (character 1 "),
        (
            "htpp.method == 'a'",
            "`htpp` is not known here (character 1 of the condition); did you mean `http`?",
        ),
        (
            "true && http.metod == 'a'",
            "`http` has no field `metod` (character 14 of the condition); did you mean `method`?",
        ),
        (
            "sql.command == 'a'",
            "`sql` is not known here (character 1 of the condition); it is for rules with `postgres`",
        ),
        (
            "http.headers.x-env == 'a'",
            "`env` is not known here (character 16 of the condition); names with `-` stand in",
        ),
        ("http.headers['X-Env'] == ['a']", "header names are lower case, and `X-Env` is not (character 13 "),
        (
            "http == 1",
            "`http` alone is nothing to compare (character 1 of the condition); name a field of it: method,",
        ),
        ("http.method.length == 1", "`http.method` is a text and has no field `length` (character 13 "),
        ("http.query.by.name == 'a'", "`http.query.by` is a list and has no field `name` (character 15 "),
        ("http.method", "a condition must be true or false, and this is a text (character 6 "),
        ("1 + 1", "a condition must be true or false, and this is a number (character 3 "),
        ("http.method == 4", "a text and a number are never equal (character 13 "),
        (
            "http.query.by == 'a'",
            "a list and a text are never equal (character 15 of the condition); ask a list with `in`",
        ),
        ("http.method > 4", "`>` between a text and a number never works (character 13 "),
        ("http.query > 4", "`>` does not work on a map (character 6 "),
        ("http.method + 4 == 'a'", "`+` between a text and a number never works"),
        ("'a' in http.method", "nothing is in a text (character 5 "),
        ("!http.method", "a text cannot have `!` in front (character 7 "),
        ("-http.method == 1", "a text cannot have `-` in front"),
        ("http.method && true", "a text cannot stand beside `&&` (character 6 "),
        ("http.method ? true : false", "a text cannot stand before `?`"),
        ("true ? 1 : 2", "a condition must be true or false, and this is a number"),
        ("http.body_bytes.startsWith('a')", "a number has no startsWith() (character 6 "),
        ("http.method.startsWith(1)", "a number cannot be given to startsWith() (character 24 "),
        ("http.method.startsWith('a', 'b')", "startsWith() takes one text (character 13 "),
        (
            "http.method.startWith('a')",
            "there is no function startWith() (character 13 of the condition); did you mean `st",
        ),
        ("now() > 1", "there is no function now() (character 1 "),
        ("timestamp('2026-01-01T00:00:00Z') == 1", "there is no function timestamp()"),
        ("size(http.path, 1) == 1", "size() takes one value (character 1 "),
        ("size(1) == 1", "a number cannot be given to size() (character 6 "),
        ("http.method.matches('(')", "not a pattern: missing ): ( (character 21 "),
        ("http.method.matches('(?=a)')", "not a pattern: "),
        ("http.method.matches(login)", "a pattern must stand in the condition as it is (character 21 "),
        ("http.method.matches('(a{1,100}){1,100}')", "not a pattern: "),
        ("http.method.matches('[a-zé]{999}')", "the pattern is too large when compiled (character 21 "),
        ("has(login)", "has() asks for a field (character 1 "),
        (
            "has(llm.max_tokens)",
            "`llm.max_tokens` is not known or always there, and has() cannot tell (character 1 ",
        ),
        ("http.query.all(x)", "all() takes a name for each element, and what is asked of it (character 12 "),
        ("http.query.all(http.a, true)", "all() takes a name for each element"),
        ("http.query.all(x, 1)", "a number is no answer inside all() (character 19 "),
        ("http.method.all(x, true)", "a text has no all() (character 6 "),
        ("http.query.all(login, true)", "`login` has a meaning already (character 12 "),
        ("http.query.all(x, http.query.all(x, true))", "`x` has a meaning already (character 30 "),
        ("http.query.all(x, true) && x == 1", "`x` is not known here (character 28 "),
        (
            "http.query.all(x, http.query.all(y, http.query.all(z, true)))",
            "all() inside more than 1 other (character 48 ",
        ),
        (
            "http.body.a.map(x, http.body.a.map(y, y)).size() == 1",
            "the condition is too much work, even for few",
        ),
        ("{1: 2}.size() == 1", "a number cannot be a key (character 2 "),
    ],
)
def test_a_fault_says_where_and_what_to_do(text: str, expected: str) -> None:
    found = fault(text)
    assert found.startswith(expected), found
    assert "; " in found
    assert found.count("(character") + found.count("(line") == ("too much work" not in expected)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2000 + "true" + ")" * 2000,
        "(" * 25 + "true" + ")" * 25,
        "!" * 4000 + "true",
        "-" * 4000 + "1 == 1",
        "[" * 2000,
        "{'a':" * 800,
        "true ? " * 500 + "true" + " : true" * 500,
        "true ? true : " * 290 + "true",
        "size(" * 800,
        "http.body" + ".a" * 2000 + " == 1",
        "http.body" + "[0]" * 1300 + " == 1",
        "+".join("1" * 2000) + " == 1",
        "[1].exists(x, " * 200,
        "http.body.a.exists(x, " * 30 + "true" + ")" * 30,
        "true //" + "x" * 4096,
        "'" + "é" * 2047 + "' == login",
        "\ud800",
        "'\ud800' == login",
        "\0",
        "login == '\0",
        "\\",
        "``",
        "\u2028true",
        "\uff11 == 1",
        "\uff4cogin == 'a'",
    ],
)
def test_what_is_deep_long_or_odd_is_a_fault_as_well(text: str) -> None:
    assert fault(text)


@given(st.text(alphabet="truefalsn&|!()[]{}.,:?<>=+-*/%'\"\\ \nx10e@#$é\0\ud800", max_size=60))
def test_any_text_is_a_condition_or_a_fault(text: str) -> None:
    try:
        compile_condition(text, "http")
    except PatternError as error:
        assert error.message
        assert error.remedy


@pytest.mark.parametrize("kind", VARIABLES)
def test_each_kind_of_rule_knows_its_own(kind: Kind) -> None:
    own: dict[Kind, str] = {"postgres": "sql.unbounded", "ssh": "ssh.has_pty", "http": "llm.is_stream"}
    for other, text in own.items():
        if other == kind:
            compile_condition(text, kind)
        else:
            assert f"it is for rules with `{other}`" in fault(text, kind)


DOCUMENT = """\
version: 1
roles: {ops: {groups: [ops]}}
access:
  - {name: all, roles: [ops], targets: {names: ["*"]}, logins: ["*"]}
rules:
  - name: r
    effect: allow
    http: {paths: ["/a"]}
    SECTION
    when: CONDITION
"""


@pytest.mark.parametrize(
    ("section", "condition", "expected"),
    [
        (
            "",
            '"login == 4"',
            "10:5: rules[0].when: a text and a number are never equal (character 7 of the condition)",
        ),
        (
            "",
            "|\n      login == 'a'\n      && login = 'b'",
            "10:5: rules[0].when: `=` means nothing here (line 2, char",
        ),
        ("ssh: {shell: true}", "http.method == 'GET'", "10:5: rules[0].when: `http` is not known here"),
        ("", "5", "10:5: rules[0].when: expected text"),
        ("", '""', "10:5: rules[0].when: "),
        ("", f'"true || {"x" * 4096}"', "10:5: rules[0].when: "),
    ],
)
def test_a_fault_stands_at_its_rule(section: str, condition: str, expected: str) -> None:
    text = DOCUMENT.replace("    SECTION\n", f"    {section}\n" if section else "    # none\n")
    with pytest.raises(DocumentError) as caught:
        load_document(text.replace("CONDITION", condition), "p.yaml")
    (found,) = caught.value.faults
    assert str(found).removeprefix("p.yaml:").startswith(expected.partition(": expected")[0])


def test_a_condition_for_all_doors_of_a_rule() -> None:
    text = DOCUMENT.replace("SECTION", "ssh: {shell: true}").replace("CONDITION", "subject.name == 'olga'")
    document = load_document(text, "p.yaml")
    assert document.ssh_rules[0].condition is not None
    assert document.http_rules[0].condition is not None


def test_a_deny_rule_with_a_condition_makes_no_rule_void() -> None:
    base = DOCUMENT.partition("  - name: r")[0]
    allow = "  - {name: a, effect: allow, SECTION}\n  - {name: d, effect: deny, SECTION, when: \"login == 'x'\"}\n"
    for section in ('http: {paths: ["/a"]}', "ssh: {shell: true}", "postgres: {commands: [select]}"):
        assert load_document(base + allow.replace("SECTION", section), "p.yaml").warnings == ()
        with pytest.raises(DocumentError, match="can never match"):
            load_document(
                base + allow.replace("SECTION", section).replace(", when: \"login == 'x'\"", ""), "p.yaml"
            )
