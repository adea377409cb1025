"""Every fault and warning of a policy document, each with its line and its remedy."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.document import DocumentError, load_document
from policy.masking import MaskingKeyMissing, Redact

ROLES = """\
version: 1
roles:
  analyst: {groups: [data]}
  idle: {groups: [idle]}
access:
  - name: read
    roles: [analyst]
    targets: {labels: {env: prod}}
    logins: [readonly]
"""


def faults_of(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_document(text, "p.yaml")
    faults = caught.value.faults
    assert all(fault.remedy for fault in faults)
    assert str(caught.value) == "\n".join(map(str, faults))
    return [str(fault).removeprefix("p.yaml:") for fault in faults]


def one_fault(tail: str) -> str:
    faults = faults_of(ROLES + tail)
    assert len(faults) == 1, faults
    return faults[0]


def rule(body: str, name: str = "r") -> str:
    return f"rules:\n  - name: {name}\n    effect: allow\n{body}"


def postgres(matcher: str) -> str:
    return rule(f"    postgres: {matcher}\n")


def test_the_smallest_document() -> None:
    document = load_document(ROLES, "p.yaml")
    assert len(document.version) == 16
    assert document.warnings == ()
    assert document.version == load_document(ROLES, "other name").version
    assert document.version != load_document(ROLES + "\n", "p.yaml").version
    assert (document.rules, document.ssh_rules, document.masks) == ((), (), ())


@pytest.mark.parametrize(
    ("matcher", "expected"),
    [
        ("{comands: [select]}", "13:16: rules[0].postgres.comands: unknown key; did you mean `commands`?"),
        ("{}", "13:5: rules[0].postgres: says nothing about what it matches"),
        ("{commands: []}", "13:16: rules[0].postgres.commands: an empty list"),
        ("{relations: []}", "13:16: rules[0].postgres.relations: an empty list"),
        ("{columns: []}", "13:16: rules[0].postgres.columns: an empty list"),
        ("{functions: []}", "13:16: rules[0].postgres.functions: an empty list"),
        ("{settings: []}", "13:16: rules[0].postgres.settings: an empty list"),
        (
            "{commands: select}",
            "13:16: rules[0].postgres.commands: `select` is not a list; write a list, as in",
        ),
        (
            "{commands: [selct]}",
            "13:27: rules[0].postgres.commands[0]: `selct` is not a command; did you mean `select`? commands are",
        ),
        (
            "{commands: [SELECT]}",
            "13:27: rules[0].postgres.commands[0]: `SELECT` is not a command; did you mean",
        ),
        ("{commands: [select_*_x]}", "13:27: rules[0].postgres.commands[0]: `select_*_x` is not a command"),
        (
            '{relations: ["a.b.c.d"]}',
            "13:28: rules[0].postgres.relations[0]: `a.b.c.d` has 4 parts and cannot name",
        ),
        (
            "{relations: [orders]}",
            "13:28: rules[0].postgres.relations[0]: `orders` names no schema; write `*.orders`",
        ),
        ("{relations: [shop.a, shop.]}", "13:36: rules[0].postgres.relations[1]: `shop.`: an empty part"),
        (
            "{columns: [a.b]}",
            "13:26: rules[0].postgres.columns[0]: `a.b` has 2 parts and cannot name a column",
        ),
        ('{functions: ["f(int)"]}', "13:28: rules[0].postgres.functions[0]: `f(int)` has arguments"),
        (
            '{settings: ["work mem"]}',
            "13:27: rules[0].postgres.settings[0]: `work mem` is not the name of a setting",
        ),
        (
            "{commands: [update, select], where: absent}",
            "13:35: rules[0].postgres.commands[1]: `where: absent` can never match `select`",
        ),
        (
            '{commands: ["*"], where: absent}',
            "13:27: rules[0].postgres.commands[0]: `where: absent` can never match `*`",
        ),
        (
            "{commands: [update], where: missing}",
            "13:36: rules[0].postgres.where: `missing` is not one of the choices",
        ),
        ("[select]", "13:5: rules[0].postgres: a list is not a mapping; write a mapping"),
    ],
)
def test_matchers_that_cannot_match(matcher: str, expected: str) -> None:
    assert one_fault(postgres(matcher)).startswith(expected)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (
            "rules:\n  - {effect: allow, postgres: {commands: [select]}}\n",
            "11:5: rules[0].name: missing; add `name`",
        ),
        (
            "rules:\n  - {name: r, postgres: {commands: [select]}}\n",
            "11:5: rules[0].effect: missing; add `effect`",
        ),
        (
            "rules:\n  - {name: r, effect: alow, postgres: {commands: [select]}}\n",
            "11:15: rules[0].effect: `alow` is not",
        ),
        ("rules:\n  - {name: r, effect: allow}\n", "11:5: rules[0]: matches no operation"),
        (
            "rules:\n  - {name: a b, effect: allow, postgres: {commands: [select]}}\n",
            "11:6: rules[0].name: `a b` is not a",
        ),
        (rule("    roles: []\n    postgres: {commands: [select]}\n"), "13:5: rules[0].roles: an empty list"),
        (
            rule("    roles: [analist]\n    postgres: {commands: [select]}\n"),
            "13:13: rules[0].roles[0]: there is no role `analist`; did you mean `analyst`?",
        ),
        (
            rule("    roles: [analyst, idle]\n    postgres: {commands: [select]}\n"),
            "13:22: rules[0].roles[1]: can never match: no access entry gives role `idle` a target",
        ),
        (
            rule("    targets: {protocol: ssh}\n    postgres: {commands: [select]}\n"),
            "13:15: rules[0].targets.protocol: can never match: `postgres` on targets that speak ssh",
        ),
        (
            rule("    targets: {}\n    postgres: {commands: [select]}\n"),
            "13:5: rules[0].targets: selects nothing in particular",
        ),
        (
            rule('    when: "x > 1"\n    postgres: {commands: [select]}\n'),
            "13:5: rules[0].when: `x` is not known here (character 1 of the condition); a rule of this kind knows",
        ),
        (
            "rules:\n  - {name: r, effect: hold, postgres: {commands: [select]}}\n",
            "11:5: rules[0]: a hold that nobody can answer; add `approval`",
        ),
        (
            rule("    approval: {approvers: [dba]}\n    postgres: {commands: [select]}\n"),
            "13:5: rules[0].approval: an approval on a rule that says allow",
        ),
        (
            "rules:\n  - name: r\n    effect: hold\n"
            "    postgres: {commands: [select]}\n    approval: {approvers: []}\n",
            "14:16: rules[0].approval.approvers: an empty list",
        ),
        (
            postgres("{commands: [select]}")
            + "  - {name: r, effect: deny, postgres: {commands: [insert]}}\n",
            "14:6: rules[1].name: `r` is taken, on line 11",
        ),
    ],
)
def test_rules_that_are_not_whole(tail: str, expected: str) -> None:
    assert one_fault(tail).startswith(expected)


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("masks:\n  - {name: m, columns: [email], method: redact}\n", "11:25: masks[0].columns[0]: `email` has 1 part"),
        ("masks:\n  - {name: m, columns: [], method: redact}\n", "11:15: masks[0].columns: an empty list"),
        ("masks:\n  - {name: m, columns: [a.b.c]}\n", "11:5: masks[0].method: missing; add `method`, as in"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: redcat}\n",
         "11:33: masks[0].method: `redcat` is not a method; "
         "did you mean `redact`?"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: {partial: {}}}\n",
         "11:42: masks[0].method.partial: a partial"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: {partial: {keep_last: x}}}\n",
         "11:52: masks[0].method.partial"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: {word: redact}}\n", "11:33: masks[0].method: `word` is not"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: {}}\n", "11:33: masks[0].method: not one method"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: {pseudonym: {}}}\n",
         "11:42: masks[0].method.pseudonym.key: miss"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: token}\n", "11:33: masks[0].method: `token` is a method of"),
        ("masks:\n  - {name: m, method: redact}\n", "11:5: masks[0]: a mask of nothing, or of two things"),
        ("masks:\n  - {name: m, columns: [a.b.c], json: [$.a], method: redact}\n", "11:5: masks[0]: a mask of nothing"),
        (
            "masks:\n  - {name: m, detect: [emial]}\n",
            "11:24: masks[0].detect[0]: `emial` is not a detector; did you mean",
        ),
        ("detectors: {email: {pattern: x}}\n", "10:13: detectors.email: `email` is a detector of the gateway"),
        ("detectors: {mine: {pattern: '(?=x)'}}\n", "10:20: detectors.mine.pattern: the pattern cannot be used"),
        ("budgets:\n  - {name: b, day: {}}\n", "11:15: budgets[0].day: a budget that limits nothing"),
        ("budgets:\n  - {name: b, day: {requests: 1}, roles: [x]}\n", "11:43: budgets[0].roles[0]: there is no role"),
        ("budgets:\n  - {name: b, day: {requests: 1}, targets: {protocol: ssh}}\n",
         "11:45: budgets[0].targets.protocol: can never count"),
        ("budgets:\n  - {name: b, day: {requests: 1}}\n  - {name: b, day: {requests: 2}}\n",
         "12:6: budgets[1].name: `b` is taken"),
        ("masks:\n  - {name: m, json: [$.a], method: redact, targets: {protocol: ssh}}\n",
         "11:54: masks[0].targets.protocol: can never match: `json` on targets that speak ssh"),
        ("masks:\n  - {name: m, detect: [email], json: [$.a]}\n", "11:5: masks[0]: a mask of nothing, or of two"),
        ("masks:\n  - {name: m, json: [a], method: redact}\n", "11:22: masks[0].json[0]: `a` does not begin with `$`"),
        ("masks:\n  - {name: m, json: [$.a]}\n", "11:5: masks[0].method: missing; add `method`"),
        ("masks:\n  - {name: m, json: [$.a], method: redact, uses: [filter]}\n", "11:44: masks[0].uses: columns have"),
        ("masks:\n  - {name: m, json: [$.a], method: redact, on: []}\n", "11:44: masks[0].on: an empty list"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: redact, on: [request]}\n",
         "11:49: masks[0].on: a column is masked in answers"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: redact, uses: [expression]}\n",
         "11:56: masks[0].uses[0]: `expre"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: redact, uses: []}\n", "11:49: masks[0].uses: an empty list"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: redact, unless: {roles: [dba]}}\n",
         "11:66: masks[0].unless.roles[0]: there is no role `dba`"),
        ("masks:\n  - {name: m, columns: [a.b.c], method: redact}\n  - {name: m, columns: [a.b.d], method: redact}\n",
         "12:6: masks[1].name: `m` is taken, on line 11"),
    ],
)  # fmt: skip
def test_masks_that_cannot_be_used(tail: str, expected: str) -> None:
    assert one_fault(tail).startswith(expected)


ONE_ENTRY = "access: [{name: a, roles: [a], targets: {names: [t]}, logins: [l]}]\n"
ENTRY = "  - {name: a, roles: [analyst], targets: {names: [t]}, logins: [l]"
ACCESS = "version: 1\nroles:\n  analyst: {groups: [data]}\naccess:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 2\nroles: {a: {groups: [x]}}\n" + ONE_ENTRY,
         "1:1: version: `2` is not one of the choices"),
        ("roles: {a: {groups: [x]}}\n" + ONE_ENTRY,
         "1:1: version: missing; add `version`, as in `version: 1`"),
        ("version: 1\nroles: {a: {groups: [x]}}\naccess: []\n", "3:1: access: an empty list"),
        ("version: 1\nroles: {}\n" + ONE_ENTRY, "2:1: roles: "),
        ("version: 1\nroles: {a: {}}\n" + ONE_ENTRY,
         "2:9: roles.a: nobody can have this role"),
        ("version: 1\nroles: {a: {groups: []}}\n" + ONE_ENTRY,
         "2:13: roles.a.groups: an empty list"),
        ("version: 1\nroles: {a: {claims: {}}}\n" + ONE_ENTRY,
         "2:13: roles.a.claims: "),
        ("version: 1\nroles: {a: {claims: {level: 5}}}\n" + ONE_ENTRY,
         "2:22: roles.a.claims.level: `5` is not a list; write"),
        (ACCESS + "  - {name: a, roles: [], targets: {names: [t]}, logins: [l]}\n", "5:15: access[0].roles: an empty"),
        (ACCESS + "  - {name: a, roles: [dba], targets: {names: [t]}, logins: [l]}\n",
         "5:23: access[0].roles[0]: there is no role `dba`; roles are `analyst`"),
        (ACCESS + "  - {name: a, roles: [analyst], logins: [l]}\n", "5:5: access[0].targets: missing; add `targets`"),
        (ACCESS + "  - {name: a, roles: [analyst], targets: {names: [t]}}\n", "5:5: access[0].logins: missing"),
        (ACCESS + "  - {name: a, roles: [analyst], targets: {names: [t]}, logins: []}\n",
         "5:56: access[0].logins: an empty"),
        (ACCESS + "  - {name: a, roles: [analyst], targets: {}, logins: [l]}\n",
         "5:33: access[0].targets: selects nothing"),
        (ACCESS + "  - {name: a, roles: [analyst], targets: {protocol: pg}, logins: [l]}\n",
         "5:43: access[0].targets.protocol: `pg` is not one of the choices"),
        (ACCESS + ENTRY + ", session: {max: 0}}\n",
         "5:79: access[0].session.max: `0` is not a duration"),
        (ACCESS + ENTRY + ", session: {max: 0s}}\n",
         "5:79: access[0].session.max: a duration of nothing"),
        (ACCESS + ENTRY + ", session: {max: 1h, idle: 2h}}\n",
         "5:88: access[0].session.idle: an idle time longer than the session can last"),
        (ACCESS + ENTRY + ", session: {statements: 0}}\n",
         "5:79: access[0].session.statements: `0` is too small; write 1 or more"),
        (ACCESS + ENTRY + ", grant: {approvers: [x], max: 0s}}\n",
         "5:93: access[0].grant.max: a duration of nothing"),
        (ACCESS + ENTRY + ", grant: {approvers: [x]}}\n",
         "5:69: access[0].grant.max: missing; add `max`, as in `max: 1h`"),
        (ACCESS + "  - &a {name: a, roles: [analyst], targets: {names: [t]}, logins: [l]}\n", "5:5: "),
    ],
)  # fmt: skip
def test_roles_and_access(text: str, expected: str) -> None:
    faults = faults_of(text)
    assert any(fault.startswith(expected) for fault in faults), faults


def test_every_fault_at_once() -> None:
    text = (
        ROLES
        + """\
