"""Rules with conditions at all three doors: tables of rule, operation and verdict; what does not change; reasons."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.decision import Decision, Effect
from policy.document import PolicyDocument, load_document
from policy.evaluate import identity_for, judge_sql
from policy.facts import (
    HttpFacts,
    LlmFacts,
    RelationAccess,
    SimpleCommand,
    SqlFacts,
    SshFacts,
    SshOperation,
    Subject,
    Target,
    Word,
)
from policy.http.evaluate import judge_http, needs_of
from policy.ssh.evaluate import depends_on_paths, judge_ssh

A, D, H = Effect.ALLOW, Effect.DENY, Effect.HOLD
HEAD = """\
version: 1
roles: {ops: {groups: [ops]}}
access:
  - {name: all, roles: [ops], targets: {names: ["*"]}, logins: ["*"]}
rules:
"""
OLGA = Subject("olga", ("ops",), {"kind": "agent"})
BORIS = Subject("boris", ("ops",), {"kind": "person"})
Facts = SqlFacts | SshFacts | HttpFacts


class Door(NamedTuple):
    target: Target
    everything: str  # the section of a rule about all of it
    judge: Callable[..., Decision]


SQL = Door(Target("shop", "postgres", {"env": "prod"}), 'postgres: {commands: ["*"]}', judge_sql)
CALLS = Door(SQL.target, 'postgres: {functions: ["*.*"]}', judge_sql)
SETTINGS = Door(SQL.target, 'postgres: {settings: ["*"]}', judge_sql)
EXEC = Door(Target("web1", "ssh", {"env": "prod"}), 'ssh: {exec: ["*"]}', judge_ssh)
SSH = Door(
    Target("web1", "ssh", {"env": "prod"}),
    'ssh: {exec: ["*"], shell: true, paths: ["/**"], forward: ["*:*", "unix:/**"], listen: ["*:*"], subsystems: ["*"]}',
    judge_ssh,
)
HTTP = Door(Target("api", "http", {"env": "prod"}), 'http: {methods: ["*"]}', judge_http)
LLM = Door(HTTP.target, 'llm: {models: ["*"]}', judge_http)


def document(*rules: str) -> PolicyDocument:
    lines = [f"  - {{name: r{number}, {rule}}}\n" for number, rule in enumerate(rules)]
    return load_document(HEAD + "".join(lines), "p.yaml")


def rule(effect: str, section: str, when: str = "") -> str:
    approval = ", approval: {approvers: [boss]}" if effect == "hold" else ""
    condition = f", when: '{when.replace(chr(39), chr(39) * 2)}'" if when else ""
    return f"effect: {effect}, {section}{approval}{condition}"


def decisions(door: Door, when: str, facts: Facts, subject: Subject = OLGA) -> tuple[Decision, ...]:
    """Of an allow rule with the condition alone; of a deny and a hold rule with it, beside one that allows all."""
    section = door.everything
    policies = (
        document(rule("allow", section, when)),
        *(document(rule("allow", section), rule(effect, section, when)) for effect in ("deny", "hold")),
    )
    return tuple(door.judge(policy, subject, door.target, "app", facts) for policy in policies)


def effects(door: Door, when: str, facts: Facts, subject: Subject = OLGA) -> tuple[Effect, ...]:
    return tuple(decision.effect for decision in decisions(door, when, facts, subject))


TRUE, FALSE, UNKNOWN = (A, D, H), (D, A, A), (D, D, H)


# --- SQL ----------------------------------------------------------------------------------------------------


def touch(command: str, name: str, *columns: str, bounded: bool = True) -> RelationAccess:
    schema, _, relation = name.rpartition(".")
    return RelationAccess(command, schema, relation, "", bounded, columns)


SELECT = SqlFacts("select", ("select",), (touch("select", "shop.orders", "id", "total"),))
UPDATE = SqlFacts(
    "update",
    ("update", "select"),
    (touch("update", "shop.prices", "price", bounded=False), touch("select", "shop.orders", "id")),
)
UNSURE = SqlFacts("select", ("select",), (touch("select", "orders", "id"),))
CALL = SqlFacts("select", ("select",), functions=("shop.total",), hidden_functions=("shop.inner",))
SET = SqlFacts("set", ("set",), settings=("work_mem",))


@pytest.mark.parametrize(
    ("when", "facts", "expected"),
    [
        ("sql.command == 'select'", SELECT, TRUE),
        ("sql.command == 'update'", SELECT, FALSE),
        ("'select' in sql.commands && sql.command == 'update'", UPDATE, TRUE),
        ("sql.unbounded", UPDATE, TRUE),
        ("sql.unbounded", SELECT, FALSE),
        ("'shop.prices' in sql.relations && sql.relations.size() == 2", UPDATE, TRUE),
        ("sql.relations.all(r, r.startsWith('shop.'))", SELECT, TRUE),
        ("'shop.orders.total' in sql.columns", SELECT, TRUE),
        ("sql.columns.exists(c, c.endsWith('.ssn'))", SELECT, FALSE),
        ("sql.settings == []", SELECT, TRUE),
        ("subject.name == 'olga' && subject.claims.kind == 'agent' && 'ops' in subject.groups", SELECT, TRUE),
        ("target.name == 'shop' && target.labels.env == 'prod' && login == 'app'", SELECT, TRUE),
        ("login == 'root'", SELECT, FALSE),
        ("subject.claims.missing == 'x'", SELECT, UNKNOWN),
        ("target.labels.missing == 'x'", SELECT, UNKNOWN),
    ],
)
def test_sql(when: str, facts: SqlFacts, expected: tuple[Effect, ...]) -> None:
    assert effects(SQL, when, facts) == expected


def test_functions_and_settings() -> None:
    assert effects(CALLS, "'shop.total' in sql.functions && 'shop.inner' in sql.functions", CALL) == TRUE
    assert effects(CALLS, "sql.functions == ['shop.total']", CALL) == FALSE
    assert effects(SETTINGS, "'work_mem' in sql.settings", SET) == TRUE
    assert effects(SETTINGS, "sql.settings.all(s, s.startsWith('myapp.'))", SET) == FALSE


@pytest.mark.parametrize(
    ("when", "facts"),
    [
        ("'shop.orders' in sql.relations", UNSURE),
        ("!('shop.secrets' in sql.relations)", UNSURE),
        ("sql.columns.size() > 9", UNSURE),
        ("!sql.unbounded", msgspec.structs.replace(SELECT, unresolved=("a DO block",))),
        ("sql.relations.size() > 9", msgspec.structs.replace(SELECT, unresolved=("a DO block",))),
        ("'shop.total' in sql.functions", msgspec.structs.replace(CALL, functions=("?.total",))),
    ],
)
def test_sql_that_cannot_all_be_seen(when: str, facts: SqlFacts) -> None:
    assert effects(SQL, when, facts)[0] is D
    assert effects(SQL, when, facts)[1] is D
    assert effects(SQL, when, facts)[2] is not A


# --- SSH ----------------------------------------------------------------------------------------------------


def command(text: str, *inner: SimpleCommand) -> SimpleCommand:
    words = tuple(Word(word, is_known=not word.startswith("$")) for word in text.split())
    return SimpleCommand(words, inner=inner)


def run(*commands: SimpleCommand, text: str = "x", unresolved: tuple[str, ...] = ()) -> SshFacts:
    return SshFacts(SshOperation.EXEC, text, commands, unresolved)


def file(verb: str, path: str, other: str = "") -> SshFacts:
    return SshFacts(SshOperation.FILE, verb=verb, path=path, other_path=other)


def forward(host: str, port: int, path: str = "") -> SshFacts:
    return SshFacts(SshOperation.FORWARD, host=host, port=port, path=path)


RM = run(command("sudo rm -rf /x", command("/bin/rm -rf /x")), text="sudo rm -rf /x")


@pytest.mark.parametrize(
    ("when", "facts", "expected"),
    [
        ("ssh.operation == 'exec' && ssh.command == 'sudo rm -rf /x'", RM, TRUE),
        ("ssh.commands.exists(c, c.name == 'rm' && '-rf' in c.words)", RM, TRUE),
        ("ssh.commands.exists(c, c.words[0] == '/bin/rm')", RM, TRUE),
        ("ssh.commands.size() == 2", RM, TRUE),
        ("ssh.commands.exists(c, c.name == 'dd')", RM, FALSE),
        ("ssh.verb == 'write'", RM, UNKNOWN),
        ("ssh.has_pty", SshFacts(SshOperation.SHELL, has_pty=True), TRUE),
        ("ssh.operation == 'shell' && !ssh.has_pty", SshFacts(SshOperation.SHELL), TRUE),
        ("ssh.command == 'backup'", SshFacts(SshOperation.SUBSYSTEM, "backup"), TRUE),
        (
            "ssh.verb == 'write' && ssh.path.startsWith('/home/' + subject.name)",
            file("write", "/home/olga/a"),
            TRUE,
        ),
        ("ssh.path.startsWith('/home/' + subject.name + '/')", file("write", "/home/boris/a"), FALSE),
        ("ssh.other_path == '/b'", file("rename", "/a", "/b"), TRUE),
        ("ssh.other_path == '/b'", file("read", "/a"), UNKNOWN),
        ("ssh.path != '/b'", file("read", "/a/../b"), UNKNOWN),
        ("ssh.host == 'db.internal' && ssh.port == 5432", forward("DB.internal.", 5432), TRUE),
        ("ssh.port > 1024", forward("db.internal", 22), FALSE),
        ("ssh.host == '10.0.0.1'", forward("::ffff:10.0.0.1", 22), TRUE),
        ("ssh.host != '127.0.0.1'", forward("localhost", 22), UNKNOWN),
        ("ssh.host != '10.0.0.1'", forward("0x0a.1", 22), UNKNOWN),
        ("ssh.host == 'a' || ssh.path == '/run/x.sock'", forward("", 0, "/run/x.sock"), TRUE),
        ("subject.claims.kind == 'agent' && login == 'app'", RM, TRUE),
    ],
)
def test_ssh(when: str, facts: SshFacts, expected: tuple[Effect, ...]) -> None:
    assert effects(SSH, when, facts) == expected


@pytest.mark.parametrize(
    "facts",
    [
        run(command("$cmd")),
        run(command("echo $x")),
        run(command("ls"), unresolved=("it does not parse",)),
        run(SimpleCommand((Word("sh"),), reads_code=True)),
        run(),
        run(*[command("ls")] * 2001),
    ],
)
def test_commands_that_cannot_all_be_seen_are_not_known(facts: SshFacts) -> None:
    assert effects(EXEC, "!ssh.commands.exists(c, c.name == 'rm')", facts) == UNKNOWN


def test_a_command_that_is_no_text_is_not_known() -> None:
    assert effects(SSH, "ssh.command != 'a'", run(command("ls"), text="\udcff")) == UNKNOWN


def test_paths_are_resolved_for_conditions_that_read_them() -> None:
    files = 'ssh: {files: ["*"]}'
    for when, expected in (
        ("ssh.path == '/a'", True),
        ("ssh.other_path == '/a'", True),
        ("login == 'a'", False),
    ):
        policy = document(rule("allow", files, when))
        assert depends_on_paths(policy, OLGA, SSH.target) is expected


def test_a_condition_on_files_is_asked_of_each_and_not_when_sftp_opens() -> None:
    opening = SshFacts(SshOperation.SUBSYSTEM, "sftp")
    for when in ("ssh.path.startsWith('/data/')", "ssh.operation == 'file' && ssh.verb == 'read'"):
        policy = document(rule("allow", 'ssh: {files: ["*"]}', when))
        assert judge_ssh(policy, OLGA, SSH.target, "app", opening).effect is A
        assert judge_ssh(policy, OLGA, SSH.target, "app", file("read", "/data/a")).effect is A
        assert judge_ssh(policy, OLGA, SSH.target, "app", file("write", "/other/a")).effect is D
    policy = document(rule("allow", 'ssh: {files: ["*"]}', "subject.name == 'boris'"))
    assert judge_ssh(policy, OLGA, SSH.target, "app", opening).effect is D
    assert judge_ssh(policy, BORIS, SSH.target, "app", opening).effect is A
    named = document(rule("allow", "ssh: {subsystems: [sftp]}", "ssh.command == 'x'"))
    assert judge_ssh(named, OLGA, SSH.target, "app", opening).effect is D


def test_commands_are_covered_each_under_its_own_condition() -> None:
    policy = document(
        rule("allow", 'ssh: {exec: ["ls *"]}', "subject.name == 'olga'"),
        rule("allow", 'ssh: {exec: ["df *"]}', "subject.name == 'boris'"),
    )
    both = run(command("ls /"), command("df /"))
    assert judge_ssh(policy, OLGA, SSH.target, "app", run(command("ls /"))).effect is A
    assert judge_ssh(policy, OLGA, SSH.target, "app", both).effect is D
    assert judge_ssh(policy, BORIS, SSH.target, "app", both).effect is D


# --- HTTP ---------------------------------------------------------------------------------------------------


def get(path: str = "/a", **more: object) -> HttpFacts:
    return HttpFacts(**{"method": "GET", "scheme": "https", "host": "api", "path": path, **more})  # type: ignore[arg-type]


def call(most: int | None, cost: float | None, *unresolved: str) -> HttpFacts:
    return get("/v1/chat", llm=LlmFacts("openai", "chat", "gpt-4o", most, 10, cost, unresolved=unresolved))


EXPENSIVE = "llm.max_tokens > 4000 || llm.estimated_cost_usd > 0.50"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (call(5000, 0.1), TRUE),
        (call(100, 0.6), TRUE),
        (call(100, 0.1), FALSE),
        (call(4000, 0.5), FALSE),
        (call(None, 0.6), TRUE),
        (call(5000, None), TRUE),
        (call(None, 0.1), UNKNOWN),
        (call(100, None), UNKNOWN),
        (call(None, None), UNKNOWN),
        (call(100, 0.1, "length: it is not a number"), UNKNOWN),
    ],
)
def test_the_example(facts: HttpFacts, expected: tuple[Effect, ...]) -> None:
    assert effects(LLM, EXPENSIVE, facts) == expected


@pytest.mark.parametrize(
    ("when", "facts", "expected"),
    [
        ("http.method == 'GET' && http.path == '/a'", get(), TRUE),
        ("http.path != '/b'", get("/a", other_paths=("/b",)), UNKNOWN),
        ("http.method == 'GET'", get(headers=(("x-http-method-override", "DELETE"),)), UNKNOWN),
        ("http.method == 'GET'", get(query=(("_method", "DELETE"),)), UNKNOWN),
        ("'b' in http.query.a", get(query=(("a", "x"), ("a", "b"))), TRUE),
        ("http.query.a[0] == 'b'", get(), UNKNOWN),
        ("has(http.headers.via)", get(), FALSE),
        ("has(http.body)", get(), FALSE),
        ("llm.max_tokens > 1", get(), UNKNOWN),
        ("login == 'app' && subject.name == 'olga'", get(), TRUE),
    ],
)
def test_http(when: str, facts: HttpFacts, expected: tuple[Effect, ...]) -> None:
    assert effects(HTTP, when, facts) == expected


def test_the_head_is_enough_for_conditions_on_the_head() -> None:
    unread = get(body_bytes=5)
    assert not needs_of(
        document(rule("allow", HTTP.everything, "login == 'app'")), OLGA, HTTP.target, "app", unread
    ).body


# --- who asks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "facts"),
    [(SQL, SELECT), (SSH, RM), (SSH, file("read", "/a")), (HTTP, get()), (LLM, call(1, 0.1))],
)
@pytest.mark.parametrize("when", ["subject.name == 'olga'", "subject.claims.kind == 'agent'"])
def test_what_is_remembered_for_roles_is_not_for_subjects(door: Door, facts: Facts, when: str) -> None:
    """Both have the same roles, and ask in turns of the same document, which remembers views and decisions."""
    policy = document(rule("allow", door.everything, when))
    asked = [door.judge(policy, who, door.target, "app", facts).effect for who in (OLGA, BORIS) * 3]
    assert asked == [A, D] * 3
    logins = document(rule("allow", door.everything, "login == 'app'"))
    assert [
        door.judge(logins, OLGA, door.target, login, facts).effect for login in ("app", "root", "app")
    ] == [A, D, A]


def test_verdicts_on_sql_are_shared_by_roles_unless_a_condition_reads_the_subject() -> None:
    plain = document(rule("allow", SQL.everything, "sql.unbounded"))
    assert identity_for(plain, OLGA, SQL.target) == identity_for(plain, BORIS, SQL.target) == b""
    reading = document(rule("allow", SQL.everything), rule("deny", SQL.everything, "subject.name == 'x'"))
    keys = {
        identity_for(reading, who, SQL.target)
        for who in (
            OLGA,
            BORIS,
            Subject("olga", ("ops",)),
            Subject("olga", ("ops",), {"kind": "agent"}, "token"),
        )
    }
    assert len(keys) == 4
    assert identity_for(reading, OLGA, SQL.target) == identity_for(
        reading, Subject("olga", ("ops",), {"kind": "agent"}, expires_at=5.0), SQL.target
    )


# --- reasons ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("door", "facts", "when", "missing"),
    [
        (SQL, UNSURE, "'a' in sql.relations", "`sql.relations` is not known"),
        (SSH, run(command("ls $x")), "ssh.commands == []", "`ssh.commands` is not known"),
        (SSH, file("read", "/a/../b"), "ssh.path == '/a'", "`ssh.path` is not known"),
        (LLM, call(None, 0.1), EXPENSIVE, "`llm.max_tokens` is not known"),
    ],
)
def test_a_reason_says_what_could_not_be_worked_out(
    door: Door, facts: Facts, when: str, missing: str
) -> None:
    allow, deny, hold = decisions(door, when, facts)
    told = " ".join(reason.message for reason in allow.reasons)
    assert f"rule r0 allows this under a condition, which cannot be worked out: {missing}" in told
    for decision in (deny, hold):
        (reason,) = [reason for reason in decision.reasons if reason.rule == "r1"]
        assert "counts as true here, because it cannot be worked out" in reason.message
        assert missing in reason.message


def test_a_reason_names_the_rule_whose_condition_does_not_hold() -> None:
    for door, facts in ((SQL, SELECT), (SSH, RM), (SSH, file("read", "/a")), (HTTP, get())):
        denied = decisions(door, "login == 'root'", facts)[0]
        assert denied.reasons[-1].message == "rule r0 allows this under a condition, which does not hold"
        assert denied.reasons[-1].rule == "r0"


# --- properties ---------------------------------------------------------------------------------------------

_CONDITIONS = [
    "true",
    "false",
    "subject.name == 'olga'",
    "login == 'root'",
    "target.labels.missing == 'x'",
    "'x' in subject.claims.kind",
    "1 / 0 == 1",
    "subject.claims.missing == 'x' || subject.name == 'boris'",
    "subject.claims.missing == 'x' && subject.name == 'boris'",
]
_EFFECTS = ("allow", "deny", "hold")
_STRICTNESS = {A: 0, H: 1, D: 2}
_OPERATIONS: list[tuple[Door, Facts]] = [
    *((SQL, facts) for facts in (SELECT, UPDATE, UNSURE, CALL, SET)),
    *(
        (SSH, facts)
        for facts in (RM, file("read", "/a"), forward("db", 1), SshFacts(SshOperation.SUBSYSTEM, "sftp"))
    ),
    *((HTTP, facts) for facts in (get(), get("/a", query=(("a", "b"),)))),
]


@given(
    st.sampled_from(_OPERATIONS),
    st.lists(st.tuples(st.sampled_from(_EFFECTS), st.sampled_from(_CONDITIONS)), min_size=1, max_size=4),
    st.sampled_from([OLGA, BORIS]),
)
def test_a_condition_allows_nothing_that_its_rule_would_not(
    operation: tuple[Door, Facts], rules: list[tuple[str, str]], subject: Subject
) -> None:
    """Taking the conditions off the allow rules allows as much or more; putting them on deny and hold rules too."""
    door, facts = operation

    def judged(*texts: str) -> Decision:
        return door.judge(document(*texts), subject, door.target, "app", facts)

    # In parentheses, so that no deny rule has the very condition of an allow rule, which it would make void.
    rules = [(effect, when if effect == "allow" else f"({when})") for effect, when in rules]
    with_all = judged(*(rule(effect, door.everything, when) for effect, when in rules))
    unconditional_allows = judged(
        *(rule(effect, door.everything, "" if effect == "allow" else when) for effect, when in rules)
    )
    unconditional_refusals = judged(
        *(rule(effect, door.everything, when if effect == "allow" else "(true)") for effect, when in rules)
    )
    assert _STRICTNESS[unconditional_allows.effect] <= _STRICTNESS[with_all.effect]
    if not any(effect == "hold" for effect, _ in rules):  # what is held is covered by the rule that holds it
        assert _STRICTNESS[with_all.effect] <= _STRICTNESS[unconditional_refusals.effect]
    again = judged(*(rule(effect, door.everything, when) for effect, when in rules))
    assert again == with_all


@pytest.mark.parametrize(("door", "facts"), _OPERATIONS)
def test_facts_from_a_tape_give_the_same_decision(door: Door, facts: Facts) -> None:
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(facts), type=type(facts))
    for when in ("subject.name == 'olga'", "subject.claims.missing == 'a'", "target.labels.env == 'prod'"):
        assert decisions(door, when, read) == decisions(door, when, facts)
