"""Every fault and warning of the `ssh` section, with its line and its remedy."""

from __future__ import annotations

import pytest

from policy.document import DocumentError, load_document
from tests.policy.ssh.operations import HEAD


def faults_of(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_document(text, "p.yaml")
    assert all(fault.remedy for fault in caught.value.faults)
    return [str(fault).removeprefix("p.yaml:") for fault in caught.value.faults]


def fault_of(section: str, effect: str = "allow", more: str = "") -> str:
    faults = faults_of(HEAD + f"rules:\n  - name: r\n    effect: {effect}\n{more}    ssh: {section}\n")
    assert len(faults) == 1, faults
    return faults[0]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{}", "10:5: rules[0].ssh: says nothing about what it matches; give `shell: true`"),
        ("{exce: [x]}", "10:11: rules[0].ssh.exce: unknown key; did you mean `exec`?"),
        (
            "[exec]",
            "10:5: rules[0].ssh: a list is not a mapping; write a mapping with the keys `agent`, `exec`",
        ),
        (
            "{shell: false}",
            "10:11: rules[0].ssh.shell: a rule cannot be about the absence of something; write `true`",
        ),
        ("{agent: yes}", "10:11: rules[0].ssh.agent: `yes` is not `true` or `false`"),
        ("{exec: []}", "10:11: rules[0].ssh.exec: an empty list; list at least 1"),
        ("{exec: rm}", "10:11: rules[0].ssh.exec: `rm` is not a list; write a list"),
        ("{redirects: [/tmp/x]}", "10:11: rules[0].ssh.redirects: redirections without commands; add `exec`"),
        ("{subsystems: [a b]}", "10:24: rules[0].ssh.subsystems[0]: `a b` is not the name of a subsystem"),
        (
            "{files: [reed]}",
            "10:19: rules[0].ssh.files[0]: `reed` is not a file operation; did you mean `read`? file",
        ),
        (
            "{files: [READ]}",
            "10:19: rules[0].ssh.files[0]: `READ` is not a file operation; did you mean `read`?",
        ),
        ("{files: [re*]}", "10:19: rules[0].ssh.files[0]: `re*` is not a file operation"),
        ("{paths: [srv]}", "10:19: rules[0].ssh.paths[0]: `srv` is not an absolute path; begin it with `/`"),
        ("{paths: [~/x]}", "10:19: rules[0].ssh.paths[0]: `~/x` is not an absolute path"),
        (
            "{paths: [/srv/]}",
            "10:19: rules[0].ssh.paths[0]: `/srv/` ends in `/` and can match no path; write `/srv`",
        ),
        ("{paths: [/srv/../x]}", "10:19: rules[0].ssh.paths[0]: `/srv/../x` can match no path"),
        ("{paths: [/srv//x]}", "10:19: rules[0].ssh.paths[0]: `/srv//x` can match no path"),
        ("{paths: [/srv/./x]}", "10:19: rules[0].ssh.paths[0]: `/srv/./x` can match no path"),
        ('{paths: ["/srv/a**"]}', "10:19: rules[0].ssh.paths[0]: `/srv/a**`: `**` stands for whole parts"),
        ("{exec: [x], redirects: [x]}", "10:34: rules[0].ssh.redirects[0]: `x` is not an absolute path"),
    ],
)
def test_keys_and_paths(section: str, expected: str) -> None:
    assert fault_of(section).startswith(expected)


@pytest.mark.parametrize(
    ("pattern", "message", "remedy"),
    [
        ("ls | wc", "`|` is part of no simple command", "write one pattern for each command"),
        ("ls; rm *", "`;` is part of no simple command", "one pattern for each command"),
        ("ls && rm", "`&` is part of no simple command", "'&'"),
        ("ls > x", "`>` is part of no simple command", ""),
        ("(ls)", "`(` is part of no simple command", ""),
        ("ls\nrm", "a line break is part of no simple command", ""),
        ("echo $HOME", "`$` makes a word that nobody knows beforehand", "write `*` for it"),
        ("echo `id`", "makes a word that nobody knows beforehand", ""),
        ('echo "$HOME"', "in double quotes makes a word that nobody knows beforehand", "single quotes"),
        ("ls ?.txt", "`?` is no wildcard here, only `*` is", "write `*`"),
        ("ls [ab]", "`[` is no wildcard here", ""),
        ("echo 'x", "a quote is not closed", "close it"),
        ('echo "x', "a quote is not closed", "close it"),
        ("echo x\\", "a backslash with nothing behind it", "write it twice"),
        ("  ", "a pattern without words", '"*" for every command'),
        ("'' x", "a command without a name", "begin with the name"),
        ("if *", "`if` is a word of the shell", "a pattern for each command inside it"),
        ("A=b ls", "an assignment is not a word of the command", "only `*` allows"),
        ("/opt/tools/ x", "`/opt/tools/` is a directory", "the command's path"),
        ("~/bin/x", "`~/bin/x` is not known before the command runs", "the path in full"),
        ("echo #x", "what begins with `#` is a comment", "in quotes"),
    ],
)
def test_commands_that_can_never_be(pattern: str, message: str, remedy: str) -> None:
    quoted = pattern.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    fault = fault_of(f'{{exec: ["{quoted}"]}}')
    assert fault.startswith("10:18: rules[0].ssh.exec[0]: ")
    assert message in fault
    assert remedy in fault


