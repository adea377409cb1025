"""Statements against rules: deny, hold, cover, and what is not known. Tables of facts and verdicts."""

from __future__ import annotations

import pytest

from policy.decision import Decision, Effect
from policy.document import load_document
from policy.evaluate import MAX_REASONS, judge_sql
from policy.facts import ColumnName, ColumnUse, Output, RelationAccess, SqlFacts, Subject, Target, Use

HEAD = """\
version: 1
roles:
  analyst: {groups: [data]}
  other: {groups: [other]}
access:
  - {name: read, roles: [analyst, other], targets: {names: ["*"]}, logins: [readonly]}
rules:
"""
ADA = Subject("ada", ("data",))
SHOP = Target("shop", "postgres", {"env": "prod"})
A, D, H = Effect.ALLOW, Effect.DENY, Effect.HOLD


def touch(
    command: str,
    name: str,
    *columns: str,
    via: str = "",
    bounded: bool = True,
    unknown: bool = False,
) -> RelationAccess:
    schema, _, relation = name.rpartition(".")
    return RelationAccess(
        command, schema, relation, via, bounded, None if unknown else tuple(sorted(columns))
    )


def facts(*accesses: RelationAccess, command: str = "", **more: object) -> SqlFacts:
    top = command or (accesses[0].command if accesses else "select")
    commands = tuple(dict.fromkeys((top, *(access.command for access in accesses))))
    return SqlFacts(**{"command": top, "commands": commands, "accesses": accesses, **more})  # type: ignore[arg-type]


def judge(rules: str, statement: SqlFacts, subject: Subject = ADA, target: Target = SHOP) -> Decision:
    lines = "".join(f"  - {line}\n" for line in rules.strip().split("\n")) if rules.strip() else ""
    text = HEAD.removesuffix("rules:\n") + (f"rules:\n{lines}" if lines else "")
    return judge_sql(load_document(text, "p.yaml"), subject, target, "readonly", statement)


READ = '{name: read-shop, effect: allow, postgres: {commands: [select], relations: ["shop.*"]}}\n'
CHANGE = '{name: change, effect: allow, postgres: {commands: [update, delete], relations: ["shop.*"]}}\n'
ALL = '{name: all, effect: allow, postgres: {commands: ["*"]}}\n'
KEYS = '{name: keys, effect: deny, postgres: {relations: ["*.api_keys"]}, message: "No API keys."}\n'
UNBOUND = "{name: unbound, effect: deny, postgres: {commands: [update, delete], where: absent}}\n"
SSN = "{name: ssn, effect: deny, postgres: {columns: [ssn]}}\n"
_APPROVAL = "approval: {approvers: [dba]}"
HOLD = f'{{name: wait, effect: hold, {_APPROVAL}, postgres: {{commands: [insert], relations: ["shop.*"]}}}}\n'

ORDERS = touch("select", "shop.orders", "id")


