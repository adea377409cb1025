"""Commands against rules: what a pattern touches, what it covers, and what cannot be seen."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.facts import Redirect, SimpleCommand, SshFacts, Word
from tests.policy.ssh.operations import A, D, H, command, judged, run, verdict

ANY = 'allow exec: ["*"]'


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("rm *", "rm", True),
        ("rm *", "rm x", True),
        ("rm *", "rm -rf / x", True),
        ("rm *", "/bin/rm x", True),
        ("rm *", "./rm x", True),
        ("rm *", "../../bin/rm x", True),
        ("rm *", "//usr//bin/./rm x", True),
        ("rm *", "rmdir x", False),
        ("rm *", "xrm x", False),
        ("rm *", "RM x", False),
        ("rm *", "echo rm x", False),
        ("rm *", "$x y", True),
        ("rm *", "rm $x", True),
        ("rm", "rm", True),
        ("rm", "rm x", False),
        ("rm", "rm $x", True),
        ("rm -rf *", "rm -rf x", True),
        ("rm -rf *", "rm -r -f x", False),
        ("rm -rf *", "rm $x", True),
        ("rm -rf *", "rm $x -v", True),
        ("rm -rf /", "rm $x $y", True),
        ("rm -rf /", "rm $x /", True),
        ("rm -rf /", "rm $x /srv", False),
        ("rm -rf /", "rm $x -rf $y / $z", True),
        ("rm -rf /", "rm -rf / x", False),
        ("systemctl * nginx", "systemctl stop nginx", True),
        ("systemctl * nginx", "systemctl nginx", False),
        ("systemctl * nginx", "systemctl stop now nginx", False),
        ("systemctl * nginx", "systemctl $x", True),
        ("mkfs*", "mkfs.ext4 /dev/sda", False),
        ("mkfs* *", "/sbin/mkfs.ext4 /dev/sda", True),
        ("*sh *", "/bin/bash x", True),
        ("* --force", "anything --force", True),
        ("* --force", "/opt/anything --force", True),
        ("dd *of=/dev/*", "dd of=/dev/sda", True),
        ("/sbin/reboot *", "/sbin/reboot", True),
        ("/sbin/reboot *", "reboot -f", True),
        ("/sbin/reboot *", "sbin/reboot", True),
        ("/sbin/reboot *", "/tmp/../sbin/reboot", True),
        ("/sbin/reboot *", "/sbin//reboot", True),
        # On most systems these are links to each other, whole directories of them.
        ("/sbin/reboot *", "/usr/sbin/reboot", True),
        ("/sbin/reboot *", "/usr/bin/reboot", True),
        ("/usr/bin/rm *", "/bin/rm x", True),
        ("/bin/rm *", "/usr/bin/rm x", True),
        ("/usr/*/rm *", "/bin/rm x", True),
        ("/*/rm *", "/usr/bin/rm x", True),
        ("/bin/rm *", "/usr/local/bin/rm x", False),
        ("/bin/rm *", "/usr/bin/rmdir x", False),
        ("/srv/bin/rm *", "/usr/bin/rm x", False),
        ("/sbin/reboot *", "/sbin/reboots", False),
        ("/opt/*/bin/tool *", "/opt/a/bin/tool x", True),
        ("/opt/*/bin/tool *", "/opt/a/b/bin/tool x", False),
        ("./deploy *", "/srv/deploy x", True),
        ("'a b' *", "ls", False),
    ],
)
def test_what_a_deny_pattern_touches(pattern: str, text: str, expected: bool) -> None:
    """Under an allow rule for everything, `deny` decides."""
    quoted = pattern.replace("'", "''")
    assert verdict(run(text), ANY, f"deny exec: ['{quoted}']") is (
        D if expected or text.startswith("$") else A
    )


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ls *", "ls", True),
        ("ls *", "ls -l /x", True),
        ("ls *", "ls $x", True),
        ("ls *", "lsof", False),
        ("ls *", "/bin/ls", False),
        ("ls *", "./ls", False),
        ("ls", "ls", True),
        ("ls", "ls -l", False),
        ("ls", "ls $x", False),
        ("ls", "LS", False),
        ("ls -l *", "ls -l", True),
        ("ls -l *", "ls $x", False),
        ("ls -l *", "ls -l $x y", True),
        ("ls *.txt", "ls a.txt", True),
        ("ls *.txt", "ls a/b.txt", True),
        ("ls *.txt", "ls ../b.txt", False),
        ("ls *.txt", "ls a.txt b.txt", False),
        ("ls *.txt", "ls ?.txt", False),
        ("cat /var/log/*", "cat /var/log/syslog", True),
        ("cat /var/log/*", "cat /var/log/../../etc/shadow", False),
        ("cat /var/log/*", "cat /var/log/..", False),
        ("cat /var/log/*", "cat /var/log/..x", True),
        ("cat /var/log/*", "cat /var/log/a /etc/shadow", False),
        ("cat *", "cat ../x", True),
        ("git * --help", "git log --help", True),
        ("git * --help", "git $x --help", False),
        ("git * --help", "git --help", False),
        ("/bin/ls *", "/bin/ls x", True),
        ("/bin/ls *", "ls x", False),
        ("/bin/ls *", "/usr/bin/ls x", False),
        ("/bin/ls *", "/bin//ls x", False),
        ("/bin/ls *", "/bin/../bin/ls x", False),
        ("/opt/tools/* *", "/opt/tools/a x", True),
        ("/opt/tools/* *", "/opt/tools/a/b x", False),
        ("/opt/tools/* *", "/opt/tools/.. x", False),
        ("/opt/tools/* *", "/opt/tools/ x", False),
        ("/opt/tools/* *", "/opt/tools/../../bin/sh x", False),
        ("./deploy *", "./deploy x", True),
        ("./deploy *", "deploy x", False),
        ("git-* *", "git-upload-pack x", True),
        ("git-* *", "git-/../sh x", False),
        ("* --version", "ls --version", True),
        ("* --version", "/tmp/x --version", False),
        ("* --version", "$x --version", False),
        ("*", "anything at all", True),
        ("*", "/tmp/x", True),
        ("*", "$x", True),
        ("* *", "$x", False),
        ("echo '*'", "echo *", True),
        ("echo '*'", "echo x", False),
        (r"echo \*", "echo *", True),
        (r"echo \*", "echo x", False),
    ],
)
def test_what_an_allow_pattern_covers(pattern: str, text: str, expected: bool) -> None:
    quoted = pattern.replace("'", "''")
    assert verdict(run(text), f"allow exec: ['{quoted}']") is (A if expected else D)


def test_a_quoted_blank_is_part_of_the_word() -> None:
    facts = run(SimpleCommand((Word("touch"), Word("a b"))))
    assert verdict(facts, """allow exec: ['touch "a b"']""") is A
    assert verdict(facts, """allow exec: ['touch a\\ b']""") is A
    assert verdict(facts, """allow exec: ['touch a b']""") is D
    assert verdict(run("touch a b"), """allow exec: ['touch "a b"']""") is D


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (run("ls", "cat x"), A),
        (run("ls", "rm x"), D),
        (run("ls", command("sudo rm x", command("rm x"))), D),
        (run(command("env rm x", command("rm x"), explained=True)), D),
        (run(command("ls x", command("rm y"))), D),  # a substitution among the words
        (run(command("find x", command("xargs", command("/bin/rm")))), D),
        (run("ls", unresolved=("a here-document",)), D),
        (run("$x"), D),
        (run("ls $x"), A),
        (run(command("bash", code=True)), D),
        (run(), D),
    ],
)
def test_every_command_of_a_text_is_looked_at(facts: SshFacts, expected: Effect) -> None:
    assert verdict(facts, ANY, 'deny exec: ["rm *"]') is expected


@pytest.mark.parametrize(
    "facts",
    [
        run(command("ls", env=("LD_PRELOAD",))),
        run(SimpleCommand((), ("PATH",))),
        run(command("ls", to=("/etc/passwd",))),
        run(SimpleCommand((), (), (Redirect(">", Word("/etc/passwd")),))),
        run(command("ls"), unresolved=("a here-document",)),
        run("$x"),
        run(),
    ],
)
def test_what_only_the_rule_for_everything_covers(facts: SshFacts) -> None:
    assert verdict(facts, 'allow exec: ["ls *", "* *", "*sh"]') is D
    assert verdict(facts, ANY) is A
    assert verdict(facts, ANY, 'deny exec: ["shutdown *"]', "deny agent: true") is (
        D
        if facts.unresolved or not facts.commands or facts.commands[0].words[:1] == (Word("$x", False),)
        else A
    )


@pytest.mark.parametrize(
    ("paths", "redirect", "expected"),
    [
        ('["/tmp/*"]', "/tmp/x", A),
        ('["/tmp/*"]', "/tmp/x/y", D),
        ('["/tmp/*"]', "/tmp/../etc/passwd", D),
        ('["/tmp/*"]', "/tmp//x", D),
        ('["/tmp/*"]', "tmp/x", D),
        ('["/tmp/*"]', "$x", D),
        ('["/tmp/**"]', "/tmp/x/y", A),
        ('["/**"]', "tmp/x", A),
        ('["/**"]', "$x", A),
    ],
)
def test_redirections_that_a_rule_covers(paths: str, redirect: str, expected: Effect) -> None:
    assert (
        verdict(run(command("ls", to=(redirect,))), f'allow exec: ["ls *"], redirects: {paths}') is expected
    )


def test_the_rule_that_covers_the_command_covers_its_redirections() -> None:
    rules = ('allow exec: ["cat *"]', 'allow exec: ["date *"], redirects: ["/tmp/*"]')
    assert verdict(run(command("date", to=("/tmp/x",))), *rules) is A
    assert verdict(run(command("cat /etc/shadow", to=("/tmp/x",))), *rules) is D
    assert verdict(run(command("date", to=("/tmp/x", "/etc/x"))), *rules) is D


def test_redirects_narrow_a_rule_for_everything() -> None:
    rule = 'allow exec: ["*"], redirects: ["/tmp/*"]'
    assert verdict(run(command("ls", to=("/tmp/x",))), rule) is A
    assert verdict(run(command("ls", to=("/etc/x",))), rule) is D
    assert verdict(run("ls", unresolved=("x",)), rule) is D


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (run(command("echo x", to=("/etc/passwd",))), D),
        (run(command("echo x", to=("/tmp/x",))), A),
        (run(command("echo x", to=("passwd",))), D),
        (run(command("echo x", to=("/tmp/../etc/passwd",))), D),
        (run(command("echo x", to=("$x",))), D),
        (run("echo x", SimpleCommand((), (), (Redirect(">", Word("/etc/passwd")),))), D),  # of a group
        (run(command("sh -c y", command("echo x", to=("/etc/passwd",)))), D),
        (run("echo /etc/passwd"), A),
        (run("echo x", unresolved=("x",)), D),
    ],
)
def test_a_deny_rule_with_redirects(facts: SshFacts, expected: Effect) -> None:
    assert verdict(facts, ANY, 'deny exec: ["*"], redirects: ["/etc/**"]') is expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (run(command("sh -c ls", command("ls"), explained=True)), A),
        (run(command("/bin/sh -c ls", command("ls"), explained=True)), A),
        (run(command("env nice ls", command("nice ls", command("ls"), explained=True), explained=True)), A),
        (run(command("sh -c x", command("ls"), command("rm"), explained=True)), D),
        (run(command("sudo ls", command("ls"))), D),  # as another account
        (run(command("/tmp/sh -c ls", command("ls"), explained=True)), D),  # another program of that name
        (run(command("./sh -c ls", command("ls"), explained=True)), D),
        (run(command("sh -c ''", explained=True)), D),
        (run(command("sh -c ls", command("ls"), explained=True, code=True)), D),
        (run(command("sh -c ls", command("ls"), explained=True, env=("PATH",))), D),
        (run(command("sh -c ls", command("ls"), explained=True, to=("/etc/x",))), D),
        (run(command("sh -c ls", command("ls", env=("PATH",)), explained=True)), D),
        (run(SimpleCommand((Word("$sh", False), Word("ls")), inner=(command("ls"),), is_explained=True)), D),
    ],
)
def test_a_command_that_is_explained(facts: SshFacts, expected: Effect) -> None:
    assert verdict(facts, 'allow exec: ["ls *"]') is expected


def test_a_wrapper_has_its_redirections_for_what_it_runs() -> None:
    facts = run(command("sh -c ls", command("ls"), explained=True, to=("/tmp/x",)))
    assert verdict(facts, 'allow exec: ["ls *"], redirects: ["/tmp/*"]') is A
    assert verdict(facts, 'allow exec: ["ls *"]', 'allow exec: ["id"], redirects: ["/tmp/*"]') is D


def test_a_shell_that_a_rule_names_reads_commands_out_of_sight() -> None:
    """Who may run it may run anything; a rule that denies a command cannot be kept beside it."""
    facts = run(command("bash -s", code=True))
    assert verdict(facts, 'allow exec: ["ls *"]') is D
    assert verdict(facts, 'allow exec: ["bash *"]') is A
    assert verdict(facts, 'allow exec: ["bash *"]', 'deny exec: ["rm *"]') is D
    assert verdict(facts, 'allow exec: ["bash *"]', 'hold exec: ["rm *"]') is D
    assert verdict(facts, 'allow exec: ["bash *"]', 'deny paths: ["/etc/**"]') is A


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (run("bash"), D),
        (run("/bin/bash -l"), D),
        (run("bash -i script"), D),
        (run("bash -o pipefail -i"), D),
        (run("bash --rcfile x"), D),
        (run("bash --login"), D),
        (run("bash -"), D),
        (run("zsh -s x"), D),
        (run("bash $x"), D),
        (run("bash script -i"), A),
        (run("bash -x script"), A),
        (run("bash -o pipefail script"), A),
        (run(command("bash -lc ls", command("ls"), explained=True)), A),
        (run(command("bash -ic ls", command("ls"), explained=True)), D),
        (run("su -"), D),
        (run("sudo -i"), D),
        (run("sudo -u root -s"), D),
        (run(command("sudo ls", command("ls"))), A),
        (run(command("sudo bash", command("bash"))), D),
        (run(command("env bash", command("bash"), explained=True)), D),
        (run("tmux attach"), D),
        (run(command("python3", code=True)), D),
        (run("top", has_pty=True), A),
        (run("$x"), D),
        (run("ls", unresolved=("x",)), D),
        (run(SimpleCommand((), ("A",))), A),
    ],
)
def test_a_deny_rule_on_shells_touches_an_exec_that_starts_one(facts: SshFacts, expected: Effect) -> None:
    assert verdict(facts, ANY, "deny shell: true") is expected


def test_an_allow_rule_on_shells_covers_no_exec() -> None:
    assert verdict(run(command("bash", code=True)), "allow shell: true") is D
    assert verdict(run(command("bash", code=True), has_pty=True), "allow shell: true") is D


@pytest.mark.parametrize(
    ("facts", "rules", "expected"),
    [
        (run("rm x"), ('hold exec: ["rm *"]',), H),
        (run("rm x", "ls"), ('hold exec: ["rm *"]',), D),
        (run("rm x", "ls"), ('hold exec: ["rm *"]', 'allow exec: ["ls *"]'), H),
        (run("/bin/rm x"), ('hold exec: ["rm *"]',), D),
        (run("/bin/rm x"), ('hold exec: ["rm *"]', ANY), H),
        (run("ls", unresolved=("x",)), ('hold exec: ["rm *"]', ANY), D),
        (run("ls", unresolved=("x",)), ('hold exec: ["*"]',), H),
        (run("rm x"), ('hold exec: ["rm *"]', 'deny exec: ["rm x"]'), D),
        (run("ls"), ('hold exec: ["rm *"]',), D),
        (run("date"), ('hold exec: ["*"], redirects: ["/tmp/*"]',), D),  # it holds redirections only
        (run(command("date", to=("/tmp/x",))), ('hold exec: ["*"], redirects: ["/tmp/*"]',), H),
        (run("bash"), ("hold shell: true", ANY), H),
        (run("bash"), ("hold shell: true",), D),
        (run(command("sudo rm x", command("rm x"))), ('hold exec: ["rm *"]', 'allow exec: ["sudo *"]'), H),
        (run(command("sudo rm x", command("rm x"))), ('hold exec: ["rm *"]', 'allow exec: ["ls *"]'), D),
    ],
)
def test_holds(facts: SshFacts, rules: tuple[str, ...], expected: Effect) -> None:
    assert verdict(facts, *rules) is expected


@pytest.mark.parametrize(
    "facts", [run(), run(unresolved=("too long",)), run("$x"), run("ls", unresolved=("x",))]
)
def test_a_rule_for_every_command_means_what_cannot_be_seen_too(facts: SshFacts) -> None:
    assert verdict(facts, ANY + ", agent: true", 'deny exec: ["*"]') is D
    assert verdict(facts, ANY, 'hold exec: ["*"]') is H
    assert verdict(facts, ANY, 'hold exec: ["*"], redirects: ["/etc/**"]') is D
    assert verdict(facts, ANY, 'deny exec: ["*"], redirects: ["/etc/**"]') is D


def test_reasons() -> None:
    (reason,) = judged(run("rm -rf /x"), ANY, 'deny exec: ["rm *"]').reasons
    assert (reason.rule, reason.message) == ("deny-1", "exec of `rm -rf /x` is denied")
    assert reason.hint == "Leave it out of the command, or ask the owners of the policy about rule deny-1."
    (reason,) = judged(run("rm x"), 'hold exec: ["rm *"]').reasons
    assert reason.message == "rule hold-0 holds this until an approval by boss"
    assert reason.hint == "Ask boss to approve it."
    (reason,) = judged(run("ls", "rm x"), 'allow exec: ["ls *"]').reasons
    assert (reason.rule, reason.message) == ("", "no rule allows `rm x`")
    (reason,) = judged(run("ls"), 'allow exec: ["ls *"]').reasons
    assert (reason.rule, reason.message) == ("allow-0", "allowed")


@pytest.mark.parametrize(
    ("facts", "message", "hint"),
    [
        (run("/bin/ls x"), "no rule allows `/bin/ls x`", "Call it as `ls`"),
        (run("ls -l $x"), "", ""),
        (run("ls $x -l"), "", ""),
        (run("id $x"), "no rule allows `id $x`", "Write out what `$x` stands for"),
        (run(command("ls", env=("A",))), "no rule allows the assignment to `A` with `ls`", "Leave it out"),
        (run(SimpleCommand((), ("A",))), "no rule allows the assignment to `A`", "Leave it out"),
        (run(command("ls", to=("/x",))), "no rule allows the redirection `> /x` with `ls`", "Leave it out"),
        (run("ls", unresolved=("x",)), "no rule allows commands that cannot be seen: x", "simpler form"),
    ],
)
def test_what_a_refused_command_is_told(facts: SshFacts, message: str, hint: str) -> None:
    decision = judged(facts, 'allow exec: ["ls *"]')
    if not message:
        assert decision.effect is A
        return
    (reason,) = decision.reasons
    assert reason.message == message
    assert hint in reason.hint


def test_reasons_are_bounded_and_harmless_to_a_terminal() -> None:
    facts = run(SimpleCommand((Word("rm"), Word("\x1b[2J\u202e" + "x" * 10_000))))
    (reason,) = judged(facts, 'deny exec: ["rm *"]', ANY).reasons
    assert reason.message.startswith(r"exec of `rm \x1b[2J\u202exxx")
    assert reason.message.endswith("...` is denied")
    assert len(reason.message) < 200
    many = judged(run(*(f"c{number}" for number in range(1000))), 'allow exec: ["ls"]').reasons
    assert len(many) == 21
    assert many[-1].message == "and 980 more reasons"


def test_a_text_with_too_many_commands_is_not_looked_through() -> None:
    facts = run(*(["ls"] * 2_001))
    assert verdict(facts, 'allow exec: ["ls *"]') is D
    assert verdict(facts, ANY) is A
    assert verdict(facts, ANY, 'deny exec: ["rm *"]') is D


def test_commands_nested_deep() -> None:
    nested = command("ls")
    for _ in range(900):
        nested = command("env x", nested, explained=True)
    assert verdict(run(nested), 'allow exec: ["ls *"]') is A
    assert verdict(run(nested), 'allow exec: ["id *"]') is D