rules:
  - {name: a, effect: alow, postgres: {comands: [select]}}
  - {name: b, effect: allow, postgres: {relations: [x]}}
masks:
  - {name: m, columns: [email], method: redact}
"""
    )
    assert [fault.split(":")[0] for fault in faults_of(text)] == ["11", "11", "12", "14"]


def test_every_reference_at_once() -> None:
    text = (
        ROLES
        + postgres("{commands: [select]}")
        + "    roles: [x, idle]\n  - {name: r, effect: deny, roles: [y], "
    )
    text += "postgres: {commands: [select]}}\n"
    assert [fault.split(":")[0] for fault in faults_of(text)] == ["14", "14", "15", "15"]


def shadowing(allow: str, deny: str, allow_more: str = "", deny_more: str = "") -> str:
    return (
        ROLES
        + f"""\
rules:
  - {{name: a, effect: allow, postgres: {allow}{allow_more}}}
  - {{name: d, effect: deny, postgres: {deny}{deny_more}}}
"""
    )


@pytest.mark.parametrize(
    ("allow", "deny", "allow_more", "deny_more"),
    [
        ("{commands: [select], relations: [a.b]}", "{commands: [select], relations: [a.b]}", "", ""),
        ("{commands: [select], relations: [a.b]}", '{relations: ["a.*"]}', "", ""),
        ("{commands: [select], relations: [a.b, a.c]}", '{relations: ["*.*"]}', ", roles: [analyst]", ""),
        ("{commands: [select]}", '{commands: ["*"]}', "", ""),
        ("{commands: [select], relations: [a.b]}", "{commands: [select, insert]}", "", ""),
        ('{relations: ["tmp_*.b"]}', '{relations: ["tmp_*.*"]}', "", ""),
        ("{relations: [a.b]}", "{relations: [a.b]}", ", roles: [analyst]", ", roles: [analyst]"),
        ("{functions: [a.f]}", '{functions: ["a.*"]}', "", ""),
        ("{settings: [work_mem]}", '{settings: ["*"]}', "", ""),
        (
            "{commands: [update], relations: [a.b], where: absent}",
            "{commands: [update, delete], where: absent}",
            "",
            "",
        ),
    ],
)
def test_an_allow_rule_that_a_deny_rule_makes_void(
    allow: str, deny: str, allow_more: str, deny_more: str
) -> None:
    faults = faults_of(shadowing(allow, deny, allow_more, deny_more))
    assert len(faults) == 1
    assert faults[0].startswith(
        "11:5: rules[0]: can never match: deny rule `d` matches everything that it allows"
    )


@pytest.mark.parametrize(
    ("allow", "deny", "allow_more", "deny_more"),
    [
        ('{commands: [select], relations: ["a.*"]}', "{relations: [a.b]}", "", ""),
        ("{commands: [select, insert], relations: [a.b]}", "{commands: [insert], relations: [a.b]}", "", ""),
        ("{relations: [a.b]}", "{commands: [select], relations: [a.b]}", "", ""),
        ("{relations: [a.b]}", "{relations: [a.b]}", "", ", roles: [analyst]"),
        ("{relations: [a.b]}", "{relations: [a.b]}", "", ", targets: {names: [x]}"),
        ("{relations: [a.b]}", "{relations: [a.b], columns: [c]}", "", ""),
        ("{commands: [update], relations: [a.b]}", "{commands: [update], where: absent}", "", ""),
        ("{commands: [select], relations: [a.b]}", "{functions: [a.f]}", "", ""),
        ("{relations: [a.b], functions: [a.f]}", "{relations: [a.b]}", "", ""),
        ("{functions: [a.f]}", "{relations: [a.b], functions: [a.f]}", "", ""),
    ],
)
def test_an_allow_rule_that_still_matches_something(
    allow: str, deny: str, allow_more: str, deny_more: str
) -> None:
    assert load_document(shadowing(allow, deny, allow_more, deny_more), "p.yaml").warnings == ()


def test_warnings() -> None:
    text = (
        ROLES
        + """\