@pytest.mark.parametrize(
    ("rules", "statement", "effect", "named"),
    [
        # Silence is deny.
        ("", facts(ORDERS), D, [""]),
        (READ, facts(ORDERS), A, ["read-shop"]),
        (READ, facts(touch("insert", "shop.orders")), D, [""]),
        (READ, facts(touch("select", "hr.people")), D, [""]),
        (READ, facts(touch("select", "shopping.orders")), D, [""]),
        (READ, facts(touch("select", "Shop.orders")), D, [""]),
        # Every part must be covered, whatever the top command is.
        (READ, facts(ORDERS, touch("select", "hr.people")), D, [""]),
        (READ, facts(ORDERS, touch("delete", "shop.orders"), command="select"), D, [""]),
        (READ + CHANGE, facts(ORDERS, touch("delete", "shop.orders"), command="select"), A, ["read-shop", "change"]),
        (READ, facts(ORDERS, touch("update", "shop.orders"), command="explain"), D, [""]),
        (READ, facts(ORDERS, command="explain"), A, ["read-shop", "built-in: session"]),
        (READ, facts(ORDERS, command="declare_cursor"), A, ["read-shop", "built-in: session"]),
        (READ, facts(ORDERS, command="prepare"), A, ["read-shop", "built-in: session"]),
        (READ, facts(ORDERS, command="copy_to"), A, ["read-shop", "built-in: session"]),
        (READ, facts(ORDERS, command="create_table_as"), D, [""]),
        (READ, facts(ORDERS, command="copy_program"), D, [""]),
        (READ, facts(ORDERS, command="copy_file"), D, [""]),
        (ALL, facts(ORDERS, command="copy_program"), D, [""]),
        # What is reached through a view needs no allow of its own, the view does.
        (READ, facts(touch("select", "shop.v"), touch("select", "hr.people", via="shop.v")), A, ["read-shop"]),
        (READ, facts(touch("select", "hr.v"), touch("select", "shop.orders", via="hr.v")), D, [""]),
        # ... but a deny on what is behind it counts.
        (READ + KEYS, facts(touch("select", "shop.v"), touch("select", "shop.api_keys", via="shop.v")), D, ["keys"]),
        (READ + KEYS, facts(touch("select", "shop.api_keys")), D, ["keys"]),
        (READ + KEYS, facts(touch("select", "shop.api_keys_old")), A, ["read-shop"]),
        (ALL + KEYS, facts(touch("truncate", "hr.api_keys")), D, ["keys"]),
        (ALL + KEYS, facts(touch("drop_table", "hr.api_keys")), D, ["keys"]),
        # An unresolved schema may be the denied one, and is the allowed one only for a rule about no relation.
        (ALL + KEYS, facts(touch("select", "api_keys")), D, ["keys"]),
        (ALL, facts(touch("select", "orders")), A, ["all"]),
        (READ, facts(touch("select", "orders")), D, [""]),
        # where: absent speaks about the same access.
        (CHANGE + UNBOUND, facts(touch("update", "shop.orders", "total")), A, ["change"]),
        (CHANGE + UNBOUND, facts(touch("update", "shop.orders", "total", bounded=False)), D, ["unbound"]),
        (CHANGE + UNBOUND, facts(touch("delete", "shop.orders", bounded=False)), D, ["unbound"]),
        (READ + CHANGE + UNBOUND, facts(ORDERS, touch("delete", "shop.x", bounded=False)), D, ["unbound"]),
        (ALL + UNBOUND, facts(touch("truncate", "shop.orders", bounded=False)), A, ["all"]),
        (
            ALL + "{name: d, effect: deny, postgres: {commands: [update], relations: [shop.a], where: absent}}\n",
            facts(touch("update", "shop.a"), touch("update", "shop.b", bounded=False)),
            A,
            ["all"],
        ),
        (
            "{name: a, effect: allow, postgres: {commands: [delete], where: absent}}\n",
            facts(touch("delete", "shop.a")),
            D,
            [""],
        ),
        (
            "{name: a, effect: allow, postgres: {commands: [delete], where: absent}}\n",
            facts(touch("delete", "shop.a", bounded=False)),
            A,
            ["a"],
        ),
        # commands and relations must mean the same access.
        (
            ALL + "{name: d, effect: deny, postgres: {commands: [insert], relations: [shop.a]}}\n",
            facts(touch("insert", "shop.b"), touch("select", "shop.a")),
            A,
            ["all"],
        ),
        (
            ALL + "{name: d, effect: deny, postgres: {commands: [insert], relations: [shop.a]}}\n",
            facts(touch("select", "shop.b"), touch("insert", "shop.a"), command="select"),
            D,
            ["d"],
        ),
        # A command around another one is not an access of its own, and is denied all the same.
        (
            ALL + "{name: d, effect: deny, postgres: {commands: [copy_to], relations: [shop.a]}}\n",
            facts(touch("select", "shop.a"), command="copy_to"),
            D,
            ["d"],
        ),
        (ALL + "{name: d, effect: deny, postgres: {commands: [explain]}}\n",
         facts(ORDERS, command="explain"), D, ["d"]),
        (
            ALL + "{name: d, effect: deny, postgres: {commands: [delete]}}\n",
            facts(ORDERS, command="select", commands=("select", "delete")),
            D,
            ["d"],
        ),
        (ALL + "{name: d, effect: deny, postgres: {commands: [delete]}}\n", facts(ORDERS), A, ["all"]),
        # Columns.
        (READ + SSN, facts(touch("select", "shop.customers", "id", "ssn")), D, ["ssn"]),
        (READ + SSN, facts(touch("select", "shop.customers", "id")), A, ["read-shop"]),
        (READ + SSN, facts(touch("select", "shop.customers", unknown=True)), D, ["ssn"]),
        (READ + SSN, facts(touch("select", "shop.v"), touch("select", "hr.p", "ssn", via="shop.v")), D, ["ssn"]),
        (
            READ + SSN,
            facts(ORDERS, uses=(ColumnUse(ColumnName("shop", "orders", "ssn"), Use.FILTER),)),
            D,
            ["ssn"],
        ),
        (
            ALL + '{name: d, effect: deny, postgres: {columns: ["shop.customers.ssn"]}}\n',
            facts(touch("select", "hr.customers", "ssn")),
            A,
            ["all"],
        ),
        (
            ALL + '{name: d, effect: deny, postgres: {columns: ["shop.customers.ssn"]}}\n',
            facts(touch("select", "customers", "ssn")),
            D,
            ["d"],
        ),
        # Holds.
        (HOLD, facts(touch("insert", "shop.orders")), H, ["wait"]),
        (READ + HOLD, facts(touch("insert", "shop.orders"), ORDERS), H, ["wait"]),
        (READ + HOLD, facts(touch("insert", "hr.orders")), D, [""]),
        (HOLD, facts(touch("insert", "shop.orders"), ORDERS), D, [""]),
        (ALL + HOLD, facts(touch("insert", "shop.orders")), H, ["wait"]),
        (ALL + HOLD, facts(touch("insert", "orders")), H, ["wait"]),
        (HOLD + KEYS, facts(touch("insert", "shop.api_keys")), D, ["keys"]),
        (
            "{name: h, effect: hold, postgres: {relations: [shop.a], columns: [x]}, approval: {approvers: [b]}}\n",
            facts(touch("select", "shop.a")),
            D,  # it would cover a statement without columns, but does not hold it
            [""],
        ),
        # Roles and targets of rules.
        (READ + "{name: d, effect: deny, roles: [other], postgres: {relations: [shop.orders]}}\n", facts(ORDERS), A,
         ["read-shop"]),
        (READ + "{name: d, effect: deny, targets: {names: [hr]}, postgres: {relations: [shop.orders]}}\n",
         facts(ORDERS), A, ["read-shop"]),
        (READ.replace("effect", "targets: {labels: {env: test}}, effect"), facts(ORDERS), D, [""]),
        (READ.replace("effect", "roles: [other], effect"), facts(ORDERS), D, [""]),
        # Nobody's list is too long to be told.
        (KEYS + SSN, facts(touch("select", "shop.api_keys", "ssn")), D, ["keys", "ssn", ""]),
    ],
)  # fmt: skip
def test_verdicts(rules: str, statement: SqlFacts, effect: Effect, named: list[str]) -> None:
    decision = judge(rules, statement)
    assert (decision.effect, [reason.rule for reason in decision.reasons]) == (effect, named)
    if effect is not A:
        assert all(reason.message and reason.hint for reason in decision.reasons)


