"""What an index finds changes no answer: the decision is that of a look at every rule, with its reasons in their order.

For each door documents of many rules that are close to each other, and operations that are close to the rules. The
indexes are made as eager as they can be (`eager`), and useless (`every_rule`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.conditions import compile_condition
from policy.document import DocumentError, PolicyDocument, load_document
from policy.evaluate import judge_sql
from policy.facts import (
    BodyState,
    ColumnName,
    ColumnUse,
    HttpFacts,
    LlmFacts,
    RelationAccess,
    SqlFacts,
    SshFacts,
    SshOperation,
    Subject,
    Target,
    Use,
)
from policy.http.evaluate import judge_http, needs_of
from policy.ssh.evaluate import judge_ssh
from tests.policy.every_rule import eager, every_rule, void_rules_load, without_near_misses
from tests.policy.http import test_properties as http_properties
from tests.policy.ssh import test_properties as ssh_properties

compile_condition("login == 'app'", "http")  # it imports what draws random numbers, which no strategy may do

HEAD = """\
version: 1
roles: {ops: {groups: [ops]}}
access:
  - {name: all, roles: [ops], targets: {names: ["*"]}, logins: ["*"]}
rules:
"""
SUBJECTS = st.sampled_from(
    [
        Subject("ann", ("ops",), {"team": "red", "tags": ["a", "b"]}),
        Subject("bob", ("ops", "dev"), {"team": ["red"]}),
        Subject("carl", ("ops",)),
    ]
)
WHO = [
    "subject.name == 'ann'",
    "subject.name == 'bob'",
    "'bob' == subject.name && login == 'app'",
    "subject.name in ['carl', 'ann']",
    "subject.claims.team == 'red'",
    "subject.claims.team == 'blue' || subject.claims.team == 'red'",
    "subject.claims.team == 'blue' || subject.name == 'bob'",
    "subject.claims.tags.exists(x, x == 'b')",
    "'dev' in subject.groups && subject.claims.team[0] == 'red'",
    "subject.claims.tags[1] == 'b'",
    "subject.name.startsWith('a')",
    "subject.name.startsWith('b') && subject.claims.team == 'red'",
    "size(subject.name) > 3 && subject.name == 'carl'",
    "int(subject.name) > 3 && subject.name == 'carl'",
    "!(subject.name == 'ann')",
    "subject.name == 'ann' || size(subject.groups) > 1",
]


def _document(chosen: list[tuple[str, str]]) -> PolicyDocument:
    lines = [
        f"  - {{name: r{number}, effect: {effect}, {section}"
        + (", approval: {approvers: [x]}}\n" if effect == "hold" else "}\n")
        for number, (effect, section) in enumerate(chosen)
    ]
    with void_rules_load():
        return load_document(HEAD + "".join(lines), "p.yaml")


def _is_same(document: PolicyDocument, judged: Callable[[PolicyDocument], object]) -> None:
    """The same, also when it is asked for again, from what is remembered."""
    assert judged(replace(document, views={})) == _by_every_rule(document, judged)
    with without_near_misses():  # of many rules only those are told that an index finds
        expected = _by_every_rule(document, judged)
        with eager():
            fresh = replace(document, views={})
            assert judged(fresh) == expected
            assert judged(fresh) == expected


def _by_every_rule(document: PolicyDocument, judged: Callable[[PolicyDocument], object]) -> object:
    with every_rule():
        return judged(replace(document, views={}))


def _with_when(sections: st.SearchStrategy[str], conditions: list[str]) -> st.SearchStrategy[tuple[str, str]]:
    whens = st.one_of(st.just(""), st.sampled_from(conditions).map(lambda text: f', when: "{text}"'))
    return st.tuples(
        st.sampled_from(["allow", "deny", "hold"]), st.builds(lambda a, b: a + b, sections, whens)
    )


def _many(rules: st.SearchStrategy[tuple[str, str]]) -> st.SearchStrategy[PolicyDocument]:
    return st.lists(rules, min_size=2, max_size=24).map(_document)


def _listed(key: str, values: list[str], most: int = 2) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True).map(
        lambda chosen: f"{key}: {chosen}"
    )


def _section(name: str, *keys: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    chosen = st.lists(st.one_of(*keys), min_size=1, max_size=3, unique_by=lambda key: key.partition(":")[0])
    return chosen.map(lambda texts: f"{name}: {{{', '.join(texts)}}}")


# --- PostgreSQL ---------------------------------------------------------------------------------------------

DATABASE = Target("db", "postgres")
NAMES = st.sampled_from(["a", "b", "ab", "x"])
SCHEMAS = st.sampled_from(["s", "t", ""])
COMMANDS = _listed("commands", ["select", "insert", "create_view", "copy_to", "*", "create_*"])
RELATIONS = _listed("relations", ["s.a", "s.b", "*.a", "s.a*", "*.*", "t.*", "s.*b"])
COLUMNS = _listed("columns", ["a", "b", "*", "a*", "s.a.a", "*.a.b"])
FUNCTIONS = _listed("functions", ["s.f", "*.f", "s.*", "t.g"])
SETTINGS = _listed("settings", ["x.a", "x.*", "y"])
SQL_SECTIONS = [
    _section("postgres", COMMANDS, RELATIONS, COLUMNS, FUNCTIONS, SETTINGS, st.just("where: absent")),
    _section("postgres", RELATIONS, COMMANDS),
    _section("postgres", COLUMNS, RELATIONS),
    _section("postgres", FUNCTIONS, RELATIONS),
    _section("postgres", SETTINGS, COMMANDS),
    st.sampled_from(["postgres: {relations: ['s.a']}", "postgres: {relations: ['s.b']}"]),
]
SQL_WHENS = [
    *WHO,
    "sql.command == 'select'",
    "'s.a' in sql.relations",
    "sql.relations == ['s.a']",
    "sql.unbounded",
    "sql.columns.exists(x, x == 's.a.a')",
]
accesses = st.builds(
    RelationAccess,
    st.sampled_from(["select", "insert", "update", "delete"]),
    SCHEMAS,
    NAMES,
    st.sampled_from(["", "s.view"]),
    st.booleans(),
    st.one_of(st.none(), st.lists(NAMES, max_size=2, unique=True).map(tuple)),
)
statements = st.builds(
    SqlFacts,
    st.sampled_from(["select", "insert", "create_view", "copy_to", "explain", "create_schema"]),
    st.lists(st.sampled_from(["select", "insert", "copy_to"]), max_size=2).map(tuple),
    st.lists(accesses, max_size=3).map(tuple),
    st.lists(st.sampled_from(["s.f", "t.g", "?.f", "g", "a.b.f", "s.f.x"]), max_size=2).map(tuple),
    st.lists(st.sampled_from(["x.a", "X.B", "y"]), max_size=2).map(tuple),
    st.lists(
        st.builds(ColumnUse, st.builds(ColumnName, SCHEMAS, NAMES, NAMES), st.sampled_from([*Use])),
        max_size=2,
    ).map(tuple),
    unresolved=st.sampled_from([(), ("why",)]),
    hidden_functions=st.sampled_from([(), ("s.f",), ("t.h",)]),
)


@lru_cache(maxsize=100_000)
def _sound(rule: tuple[str, str]) -> bool:
    """Does a document take it by itself?"""
    try:
        _document([rule])
    except DocumentError:
        return False
    return True


sql_documents = st.one_of(
    [_many(_with_when(sections, SQL_WHENS).filter(_sound)) for sections in SQL_SECTIONS]
)


@settings(max_examples=300, deadline=None)
@given(sql_documents, statements, SUBJECTS)
def test_sql_is_judged_as_by_every_rule(document: PolicyDocument, facts: SqlFacts, subject: Subject) -> None:
    _is_same(document, lambda policy: judge_sql(policy, subject, DATABASE, "app", facts))


# --- SSH ----------------------------------------------------------------------------------------------------

HOST = Target("web", "ssh")
SSH_WHENS = [
    *WHO,
    "ssh.operation == 'exec'",
    "ssh.path == '/srv/x'",
    "ssh.port == 22",
    "ssh.host in ['db', 'a.db']",
]
EXEC = _listed("exec", ["rm *", "rm -rf *", "/bin/rm *", "rm a", "r* -rf a", "*", "sh -c *", "rm * a"])
REDIRECTS = _listed("redirects", ["/srv/**", "/srv/x", "/etc/*", "/**"])
FILES = _listed("paths", ["/srv/**", "/srv/x", "/srv/*", "/*/x", "/etc/y", "/srv/x/y", "/srv/x/**", "/**"])
ADDRESSES = [
    "*:22",
    "db:22",
    "*.db:22",
    "a.db:*",
    "localhost:22",
    "127.*:80",
    "10.0.0.1:80",
    "unix:/srv/**",
    "*:80",
]
execs = st.builds(
    lambda commands, unresolved: SshFacts(
        SshOperation.EXEC, "text", tuple(commands), ("why",) if unresolved else ()
    ),
    st.lists(ssh_properties.commands, min_size=1, max_size=3),
    st.booleans(),
)
file_operations = st.builds(
    lambda verb, path, other: SshFacts(SshOperation.FILE, verb=verb, path=path, other_path=other),
    st.sampled_from(["read", "write", "rename", "rmdir", "setstat", "what"]),
    ssh_properties.PATHS,
    ssh_properties.PATHS,
)


def _addresses(operation: SshOperation) -> st.SearchStrategy[SshFacts]:
    return st.one_of(
        st.builds(
            lambda host, port: SshFacts(operation, host=host, port=port),
            ssh_properties.HOSTS,
            ssh_properties.PORTS,
        ),
        ssh_properties.PATHS.map(lambda path: SshFacts(operation, path=path or "/")),
    )


def _ssh_cases(
    sections: st.SearchStrategy[str], facts: st.SearchStrategy[SshFacts]
) -> st.SearchStrategy[tuple[PolicyDocument, SshFacts]]:
    return st.tuples(_many(_with_when(sections, SSH_WHENS)), facts)


ssh_cases = st.one_of(
    _ssh_cases(ssh_properties.sections.map(lambda text: f"ssh: {{{text}}}"), ssh_properties.facts),
    _ssh_cases(_section("ssh", EXEC), execs),
    _ssh_cases(st.builds(lambda one, other: f"ssh: {{{one}, {other}}}", EXEC, REDIRECTS), execs),
    _ssh_cases(_section("ssh", FILES, _listed("files", ["read", "rename", "rmdir", "*"])), file_operations),
    _ssh_cases(_section("ssh", _listed("forward", ADDRESSES)), _addresses(SshOperation.FORWARD)),
    _ssh_cases(_section("ssh", _listed("listen", ADDRESSES)), _addresses(SshOperation.LISTEN)),
    _ssh_cases(
        st.just("ssh: {shell: true, exec: ['rm *'], files: [read], subsystems: [sftp]}"), ssh_properties.facts
    ),
)


@settings(max_examples=600, deadline=None)
@given(ssh_cases, SUBJECTS)
def test_ssh_is_judged_as_by_every_rule(case: tuple[PolicyDocument, SshFacts], subject: Subject) -> None:
    document, facts = case
    _is_same(document, lambda policy: judge_ssh(policy, subject, HOST, "app", facts))


# --- HTTP ---------------------------------------------------------------------------------------------------

API = Target("api", "http")
MODELS = ["m", "M", "m*", "*n", "n"]
llm_sections = st.lists(
    st.one_of(
        _listed("models", MODELS),
        _listed("tools", ["t", "u*"]),
        _listed("operations", ["chat", "models", "other"]),
        st.just("max_tokens: {LIMIT: 10}"),
        st.just("prompts: ['secret']"),
        st.just("prompts: ['pl.in', 'x+y']"),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda key: key.partition(":")[0],
).map(lambda keys: f"llm: {{{', '.join(keys)}}}")
PLACES = st.sampled_from(["'$.a'", "'$.b'", "'$..a'", "'$.a[0]'", "'$.a.b'"])
BODIES = st.builds(
    lambda value, path: f"http: {{{value.replace('PATH', path)}}}",
    st.sampled_from(
        [
            *("body: {PATH: [x]}", "body: {PATH: [100, 5]}", "body: {PATH: [x], '$.b': absent}"),
            *(
                "body: {PATH: [true]}",
                "body: {PATH: ['1*']}",
                "body: {PATH: [null, x]}",
                "body: {PATH: [0, '']}",
            ),
            *(
                "body: {PATH: [y]}",
                "body: {PATH: present}",
                "body: {PATH: [100.0]}",
                "body_bytes: {LIMIT: 50}",
            ),
        ]
    ),
    PLACES,
)
NAMED = _section(
    "http",
    st.sampled_from(
        ["query: {q: [x, 'y*']}", "query: {q: ['*y']}", "query: {'q[]': [x]}", "query: {Q: [X]}"]
    ),
    st.sampled_from(
        ["query: {r: [x], q: present}", "query: {r: [y]}", "query: {q: absent}", "query: {q: [y]}"]
    ),
    st.sampled_from(["headers: {x-a: ['x, y']}", "headers: {x-a: [y]}", "headers: {x_a: [x], x-b: absent}"]),
    st.sampled_from(["content_types: [text/plain]", "content_types: ['application/*']", "methods: [POST]"]),
)
PATHS = _section(
    "http",
    _listed(
        "paths", ["/a/**", "/a/b", "/**/b", "/a/*", "/{x}/b", "/a*/b", "/**/admin/b", "/admin", "/", "/a/"]
    ),
    _listed("hosts", ["api.internal", "*.internal", "api.internal:8443", "x", "*", "api.*:8443"]),
    _listed("methods", ["GET", "POST", "DELETE"]),
)
HTTP_SECTIONS = [
    http_properties.http.map(lambda text: f"http: {{{text}}}"),
    BODIES,
    NAMED,
    PATHS,
    st.sampled_from(["http: {methods: ['*']}", "http: {paths: ['/a/**']}"]),
]
CALL_SECTIONS = [
    llm_sections,
    _listed("tools", ["t", "u*", "v", "w"]).map(lambda text: f"llm: {{{text}}}"),
    _listed("models", MODELS).map(lambda text: f"llm: {{{text}}}"),
    st.builds(
        lambda head, llm: f"http: {{{head}}}, {llm}",
        st.sampled_from(["paths: ['/a/**']", "methods: [POST]", "query: {q: [x]}"]),
        llm_sections,
    ),
    *HTTP_SECTIONS[:2],
]
HTTP_WHENS = [
    *WHO,
    "http.query.q[0] == 'x'",
    "http.query.q[0] == 'y'",
    "'x' in http.query.q",
    "http.query['q'].exists(v, v in ['x', 'y'])",
    "http.body.a == 5",
    "http.body.a == 100",
    "http.body.a == 'x' && http.query.q[0] == 'x'",
    "http.body_bytes == 10",
    "http.path.endsWith('/b')",
    "llm.model == 'm'",
    "has(http.headers.accept) && http.headers.accept[0] == 'x'",
]


def _limited(rule: tuple[str, str]) -> tuple[str, str]:
    effect, section = rule
    return effect, section.replace("LIMIT", "max" if effect == "allow" else "min")


def _http_documents(families: list[st.SearchStrategy[str]]) -> st.SearchStrategy[PolicyDocument]:
    return st.one_of(
        [_many(_with_when(sections, HTTP_WHENS).map(_limited).filter(_sound)) for sections in families]
    )


calls = st.builds(
    LlmFacts,
    st.just("openai"),
    st.sampled_from(["chat", "models", "other", "completions"]),
    st.sampled_from(["m", "M", " m", "n", "mn", ""]),
    st.sampled_from([None, 5, 50]),
    tools=st.sampled_from([(), ("t",), ("u1", "t"), ("v",)]),
    unresolved=st.sampled_from(
        [(), (), ("model: two",), ("tools: odd",), ("operation: odd",), ("body: unread",)]
    ),
)
PROMPTS = [{"messages": [{"role": "user", "content": text}]} for text in ("a secret", "plain xy", "nothing")]


def _as_call(facts: HttpFacts, call: LlmFacts, body: Any, *, is_seen: bool) -> HttpFacts:
    state = BodyState.JSON if is_seen else BodyState.UNREAD
    return msgspec.structs.replace(facts, llm=call, body_state=state, body=body if is_seen else None)


http_cases = st.one_of(
    st.tuples(_http_documents(HTTP_SECTIONS), http_properties.requests),
    st.tuples(
        _http_documents(CALL_SECTIONS),
        st.builds(_as_call, http_properties.requests, calls, st.sampled_from(PROMPTS), is_seen=st.booleans()),
    ),
)


@settings(max_examples=500, deadline=None)
@given(http_cases, SUBJECTS)
def test_http_is_judged_as_by_every_rule(case: tuple[PolicyDocument, HttpFacts], subject: Subject) -> None:
    document, facts = case
    _is_same(document, lambda policy: judge_http(policy, subject, API, "app", facts))


@settings(max_examples=300, deadline=None)
@given(http_cases, SUBJECTS)
def test_a_body_is_read_as_by_every_rule(case: tuple[PolicyDocument, HttpFacts], subject: Subject) -> None:
    document, head = case
    if head.body_state is not BodyState.NONE:
        head = msgspec.structs.replace(head, body_state=BodyState.UNREAD, body=None)
    _is_same(document, lambda policy: needs_of(policy, subject, API, "app", head).body)