rules:
  - {name: s, effect: deny, ssh: {exec: [reboot, "rm *"]}}
  - {name: h, effect: deny, http: {methods: [GTE], paths: ["/x/*"]}}
  - {name: t, effect: deny, mcp: {tools: [x]}, postgres: {commands: [insert]}}
masks:
  - {name: j, json: [$.a], method: redact}
  - {name: m, columns: [shop.customers.email], method: redact, unless: {roles: [idle]}}
  - {name: n, columns: ["*.*.email", "*.customers.*"], method: "null"}
  - {name: o, columns: ["*.*.phone"], method: "null", targets: {protocol: ssh}}
detectors: {badge: {pattern: "B-[0-9]+"}}
"""
    )
    document = load_document(text, "p.yaml")
    assert [str(warning).partition(";")[0] for warning in document.warnings] == [
        "p.yaml:11:42: rules[0].ssh.exec[0]: means `reboot` without arguments only",
        "p.yaml:12:46: rules[1].http.methods[0]: `GTE` is a method that few servers have",
        "p.yaml:12:60: rules[1].http.paths[0]: means one segment behind `/x/`, and nothing below that",
        "p.yaml:13:29: rules[2].mcp: has no effect: this version has no door for mcp",
        "p.yaml:16:81: masks[1].unless.roles[0]: no access entry gives role `idle` a target",
        "p.yaml:17:25: masks[2].columns[0]: `*.*.email` and `shop.customers.email` of mask `m` "
        "can name the same column",
        "p.yaml:18:25: masks[3].columns[0]: `*.*.phone` and `*.customers.*` of mask `n` can name the same column",
        "p.yaml:19:13: detectors.badge: no mask uses it",
    ]
    assert [rule.name for rule in document.http_rules] == ["h"]
    assert [rule.name for rule in document.rules] == ["t"]
    assert [rule.name for rule in document.ssh_rules] == ["s"]
    assert [entry.mask.name for entry in document.masks] == ["m", "n", "o"]


@pytest.mark.parametrize("key", ["mcp: {tool: [x]}"])
def test_the_shape_of_what_has_no_door_is_checked(key: str) -> None:
    assert "unknown key; did you mean" in one_fault(f"rules:\n  - {{name: s, effect: deny, {key}}}\n")


def test_compiled_rules() -> None:
    text = ROLES + postgres('{commands: [select, "create_*", do], relations: ["shop.*"]}')
    (compiled,) = load_document(text, "p.yaml").rules
    assert compiled.effect is Effect.ALLOW
    assert compiled.touched is not None
    assert {"select", "do", "create_table", "create_function"} <= compiled.touched
    assert {"select", "do", "create_table"} <= compiled.covered
    assert "create_function" not in compiled.covered  # a glob does not name what must be named
    everything = load_document(ROLES + postgres('{commands: ["*"]}'), "p.yaml").rules[0]
    assert everything.touched is None
    assert everything.covered.isdisjoint(
        {"do", "call", "set_role", "alter_system", "copy_program", "copy_file"}
    )


def test_masking_keys() -> None:
    text = ROLES + "masks:\n  - {name: m, columns: [a.b.c], method: {pseudonym: {key: k}}}\n"
    document = load_document(text, "p.yaml")
    with pytest.raises(MaskingKeyMissing, match="m: its key k"):
        document.masks[0].mask.apply("x", "text")
    with pytest.raises(MaskingKeyMissing, match="no masking key named k"):
        load_document(text, "p.yaml", {})
    keyed = load_document(text, "p.yaml", {"k": b"0123456789abcdef"})
    assert keyed.masks[0].mask.apply("x", "text")
    assert keyed.version == document.version
    assert load_document(ROLES, "p.yaml", {}).masks == ()


def test_the_null_method_needs_no_quotes() -> None:
    text = (
        ROLES
        + "masks:\n  - {name: m, columns: [a.b.c], method: null}\n  - {name: r, columns: [a.b.d], method: redact}\n"
    )
    one, other = load_document(text, "p.yaml").masks
    assert one.mask.is_null
    assert other.mask.method == Redact()