SESSION = ["begin", "commit", "rollback", "savepoint", "release", "show", "set", "reset", "discard", "deallocate",
           "close", "fetch", "execute", "empty", "select"]  # fmt: skip


@pytest.mark.parametrize("command", SESSION)
def test_the_session_needs_no_rule(command: str) -> None:
    decision = judge("", facts(command=command))
    assert (decision.effect, [reason.rule for reason in decision.reasons]) == (A, ["built-in: session"])
    assert (
        judge(
            f"{{name: no, effect: deny, postgres: {{commands: [{command}]}}}}\n", facts(command=command)
        ).effect
        is D
    )
    assert (
        judge('{name: no, effect: deny, postgres: {commands: ["*"]}}\n', facts(command=command)).effect is D
    )


@pytest.mark.parametrize(
    "command", ["insert", "vacuum", "listen", "notify", "lock", "create_schema", "analyze"]
)
def test_other_commands_need_a_rule(command: str) -> None:
    assert judge("", facts(command=command)).effect is D
    assert (
        judge(
            f"{{name: a, effect: allow, postgres: {{commands: [{command}]}}}}\n", facts(command=command)
        ).effect
        is A
    )
    assert judge(ALL, facts(command=command)).effect is A
    scoped = f'{{name: a, effect: allow, postgres: {{commands: [{command}], relations: ["shop.*"]}}}}\n'
    assert judge(scoped, facts(command=command)).effect is D


NAMED = ["do", "call", "set_role", "set_session_authorization", "copy_program", "copy_file", "alter_system", "load",
         "create_function", "create_extension", "create_role", "alter_role", "grant", "create_trigger",
         "create_rule", "create_event_trigger", "security_label", "create_language"]  # fmt: skip


