"""What one judgement costs when all rules have one shape and differ in one thing: 10 rules, 1,000, 10,000.

    .venv/bin/python -m bench.rule_shapes [--json] [--sizes 10,1000,10000] [WORD...]

WORD: only shapes whose name has it. Every second rule allows and the others deny; the operation is allowed by one of
them, and another one by none. Nothing of it is remembered from before: texts, paths and values are new each time where
the shape lets them. Also how long the document takes to load. `bench.many_rules` has the rules of everyday in one mix.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.many_rules import HTTP, POSTGRES, SSH, judge
from policy.decision import Effect
from policy.document import PolicyDocument, load_document
from policy.facts import (
    BodyState,
    ColumnName,
    ColumnUse,
    HttpFacts,
    LlmFacts,
    Output,
    RelationAccess,
    SqlFacts,
    SshFacts,
    SshOperation,
    Subject,
    Target,
    Use,
)
from policy.shell.analyze import analyze_command

SIZES = (10, 1_000, 10_000)
ONE = 7  # the number of the rule that allows
NONE = 1_000_001
BUDGET_S = 0.4  # for the judgements of one number
HEAD = """\
version: 1
roles: {ops: {groups: [ops]}}
access:
  - {name: all, roles: [ops], targets: {names: ["*"]}, logins: ["*"]}
rules:
"""

Facts = SqlFacts | SshFacts | HttpFacts


class Shape(NamedTuple):
    """section: of every rule, its number where `#` stands. facts: an operation that the rule of this number is about;
    the second number is new each time. subject: who asks."""

    target: Target
    section: str
    facts: Callable[[int, int], Facts]
    subject: Callable[[int], Subject] = lambda number: Subject(
        f"user{number}", ("ops",), {"team": f"t{number}"}
    )


def _http(path: str = "/v1/orders/{new}", method: str = "GET", **more: Any) -> Callable[[int, int], Facts]:
    """HTTP facts in which texts have the rule's number for `#`, and the new one for `{new}`."""

    def made(number: int, new: int) -> HttpFacts:
        given = {name: _filled(value, number, new) for name, value in more.items()}
        host = given.pop("host", "api.internal")
        return HttpFacts(method, "https", host, _filled(path, number, new), **given)

    return made


def _filled(value: Any, number: int, new: int) -> Any:
    if isinstance(value, str):
        return value.replace("#", str(number)).replace("{new}", str(new))
    if isinstance(value, tuple):
        return tuple(_filled(item, number, new) for item in value)
    if isinstance(value, dict):
        return {key: _filled(item, number, new) for key, item in value.items()}
    return value


def _json(**body: Any) -> Callable[[int, int], Facts]:
    return _http("/v1/orders", "POST", body_state=BodyState.JSON, body=body, body_bytes=100)


def _number(number: int, new: int) -> HttpFacts:
    return HttpFacts(
        "POST", "https", "api.internal", "/v1/orders", body_state=BodyState.JSON, body={"n": number}
    )


def _sized(number: int, new: int) -> HttpFacts:
    return HttpFacts(
        "POST", "https", "api.internal", "/v1/orders", body_bytes=min(number, 50_000), content_type="a/b"
    )


def _call(number: int, new: int) -> HttpFacts:
    body = {
        "model": f"m{number}",
        "messages": [{"role": "user", "content": f"tell of project{number} in {new}"}],
    }
    llm = LlmFacts("openai", "chat", f"m{number}", 100, 20, 0.001, (f"tool{number}",))
    return HttpFacts(
        *("POST", "https", "api.internal", "/v1/chat/completions"),
        body_bytes=200, body_state=BodyState.JSON, body=body, llm=llm,
    )  # fmt: skip


def _exec(text: str) -> Callable[[int, int], Facts]:
    def made(number: int, new: int) -> SshFacts:
        command = _filled(text, number, new)
        return SshFacts(SshOperation.EXEC, command, analyze_command(command.encode()).commands)

    return made


def _ssh(operation: SshOperation, **more: Any) -> Callable[[int, int], Facts]:
    def made(number: int, new: int) -> SshFacts:
        given = {name: _filled(value, number, new) for name, value in more.items()}
        if "port" in given:
            given["port"] = int(given["port"])
        return SshFacts(operation, **given)

    return made


def _port(number: int, new: int) -> SshFacts:
    return SshFacts(SshOperation.LISTEN, host="0.0.0.0", port=min(number, 50_000))  # noqa: S104


def _select(relation: str = "orders", column: str = "id", function: str = "") -> Callable[[int, int], Facts]:
    def made(number: int, new: int) -> SqlFacts:
        name = ColumnName("shop", _filled(relation, number, new), _filled(column, number, new))
        access = RelationAccess("select", "shop", name.relation, columns=(name.column,))
        functions = (_filled(function, number, new),) if function else ()
        uses, outputs = (ColumnUse(name, Use.OUTPUT),), (Output(name.column, name),)
        return SqlFacts("select", ("select",), (access,), functions, uses=uses, outputs=outputs)

    return made