@pytest.mark.parametrize(
    "pattern",
    ["rm *", "*", "* *", "git-* *", "/bin/*", "./x", "echo 'a|b' \"c;d\" e\\&f", "find . -exec rm {} +", "'[' -f *",
     "x --a=b", "grep -E '^a$' *", 'echo "a\\$b"', "ls '*'", "a\\\\b", "echo a#b", "x ~a~ -o=~"],
)  # fmt: skip
def test_commands_that_can_be(pattern: str) -> None:
    quoted = pattern.replace("'", "''")
    if pattern.startswith("x ~a"):
        assert "is not known before" in fault_of(f"{{exec: ['{quoted}']}}")
    else:
        load_document(
            HEAD + f"rules:\n  - {{name: r, effect: allow, ssh: {{exec: ['{quoted}']}}}}\n", "p.yaml"
        )


@pytest.mark.parametrize("key", ["forward", "listen"])
@pytest.mark.parametrize(
    ("pattern", "message", "remedy"),
    [
        ("db", "`db` names no port", "write `db:*`"),
        (":80", "`:80` names no host", "write `*:80`"),
        ("/run/x", "`/run/x` names no host", "write `unix:/run/x`"),
        ("unix:run/x", "`run/x` is not an absolute path", ""),
        ("unix:/run/", "ends in `/`", ""),
        ("fd00::1:22", "it cannot be told where the address ends", "in brackets"),
        ("[fd00::*]:22", "`*` inside an IPv6 address", "name each address"),
        ("[10.0.0.1]:22", "`10.0.0.1` is not an IPv6 address", ""),
        ("[x]:22", "`x` is not an IPv6 address", ""),
        ("[fe80::1%eth0]:22", "is not an IPv6 address", ""),
        ("127.1:22", "`127.1` is not an IPv4 address in its normal form", "four numbers"),
        ("0x7f000001:22", "is not an IPv4 address in its normal form", ""),
        ("010.0.0.1:22", "is not an IPv4 address in its normal form", ""),
        ("10.0.0.256:22", "is not an IPv4 address in its normal form", ""),
        ("db internal:22", "`db internal` is not the name of a host", "HOST:PORT"),
        ("db..internal:22", "is not the name of a host", ""),
        ("db/x:22", "is not the name of a host", ""),
        ("db:http", "`http` is not a port", "1 to 65535"),
        ("db:65536", "`65536` is not a port", ""),
        ("db:-1", "`-1` is not a port", ""),
        ("db:", "`db:` names no port", "write `db:*`"),
        ("db:8*", "`8*` is not a port", ""),
    ],
)
def test_addresses_that_can_never_be(key: str, pattern: str, message: str, remedy: str) -> None:
    fault = fault_of(f'{{{key}: ["{pattern}"]}}')
    assert fault.split(": ")[1] == f"rules[0].ssh.{key}[0]"
    assert message in fault
    assert remedy in fault