@pytest.mark.parametrize("command", NAMED)
def test_some_commands_must_be_named(command: str) -> None:
    for wide in ('["*"]', '["create_*", "alter_*", "set_*", "copy_*", "d*", "c*", "l*", "g*", "security_*"]'):
        rule = f"{{name: a, effect: allow, postgres: {{commands: {wide}}}}}\n"
        assert judge(rule, facts(command=command)).effect is D
    assert (
        judge('{name: a, effect: allow, postgres: {relations: ["*.*"]}}\n', facts(command=command)).effect
        is D
    )
    assert (
        judge(
            f"{{name: a, effect: allow, postgres: {{commands: [{command}]}}}}\n", facts(command=command)
        ).effect
        is A
    )


def test_a_list_of_relations_names_no_command() -> None:
    wide = '{name: a, effect: allow, postgres: {relations: ["*.*"]}}\n'
    assert judge(wide, facts(touch("truncate", "shop.orders"))).effect is A
    assert judge(wide, facts(touch("create_trigger", "shop.orders"))).effect is D
    assert judge(wide, facts(touch("grant", "shop.orders"))).effect is D


def test_a_list_of_functions_permits_no_command() -> None:
    rule = '{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n'
    assert judge(rule, facts(command="vacuum", functions=("shop.total",))).effect is D
    assert judge(rule, facts(command="select", functions=("shop.total",))).effect is A


def test_a_command_that_nobody_knows_is_not_covered_and_can_be_denied() -> None:
    assert judge(ALL, facts(command="frobnicate")).effect is D
    denied = judge('{name: no, effect: deny, postgres: {commands: ["*"]}}\n', facts(command="frobnicate"))
    assert [reason.rule for reason in denied.reasons] == ["no", ""]


CALL = facts(ORDERS, functions=("shop.total",))


@pytest.mark.parametrize(
    ("rules", "statement", "effect"),
    [
        (READ, CALL, D),
        (ALL, CALL, D),
        (READ + "{name: f, effect: allow, postgres: {functions: [shop.total]}}\n", CALL, A),
        (READ + "{name: f, effect: allow, postgres: {functions: [shop.tota]}}\n", CALL, D),
        (READ + '{name: f, effect: allow, postgres: {functions: ["shop.*"]}}\n', CALL, A),
        (
            READ + "{name: f, effect: allow, postgres: {commands: [select], functions: [shop.total]}}\n",
            CALL,
            A,
        ),
        (
            READ + "{name: f, effect: allow, postgres: {commands: [insert], functions: [shop.total]}}\n",
            CALL,
            D,
        ),
        (
            READ + "{name: f, effect: allow, postgres: {relations: [shop.other], functions: [shop.total]}}\n",
            CALL,
            D,
        ),
        # A rule about functions permits no relation.
        ("{name: f, effect: allow, postgres: {functions: [shop.total]}}\n", CALL, D),
        ("{name: f, effect: allow, postgres: {commands: [select], functions: [shop.total]}}\n", CALL, D),
        (
            "{name: f, effect: allow, "
            'postgres: {commands: [select], relations: ["shop.*"], functions: [shop.total]}}\n',
            CALL,
            A,
        ),
        (
            "{name: f, effect: allow, "
            'postgres: {commands: [select], relations: ["shop.*"], functions: [shop.total]}}\n',
            facts(ORDERS),
            A,
        ),
        # A name with more dots than one must fit however it is read.
        ("{name: f, effect: allow, postgres: {functions: [a.b]}}\n", facts(functions=("a.b.c",)), D),
        ('{name: f, effect: allow, postgres: {functions: ["a.*"]}}\n', facts(functions=("a.b.c",)), D),
        ('{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n', facts(functions=("a.b.c",)), A),
        ("{name: f, effect: allow, postgres: {functions: [shop.total]}}\n", facts(functions=("total",)), D),
        # A function that the catalog does not have ("?.name") may turn out to be in any schema.
        ("{name: f, effect: allow, postgres: {functions: [shop.total]}}\n", facts(functions=("?.total",)), D),
        ('{name: f, effect: allow, postgres: {functions: ["s*.total"]}}\n', facts(functions=("?.total",)), D),
        ('{name: f, effect: allow, postgres: {functions: ["*.total"]}}\n', facts(functions=("?.total",)), A),
        ('{name: f, effect: allow, postgres: {functions: ["*.tot"]}}\n', facts(functions=("?.total",)), D),
        (
            '{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n'
            "{name: d, effect: deny, postgres: {functions: [shop.total]}}\n",
            facts(functions=("?.total",)),
            D,
        ),
        (
            '{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n'
            '{name: d, effect: deny, postgres: {functions: ["a.*"]}}\n',
            facts(functions=("a.b.c",)),
            D,
        ),
        (
            '{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n'
            '{name: d, effect: deny, postgres: {functions: ["x.total"]}}\n',
            facts(functions=("total",)),
            D,
        ),
        # Deny: all lists must mean something that the statement does.
        (
            READ + '{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n'
            "{name: d, effect: deny, postgres: {functions: [shop.total], relations: [hr.people]}}\n",
            CALL,
            A,
        ),
        (
            READ + '{name: f, effect: allow, postgres: {functions: ["*.*"]}}\n'
            "{name: d, effect: deny, postgres: {functions: [shop.total], relations: [shop.orders]}}\n",
            CALL,
            D,
        ),
        # Settings.
        ("", facts(command="set", settings=("work_mem",)), D),
        (ALL, facts(command="set", settings=("work_mem",)), D),
        (
            "{name: s, effect: allow, postgres: {settings: [work_mem]}}\n",
            facts(command="set", settings=("work_mem",)),
            A,
        ),
        (
            "{name: s, effect: allow, postgres: {settings: [WORK_MEM]}}\n",
            facts(command="set", settings=("Work_Mem",)),
            A,
        ),
        (
            "{name: s, effect: allow, postgres: {settings: [work_mem]}}\n",
            facts(command="set", settings=("role",)),
            D,
        ),
        (
            "{name: s, effect: allow, postgres: {commands: [select], settings: [work_mem]}}\n",
            facts(command="set", settings=("work_mem",)),
            D,
        ),
        (
            '{name: s, effect: allow, postgres: {settings: ["*"]}}\n'
            '{name: d, effect: deny, postgres: {settings: ["session_*"]}}\n',
            facts(command="set", settings=("session_replication_role",)),
            D,
        ),
        ('{name: s, effect: allow, postgres: {settings: ["*"]}}\n', CALL, D),
    ],
)
def test_functions_and_settings(rules: str, statement: SqlFacts, effect: Effect) -> None:
    assert judge(rules, statement).effect is effect


