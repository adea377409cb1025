"""The YAML subset, the places of values, and the faults that bad documents become."""

from __future__ import annotations

from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from policy import located_yaml
from policy.located_yaml import (
    DocumentError,
    Duration,
    Name,
    Section,
    Size,
    duration_s,
    parse,
    refusal,
    render_path,
    size_bytes,
    validate,
)


class Item(Section):
    commands: tuple[str, ...] = Field(default=(), examples=["[select]"])
    limit: Size | None = None
    wait: Duration = 1.0
    count: int = 0
    on: bool = False


class Sample(Section):
    version: Literal[1] = Field(examples=["1"])
    items: tuple[Item, ...] = ()
    effect: Literal["allow", "deny"] = "allow"
    name: Name = "a"
    by_name: dict[Name, Item] = {}  # noqa: RUF012
    secret: Item | None = None


@pytest.fixture(params=["libyaml", "python"])
def either_parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = yaml.SafeLoader if request.param == "python" else located_yaml._EVENT_LOADER
    monkeypatch.setattr(located_yaml, "_EVENT_LOADER", loader)


def faults_of(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        validate(Sample, parse(text, "p.yaml"))
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: &x 1\n", "p.yaml:1:4: ", "anchor &x"),
        ("a: 1\nb: *x\n", "p.yaml:2:4: ", "alias *x"),
        ("a: !!str x\n", "p.yaml:1:4: ", "tag tag:yaml.org,2002:str"),
        ("a: !!python/object:os.system x\n", "p.yaml:1:4: ", "tag tag:yaml.org,2002:python/object:os.system"),
        ("a: ! x\n", "p.yaml:1:4: ", "tag !"),
        ("a: 1\n---\nb: 1\n", "p.yaml:2:1: ", "a second YAML document"),
        ("a: 1\nb: 2\na: 3\n", "p.yaml:3:1: a: ", "duplicate key, first given on line 1"),
        ("r:\n  - {x: 1,\n     x: 2}\n", "p.yaml:3:6: r[0].x: ", "duplicate key, first given on line 2"),
        ("a: b: c\n", "p.yaml:1:5: ", "not valid YAML"),
        ('a: "b\n', "p.yaml:", "not valid YAML"),
        ("a:\n\t- b\n", "p.yaml:2:", "not valid YAML"),
        ("? [a]\n: b\n", "p.yaml:1:3: ", "a key that is not a plain word"),
        ("? {a: b}\n: [c, d]\n", "p.yaml:1:3: ", "a key that is not a plain word"),
        ('"": b\n', "p.yaml:1:1: ", "an empty key"),
        ('a: "\\0"\n', "p.yaml:1:4: ", "a NUL or surrogate character"),
        ('a: "\\ud800"\n', "p.yaml:1:", ""),
        ("x: 1\na: \x07\n", "p.yaml:2:4: ", "a character that YAML does not allow"),
        ("[" * 33 + "]" * 33, "p.yaml:1:33: ", "nested deeper than 32 levels"),
    ],
)
def test_outside_of_the_subset(text: str, where: str, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(text, "p.yaml")
    first = str(caught.value.faults[0])
    assert first.startswith(where)
    assert what in first
    assert all(fault.remedy for fault in caught.value.faults)


@pytest.mark.usefixtures("either_parser")
def test_several_faults_of_yaml_at_once() -> None:
    with pytest.raises(DocumentError) as caught:
        parse("a: &x 1\na: 2\nb: *x\n", "p.yaml")
    assert [fault.line for fault in caught.value.faults] == [1, 2, 3]


@pytest.mark.usefixtures("either_parser")
@pytest.mark.parametrize(
    ("plain", "data"),
    [
        ("5", 5),
        ("-5", -5),
        ("010", "010"),
        ("0o7", "0o7"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2020-01-01", "2020-01-01"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("9" * 5000, "9" * 5000),
        ("127.0.0.1:6432", "127.0.0.1:6432"),
        ("<<", "<<"),
    ],
)
def test_scalars(plain: str, data: object) -> None:
    assert parse(f"a: {plain}\n", "p.yaml").data == {"a": data}


def test_block_scalars_are_text() -> None:
    assert parse("a: |\n  5\nb: >\n  true\n", "p.yaml").data == {"a": "5\n", "b": "true\n"}


def test_keys_are_always_text() -> None:
    assert parse("1: a\ntrue: b\nnull: c\n", "p.yaml").data == {"1": "a", "true": "b", "null": "c"}


def test_too_large_or_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(located_yaml, "MAX_CHARACTERS", 10)
    with pytest.raises(DocumentError, match="larger than 10"):
        parse("a: 12345678901", "p.yaml")
    monkeypatch.setattr(located_yaml, "MAX_CHARACTERS", 1000)
    monkeypatch.setattr(located_yaml, "MAX_NODES", 5)
    with pytest.raises(DocumentError, match="more than 5 values"):
        parse("[1, 2, 3, 4, 5, 6]", "p.yaml")


def test_a_deep_bomb_is_refused_early() -> None:
    with pytest.raises(DocumentError):
        parse("{a: " * 100_000, "p.yaml")


def test_positions() -> None:
    located = parse("version: 1\nitems:\n  - count: 1\n  - commands: [a,\n      b]\n", "p.yaml")
    assert located.position(("version",)) == (1, 1)
    assert located.position(("items", 1)) == (4, 5)
    assert located.position(("items", 1, "commands", 1)) == (5, 7)
    assert located.position(("items", 1, "no", "such")) == (4, 5)
    assert located.position(("nowhere",)) == (1, 1)
    assert (
        str(located.fault(("items", 0, "count"), "wrong", "right"))
        == "p.yaml:3:5: items[0].count: wrong; right"
    )


def test_every_fault_at_once_each_with_line_and_remedy() -> None:
    text = """\
items:
  - {comands: [a], count: "5"}
  - commands: a
    limit: 5
    wait: 10
    on: yes
  - 5
effect: alow
name: "a b"
by_name:
  q: {comand: 1}
  "r r": {}
"""
    assert faults_of(text) == [
        "p.yaml:1:1: version: missing; add `version`, as in `version: 1`",
        "p.yaml:2:6: items[0].comands: unknown key; did you mean `commands`? "
        "known keys here: `commands`, `count`, `limit`, `on`, `wait`",
        "p.yaml:2:20: items[0].count: `5` is not a whole number; write a whole number",
        "p.yaml:3:5: items[1].commands: `a` is not a list; write a list, as in `commands: [select]`",
        "p.yaml:4:5: items[1].limit: `5` is not a size; "
        "write a number and a unit: `512B`, `64KiB`, `16MiB` or `1GB`",
        "p.yaml:5:5: items[1].wait: `10` is not a duration; "
        "write a number and a unit: `250ms`, `10s`, `5m`, `8h` or `1d`",
        "p.yaml:6:5: items[1].on: `yes` is not `true` or `false`; write `true` or `false`",
        "p.yaml:7:5: items[2]: `5` is not a mapping; "
        "write a mapping with the keys `commands`, `count`, `limit`, `on`, `wait`",
        "p.yaml:8:1: effect: `alow` is not one of the choices; did you mean `allow`? use one of `allow`, `deny`",
        "p.yaml:9:1: name: `a b` is not a name; use letters, digits, `.`, `_` and `-`, at most 128, no blanks",
        "p.yaml:11:7: by_name.q.comand: unknown key; did you mean `commands`? "
        "known keys here: `commands`, `count`, `limit`, `on`, `wait`",
        "p.yaml:12:3: by_name.r r: `r r` is not a name; "
        "use letters, digits, `.`, `_` and `-`, at most 128, no blanks",
    ]


@pytest.mark.parametrize("text", ["", "[]", "a", "null"])
def test_a_document_that_is_no_mapping(text: str) -> None:
    assert faults_of(text)[0].startswith("p.yaml:1:1: ")


def test_a_text_in_the_place_of_a_mapping_is_not_repeated() -> None:
    faults = faults_of("version: 1\nsecret: hunter2\n")
    assert faults[0].startswith("p.yaml:2:1: secret: a text is not a mapping")
    assert "hunter2" not in str(faults)


def test_good_text_becomes_the_model() -> None:
    text = "version: 1\nitems: [{commands: [a], limit: 16MiB, wait: 250ms, count: 3, on: true}]\n"
    sample = validate(Sample, parse(text, "p.yaml"))
    item = sample.items[0]
    assert (item.commands, item.limit, item.wait, item.count, item.on) == (("a",), 16 * 2**20, 0.25, 3, True)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("10s", 10.0), ("5m", 300.0), ("8h", 28800.0), ("1d", 86400.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("512B", 512), ("64KiB", 65536), ("16MiB", 2**24), ("1GB", 10**9), ("2KB", 2000)]
)
def test_sizes(text: str, count: int) -> None:
    assert size_bytes(text) == count


@pytest.mark.parametrize(
    "text", [10, "10", "", "s", "-5s", "1.5h", "5 m", "5M", "0s", "0ms", "٣s", None, True]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError) as caught:
        duration_s(text)
    assert caught.value.context["remedy"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", [10, "10", "", "MiB", "-5B", "5mb", "1.5GB", "0B", None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError):
        size_bytes(text)


def test_paths_and_refusals() -> None:
    assert render_path(("rules", 2, "postgres", "commands", 0)) == "rules[2].postgres.commands[0]"
    assert render_path(()) == ""
    error = refusal("a {b}", "c", at=("d", 1))
    assert error.message() == "a {b}"


def test_half_of_a_surrogate_pair_in_the_text() -> None:
    with pytest.raises(DocumentError, match=r"p\.yaml:2:4: a character that YAML does not allow"):
        parse("a: 1\nb: \ud800\n", "p.yaml")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        validate(Sample, parse(text, "p.yaml"))
    except DocumentError as error:
        assert error.faults
        assert all(fault.line >= 1 and fault.column >= 1 for fault in error.faults)