def test_port_0_is_for_listeners() -> None:
    assert "nothing can be reached at port 0" in fault_of('{forward: ["db:0"]}')
    load_document(HEAD + 'rules:\n  - {name: r, effect: allow, ssh: {listen: ["localhost:0"]}}\n', "p.yaml")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            "ssh: {shell: true}, when: 'a > b'",
            "8:50: rules[0].when: `a` is not known here (character 1 of the condition); a rule of this kind knows",
        ),
        (
            "targets: {protocol: postgres}, ssh: {shell: true}",
            "8:40: rules[0].targets.protocol: can never match: `ssh` on targets that speak postgres; remove",
        ),
        (
            "targets: {protocol: ssh}, ssh: {shell: true}, postgres: {commands: [select]}",
            "8:40: rules[0].targets.protocol: can never match: `postgres` on targets that speak ssh; remove",
        ),
        ("roles: [nobody], ssh: {shell: true}", "8:38: rules[0].roles[0]: there is no role `nobody`"),
        (
            "roles: [idle], ssh: {shell: true}",
            "8:38: rules[0].roles[0]: can never match: no access entry gives role `idle` a target",
        ),
    ],
)
def test_the_rule_around_it(rule: str, expected: str) -> None:
    text = HEAD.replace("roles:\n", "roles:\n  idle: {groups: [idle]}\n", 1).replace(
        "  guest: {groups: [guests]}\n", "", 1
    )
    text = text.replace("roles: [ops, guest]", "roles: [ops]")
    (fault,) = faults_of(text + f"rules:\n  - {{name: r, effect: allow, {rule}}}\n")
    assert fault.startswith(expected)


def test_a_hold_needs_an_approval() -> None:
    assert "a hold that nobody can answer" in fault_of("{shell: true}", effect="hold")


def test_every_fault_at_once() -> None:
    section = (
        '{exec: ["a;b", "ls *", "$x"], files: [reed], paths: [x], forward: [a], shell: false, x12: true}'
    )
    text = HEAD + f"rules:\n  - {{name: r, effect: allow, ssh: {section}}}\n"
    assert [fault.split(": ")[1].removeprefix("rules[0].ssh.") for fault in faults_of(text)] == [
        "exec[0]",
        "exec[2]",
        "files[0]",
        "paths[0]",
        "forward[0]",
        "shell",
        "x12",
    ]


def test_ssh_rules_have_no_warnings() -> None:
    text = HEAD + 'rules:\n  - {name: r, effect: deny, targets: {protocol: ssh}, ssh: {exec: ["rm *"]}}\n'
    document = load_document(text, "p.yaml")
    assert document.warnings == ()
    assert [rule.name for rule in document.ssh_rules] == ["r"]
    assert document.rules == ()


@pytest.mark.parametrize("effect", ["deny", "hold"])
def test_a_command_without_arguments_is_seldom_meant(effect: str) -> None:
    approval = ", approval: {approvers: [x]}" if effect == "hold" else ""
    text = (
        HEAD
        + f"rules:\n  - {{name: r, effect: {effect}{approval}, ssh: {{exec: [/sbin/reboot, reboot *, a b, '*']}}}}\n"
    )
    (warning,) = load_document(text, "p.yaml").warnings
    assert warning.path == "rules[0].ssh.exec[0]"
    assert warning.message == "means `/sbin/reboot` without arguments only"
    assert warning.remedy.startswith("write `/sbin/reboot *`")
    assert load_document(text.replace(effect, "allow").replace(approval, ""), "p.yaml").warnings == ()


# --- rules that a deny rule makes void ---


def shadowing(allow: str, deny: str, allow_more: str = "", deny_more: str = "") -> str:
    return (
        HEAD
        + f"rules:\n  - {{name: a, effect: allow, ssh: {{{allow}}}{allow_more}}}\n"
        + f"  - {{name: d, effect: deny, ssh: {{{deny}}}{deny_more}}}\n"
    )