LISTED = (
    "{name: some, effect: allow, "
    'postgres: {commands: [select, update], relations: ["shop.*"], columns: [id, total]}}\n'
)


@pytest.mark.parametrize(
    ("rules", "statement", "effect"),
    [
        (LISTED, facts(touch("select", "shop.orders", "id", "total")), A),
        (LISTED, facts(touch("select", "shop.orders", "id")), A),
        (LISTED, facts(touch("select", "shop.orders")), A),
        (LISTED, facts(touch("select", "shop.orders", "id", "note")), D),
        (LISTED, facts(touch("select", "shop.orders", unknown=True)), D),
        (LISTED, facts(touch("select", "hr.orders", "id")), D),
        (LISTED, facts(touch("select", "shop.orders", "id"), touch("update", "shop.orders", "note")), D),
        ('{name: s, effect: allow, postgres: {columns: ["shop.orders.*"]}}\n', facts(ORDERS), A),
        (
            '{name: s, effect: allow, postgres: {columns: ["shop.orders.*"]}}\n',
            facts(touch("select", "hr.orders")),
            D,
        ),
        (
            '{name: s, effect: allow, postgres: {columns: ["shop.orders.id"]}}\n',
            facts(touch("select", "shop.b")),
            D,
        ),
    ],
)
def test_columns_that_are_listed(rules: str, statement: SqlFacts, effect: Effect) -> None:
    assert judge(rules, statement).effect is effect


def test_a_denial_tells_which_columns_to_leave_out() -> None:
    (reason,) = judge(LISTED, facts(touch("select", "shop.orders", "id", "note"))).reasons
    assert reason.message == "no rule allows `select` on shop.orders with its columns note"
    assert reason.hint.startswith("Leave out note, or ask the owners of the policy")


def test_words() -> None:
    (reason,) = judge(READ, facts(touch("update", "shop.orders"))).reasons
    assert reason.message == "no rule allows `update` on shop.orders"
    assert reason.hint == "Ask the owners of the policy for a rule that allows `update` on shop.orders."
    (reason,) = judge(READ + KEYS, facts(touch("select", "shop.api_keys"))).reasons
    assert reason.message == "No API keys."
    (reason,) = judge(CHANGE + UNBOUND, facts(touch("delete", "shop.orders", bounded=False))).reasons
    assert reason.message == "`delete` on shop.orders without WHERE is denied"
    assert reason.hint == "Add a WHERE that says which rows."
    (reason,) = judge(HOLD, facts(touch("insert", "shop.orders"))).reasons
    assert reason.message == "rule wait holds this until an approval by dba"