def _create(number: int, new: int) -> SqlFacts:
    access = RelationAccess("select", "shop", f"orders{number}", columns=("id",))
    return SqlFacts("create_view", ("create_view", "select"), (access,))


def _set(number: int, new: int) -> SqlFacts:
    return SqlFacts("set", ("set",), settings=(f"app.value{number}",))


SHAPES: dict[str, Shape] = {
    # --- HTTP ---
    "http paths": Shape(HTTP, "http: {paths: ['/v1/things#/**']}", _http("/v1/things#/{new}")),
    "http globs in paths": Shape(HTTP, "http: {paths: ['/v1/item#-*']}", _http("/v1/item#-{new}")),
    "http ends of paths": Shape(HTTP, "http: {paths: ['/**/file#']}", _http("/a/{new}/file#")),
    "http pieces of paths": Shape(HTTP, "http: {paths: ['/v1/*-x#-*']}", _http("/v1/{new}-x#-{new}")),
    "http hosts": Shape(HTTP, "http: {hosts: ['*.h#.internal']}", _http(host="a.h#.internal")),
    "http query values": Shape(
        HTTP, "http: {paths: ['/v1/orders/{id}'], query: {team: [t#]}}", _http(query=(("team", "t#"),))
    ),
    "http query names": Shape(
        HTTP, "http: {paths: ['/v1/orders/{id}'], query: {team#: [on]}}", _http(query=(("team#", "on"),))
    ),
    "http two query values": Shape(
        HTTP,
        "http: {paths: ['/v1/orders/{id}'], query: {page: ['*'], team: ['t#*']}}",
        _http(query=(("page", "{new}"), ("team", "t#"))),
    ),
    "http headers": Shape(
        HTTP, "http: {methods: [GET], headers: {x-team: [t#]}}", _http(headers=(("x-team", "t#"),))
    ),
    "http types": Shape(
        HTTP, "http: {methods: [GET], content_types: ['text/x#']}", _http(content_type="text/x#", body_bytes=1)
    ),
    "http texts in bodies": Shape(HTTP, "http: {paths: [/v1/orders], body: {$.team: [t#]}}", _json(team="t#")),
    "http numbers in bodies": Shape(HTTP, "http: {paths: [/v1/orders], body: {$.n: [#]}}", _number),
    "http names in bodies": Shape(HTTP, "http: {paths: [/v1/orders], body: {$.t#: [x]}}", _json(team="x")),
    "http sizes": Shape(HTTP, "http: {methods: [POST], body_bytes: {SIZE: #B}}", _sized),
    "llm models": Shape(HTTP, "llm: {models: [m#]}", _call),
    "llm globs of models": Shape(HTTP, "llm: {operations: [chat], models: ['m#*']}", _call),
    "llm prompts": Shape(HTTP, "llm: {PROMPTS}", _call),
    "llm tools": Shape(HTTP, "llm: {tools: [tool#]}", _call),
    "http when of subject": Shape(
        HTTP, "http: {paths: ['/v1/orders/{id}']}, when: \"subject.name == 'user#'\"", _http()
    ),
    "http when of claims": Shape(
        HTTP, "http: {paths: ['/v1/orders/{id}']}, when: \"subject.claims.team in ['t#', 'u#']\"", _http()
    ),
    "http when of query": Shape(
        HTTP,
        "http: {paths: ['/v1/orders/{id}']}, when: \"http.query.team[0] == 't#' && size(http.query) < 9\"",
        _http(query=(("team", "t#"),)),
    ),
    "http when of what is missing": Shape(
        HTTP, "http: {paths: ['/v1/orders/{id}']}, when: \"http.query.team[0] == 't#'\"", _http()
    ),
    "http when without a constant": Shape(
        HTTP, "http: {paths: ['/v1/orders/{id}']}, when: \"size(subject.name) == # + 4\"", _http()
    ),
    # --- SSH ---
    "ssh arguments": Shape(SSH, 'ssh: {exec: ["deploy --app=app#-* *"]}', _exec("deploy --app=app#-x {new}")),
    "ssh last arguments": Shape(SSH, 'ssh: {exec: ["deploy * --to host#"]}', _exec("deploy f{new} --to host#")),
    "ssh redirections": Shape(SSH, 'ssh: {exec: ["*"], redirects: ["/tmp/a#/*"]}', _exec("cat f{new} > /tmp/a#/b")),
    "ssh globs in paths": Shape(
        SSH,
        'ssh: {files: [read], paths: ["/home/*/notes#"]}',
        _ssh(SshOperation.FILE, verb="read", path="/home/u{new}/notes#"),
    ),
    "ssh removed below": Shape(
        SSH,
        'ssh: {files: [remove], paths: ["/srv/d#/**"]}',
        _ssh(SshOperation.FILE, verb="remove", path="/srv/d#/{new}"),
    ),
    "ssh hosts": Shape(
        SSH, 'ssh: {forward: ["*.h#.internal:443"]}', _ssh(SshOperation.FORWARD, host="a{new}.h#.internal", port="443")
    ),
    "ssh listeners": Shape(SSH, 'ssh: {listen: ["*:#"]}', _port),
    "ssh subsystems": Shape(SSH, 'ssh: {subsystems: ["sub#-*"]}', _ssh(SshOperation.SUBSYSTEM, command="sub#-{new}")),
    "ssh shells when": Shape(SSH, "ssh: {shell: true}, when: \"subject.name == 'user#'\"", _ssh(SshOperation.SHELL)),
    # --- PostgreSQL ---
    "sql relations": Shape(POSTGRES, 'postgres: {relations: ["shop.orders#"]}', _select("orders#")),
    "sql globs of relations": Shape(POSTGRES, 'postgres: {relations: ["shop.orders#_*"]}', _select("orders#_{new}")),
    "sql columns": Shape(POSTGRES, 'postgres: {relations: ["shop.orders"], columns: [c#]}', _select(column="c#")),
    "sql columns alone": Shape(POSTGRES, 'postgres: {columns: ["c#"]}', _select("orders{new}", "c#")),
    "sql functions": Shape(
        POSTGRES, 'postgres: {relations: ["shop.orders"], functions: ["shop.f#"]}', _select(function="shop.f#")
    ),
    "sql commands": Shape(
        POSTGRES, 'postgres: {commands: [create_view, select], relations: ["shop.orders#"]}', _create
    ),
    "sql settings": Shape(POSTGRES, 'postgres: {settings: ["app.value#"]}', _set),
    "sql when": Shape(
        POSTGRES, "postgres: {relations: [\"shop.*\"]}, when: \"subject.name == 'user#'\"", _select("orders{new}")
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Times:
    """Microseconds of one judgement in the median, and seconds that the document took to load."""

    allowed: float
    denied: float
    load_s: float
    effect: str


def policy_of(shape: Shape, size: int) -> PolicyDocument:
    lines = [_line(shape.section, number) for number in range(1, size + 1)]
    return load_document(HEAD + "".join(lines), "shapes.yaml")


def _line(section: str, number: int) -> str:
    """What an allow rule cannot say is said by the others alone."""
    effect = "allow" if number % 2 else "deny"
    text = section.replace("SIZE", "max" if effect == "allow" else "min")
    text = text.replace(
        "PROMPTS", "models: [m#]" if effect == "allow" else "prompts: ['(?i)secret of project#x']"
    )
    number = 100_000 + number if "min" in text else number
    return f"  - {{name: r{number}, effect: {effect}, {text.replace('#', str(number))}}}\n"


def measure_one(shape: Shape, size: int) -> Times:
    begin = time.perf_counter()
    document = policy_of(shape, size)
    load_s = time.perf_counter() - begin
    allowed, effect = _median(document, shape, ONE)
    denied, _ = _median(document, shape, NONE)
    return Times(allowed, denied, load_s, effect.value)


def _median(document: PolicyDocument, shape: Shape, number: int) -> tuple[float, Effect]:
    subject = shape.subject(number)
    effect = judge(
        document, subject, shape.target, shape.facts(number, 0)
    ).effect  # the views are made with it
    times: list[float] = []
    new, end = 1, time.perf_counter() + BUDGET_S
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 2000):
        facts = shape.facts(number, new)
        begin = time.perf_counter_ns()
        judge(document, subject, shape.target, facts)
        times.append((time.perf_counter_ns() - begin) / 1000)
        new += 1
    return statistics.median(times), effect


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.rule_shapes", description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    options = parser.parse_args()
    sizes: Sequence[int] = [int(text) for text in options.sizes.split(",")]
    names = [name for name in SHAPES if not options.words or any(word in name for word in options.words)]
    if not options.json:
        print(f"{'rules of one shape':32}" + "".join(f"{size:>12,} {'':>10} {'load':>7}" for size in sizes))
        print(f"{'':32}" + "".join(f"{'allowed us':>12} {'denied us':>10} {'s':>7}" for _ in sizes))
    found: dict[str, dict[int, Times]] = {}
    for name in names:
        found[name] = {size: measure_one(SHAPES[name], size) for size in sizes}
        if not options.json:
            cells = (f"{t.allowed:12.1f} {t.denied:10.1f} {t.load_s:7.2f}" for t in found[name].values())
            print(f"{name:32}" + "".join(cells), found[name][sizes[0]].effect, flush=True)
    if options.json:
        shown = {
            name: {size: {"allowed": t.allowed, "denied": t.denied, "load_s": t.load_s} for size, t in by_size.items()}
            for name, by_size in found.items()
        }  # fmt: skip
        print(json.dumps(shown, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