VOID = [
    ("shell: true", "shell: true"),
    ("agent: true", "agent: true, x11: true"),
    ('exec: ["ls"]', 'exec: ["ls"]'),
    ('exec: ["ls"]', 'exec: ["ls *"]'),
    ('exec: ["ls -l *"]', 'exec: ["ls *"]'),
    ('exec: ["/bin/ls -l *"]', 'exec: ["ls *"]'),
    ('exec: ["ls *", "cat x"]', 'exec: ["ls *", "cat *"]'),
    ('exec: ["ls x"]', 'exec: ["l* *"]'),
    ('exec: ["*"]', 'exec: ["*"]'),
    ('exec: ["ls"], redirects: ["/tmp/*"]', 'exec: ["*"]'),
    ("subsystems: [netconf]", 'subsystems: ["net*"]'),
    ("files: [read]", "files: [read, write]"),
    ("files: [read]", 'files: ["*"]'),
    ("files: [read]", 'paths: ["/**"]'),
    ('paths: ["/srv/x"]', 'paths: ["/srv/x"]'),
    ('paths: ["/srv/x"]', 'paths: ["/srv/*"]'),
    ('paths: ["/srv/x/**"]', 'paths: ["/srv/**"]'),
    ('files: [read], paths: ["/srv/*/y"]', 'files: [read], paths: ["/srv/**"]'),
    ('files: [read], paths: ["/srv/x", "/etc/y"]', 'paths: ["/srv/**", "/etc/*"]'),
    ('forward: ["db:1"]', 'forward: ["db:*"]'),
    ('forward: ["DB:1"]', 'forward: ["*:1"]'),
    ('forward: ["a.internal:1", "b.internal:*"]', 'forward: ["*.internal:*"]'),
    ('forward: ["10.0.0.1:1"]', 'forward: ["10.0.0.*:1"]'),
    ('forward: ["unix:/run/x/y"]', 'forward: ["unix:/run/**"]'),
    ('listen: ["localhost:0"]', 'listen: ["localhost:*"]'),
    ('shell: true, exec: ["ls"]', 'shell: true, exec: ["*"], agent: true'),
]


@pytest.mark.parametrize(("allow", "deny"), VOID)
def test_an_allow_rule_that_a_deny_rule_makes_void(allow: str, deny: str) -> None:
    expected = "8:5: rules[0]: can never match: deny rule `d` matches everything that it allows; remove one"
    (fault,) = faults_of(shadowing(allow, deny))
    assert fault.startswith(expected)
    (fault,) = faults_of(shadowing(allow, deny, ", roles: [ops]", ", roles: [ops, guest]"))
    assert fault.startswith(expected)
    load_document(shadowing(allow, deny, "", ", roles: [ops]"), "p.yaml")
    load_document(shadowing(allow, deny, "", ", targets: {names: [x]}"), "p.yaml")


@pytest.mark.parametrize(("allow", "deny"), VOID)
def test_what_else_such_a_rule_allows_keeps_it(allow: str, deny: str) -> None:
    more = "listen: [spare:1]" if "listen" not in allow else "forward: [spare:1]"
    load_document(shadowing(f"{allow}, {more}", deny), "p.yaml")


@pytest.mark.parametrize(
    ("allow", "deny"),
    [
        ("shell: true", "agent: true"),
        ("shell: true, agent: true", "shell: true"),
        ('exec: ["ls *"]', 'exec: ["ls -l *"]'),
        ('exec: ["ls *"]', 'exec: ["ls"]'),
        ('exec: ["ls"]', 'exec: ["ls x *"]'),
        ('exec: ["ls *", "cat *"]', 'exec: ["ls *"]'),
        ('exec: ["ls x"]', 'exec: ["*"], redirects: ["/tmp/*"]'),
        ('exec: ["*"]', 'exec: ["* *"]'),
        ('exec: ["bash"]', "shell: true"),
        ("subsystems: [sftp]", 'files: ["*"]'),
        ("files: [read, write]", "files: [read]"),
        ("files: [read]", 'files: [read], paths: ["/srv/**"]'),
        ('paths: ["/srv/**"]', 'files: [read], paths: ["/srv/**"]'),
        ('paths: ["/srv/**"]', 'paths: ["/srv/*"]'),
        ('paths: ["/srv/*"]', 'paths: ["/srv/x"]'),
        ('paths: ["/srv/**/x"]', 'paths: ["/srv/*/x"]'),
        ('forward: ["db:*"]', 'forward: ["db:1"]'),
        ('forward: ["*:1"]', 'forward: ["db:1"]'),
        ('forward: ["db:1"]', 'forward: ["unix:/**"]'),
        ('forward: ["db:1"]', 'listen: ["db:1"]'),
    ],
)
def test_an_allow_rule_that_still_matches_something(allow: str, deny: str) -> None:
    load_document(shadowing(allow, deny), "p.yaml")


def test_a_rule_about_two_protocols_is_looked_at_in_its_parts() -> None:
    text = shadowing("shell: true", "shell: true", ", postgres: {commands: [select]}")
    (fault,) = faults_of(text)
    assert fault.startswith("8:30: rules[0].ssh: can never match")
    text = shadowing(
        "shell: true", "agent: true", ", postgres: {commands: [select]}", ", postgres: {commands: [select]}"
    )
    (fault,) = faults_of(text)
    assert fault.split(": ")[1] == "rules[0].postgres"