@pytest.mark.parametrize(
    ("statement", "effect"),
    [
        (facts(touch("select", "pg_catalog.pg_class", "relname")), A),
        (facts(touch("select", "information_schema.tables", "table_name")), A),
        (facts(touch("update", "pg_catalog.pg_class", "relname")), D),
        (facts(touch("select", "pg_catalog.pg_authid", "rolpassword")), D),
        (facts(touch("select", "pg_catalog.pg_stats")), D),
        (facts(touch("select", "public.pg_class", "relname")), D),
        (facts(touch("select", "pg_class", "relname")), D),
    ],
)
def test_the_catalog(statement: SqlFacts, effect: Effect) -> None:
    assert judge("", statement).effect is effect
    assert (
        judge(
            '{name: no, effect: deny, postgres: {relations: ["pg_catalog.*", "*.tables"]}}\n', statement
        ).effect
        is D
    )


@pytest.mark.parametrize(
    ("rules", "statement", "effect"),
    [
        (READ, facts(ORDERS, unresolved=("refused: too deep",)), D),
        (READ, facts(ORDERS, unresolved=("what f() does",)), A),
        (READ + SSN, facts(ORDERS, unresolved=("what f() does",)), D),
        ("", facts(unresolved=("what it reads",)), A),
        (KEYS, facts(unresolved=("what it reads",)), D),
        (
            "{name: d, effect: deny, postgres: {commands: [insert]}}\n",
            facts(unresolved=("what it reads",)),
            A,
        ),
    ],
)
def test_what_could_not_be_seen(rules: str, statement: SqlFacts, effect: Effect) -> None:
    assert judge(rules, statement).effect is effect


def test_access_that_was_taken_away() -> None:
    statement = facts(ORDERS)
    stranger = judge(READ, statement, subject=Subject("eve"))
    assert (stranger.effect, stranger.reasons[0].rule) == (D, "")
    document = load_document(HEAD + "  - " + READ, "p.yaml")
    assert judge_sql(document, ADA, SHOP, "admin", statement).effect is D
    assert judge_sql(document, ADA, SHOP, "readonly", statement).effect is A


def test_rules_have_no_order_and_reasons_do() -> None:
    statement = facts(touch("insert", "shop.api_keys", "ssn"), touch("delete", "shop.x", bounded=False))
    rules = [READ, CHANGE, KEYS, UNBOUND, SSN, HOLD]
    one = judge("".join(rules), statement)
    other = judge("".join(reversed(rules)), statement)
    assert one.effect is other.effect is D
    assert [reason.rule for reason in one.reasons] == ["keys", "unbound", "ssn"]
    assert sorted(reason.rule for reason in other.reasons) == ["keys", "ssn", "unbound"]
    assert judge("".join(rules), statement) == one


def test_reasons_are_bounded() -> None:
    statement = facts(*(touch("select", f"hr.t{number}") for number in range(100)))
    decision = judge(READ, statement)
    assert len(decision.reasons) == MAX_REASONS + 1
    assert decision.reasons[-1].message == f"and {100 - MAX_REASONS} more reasons"


@pytest.mark.parametrize("count", [10, 1000])
def test_many_rules_judge_like_few(count: int) -> None:
    rules = READ + "".join(
        f"{{name: r{number}, effect: {['allow', 'deny'][number % 2]}, "
        f"postgres: {{commands: [select], relations: [s{number}.t]}}}}\n"
        for number in range(count)
    )
    assert judge(rules, facts(ORDERS)).effect is A
    assert judge(rules, facts(touch("select", "s1.t"))).reasons[0].rule == "r1"
    assert judge(rules, facts(touch("select", "s2.t"))).reasons[0].rule == "r2"
    assert judge(rules, facts(touch("select", "s2.u"))).effect is D


def test_no_masks_no_obligations() -> None:
    column = ColumnName("shop", "orders", "id")
    decision = judge(READ, facts(ORDERS, outputs=(Output("id", column),)))
    assert decision.masks == ()
    assert len(decision.policy_version) == 16
