"""Texts as clients send them, read and judged: ways around a denied command, and what an allow rule lets pass."""

from __future__ import annotations

import pytest

from policy.decision import Effect
from policy.facts import SshFacts, SshOperation
from policy.shell.analyze import analyze_command
from tests.policy.ssh.operations import A, D, H, verdict


def facts(text: str) -> SshFacts:
    analysis = analyze_command(text)
    return SshFacts(SshOperation.EXEC, text, analysis.commands, analysis.unresolved)


@pytest.mark.parametrize(
    "text",
    [
        "rm x",
        "/bin/rm x",
        "./rm x",
        "//bin/../bin/rm x",
        r"\rm x",
        "'r'm x",
        "r''m x",
        '"rm" x',
        "rm\tx",
        "rm",
        "command rm x",
        "builtin command rm x",
        "exec rm x",
        "env rm x",
        "env -i A=b rm x",
        "/usr/bin/env -- rm x",
        "nice -n 5 rm x",
        "nohup rm x",
        "timeout 5 rm x",
        "timeout --signal=KILL 5 rm x",
        "setsid rm x",
        "stdbuf -o0 rm x",
        "ionice -c 3 rm x",
        "sudo rm x",
        "sudo -u root rm x",
        "sudo -n -- rm x",
        "sudo A=b rm x",
        "doas rm x",
        "su -c 'rm x'",
        "su root -c 'rm x'",
        "sh -c 'rm x'",
        'bash -c "rm x"',
        "bash -lc 'rm x'",
        "bash -o pipefail -c 'rm x'",
        "sh -c 'sh -c \"rm x\"'",
        "sudo sh -c 'ls; rm x'",
        "eval rm x",
        "eval 'rm x'",
        "xargs rm",
        "echo x | xargs rm -f",
        "xargs -0 -n 1 rm",
        "find . -exec rm {} +",
        r"find . -name x -execdir rm {} \;",
        "find . -exec sh -c 'rm x' \\;",
        "busybox rm x",
        "chroot / rm x",
        "flock x rm y",
        "script -c 'rm x'",
        "watch rm x",
        "ls; rm x",
        "ls && rm x",
        "ls || rm x",
        "ls | rm",
        "ls & rm x",
        "ls\nrm x",
        "(rm x)",
        "{ rm x; }",
        "! rm x",
        "time rm x",
        "$(rm x)",
        "`rm x`",
        "echo $(rm x)",
        'echo "$(rm x)"',
        "echo `rm x`",
        "echo $(echo $(rm x))",
        "echo ${A:-$(rm x)}",
        "A=$(rm x)",
        "cat <(rm x)",
        "ls > $(rm x)",
        "cat <<E\n$(rm x)\nE\n",
        "if true; then rm x; fi",
        "if rm x; then true; fi",
        "while rm x; do true; done",
        "for i in a b; do rm $i; done",
        "for i in $(rm x); do true; done",
        "case x in x) rm y;; esac",
        "f() { rm x; }; f",
        "trap 'rm x' EXIT",
        "alias ls='rm x'\nls",
        "X=rm; $X y",
        "$X y",
        "${X:-rm} y",
        "r${E}m x",
        "/bin/r? x",
        "{rm,x}",
        "A=b rm x",
        "> /tmp/y rm x",
        "rm $x",
        "echo rm x | sh",
        "sh <<< 'rm x'",
        "bash < script",
        "sh",
        "echo 'rm x",
        "rm x; )(",
        "echo $'\\x72m'; $'\\x72m' x",
    ],
)
def test_no_way_around_a_denied_command(text: str) -> None:
    assert verdict(facts(text), 'allow exec: ["*"]') is A
    assert verdict(facts(text), 'allow exec: ["*"]', 'deny exec: ["rm *"]') is D
    assert verdict(facts(text), 'allow exec: ["*"]', 'hold exec: ["rm *"]') is not A


@pytest.mark.parametrize(
    "text",
    [
        "ls rm",
        "echo rm x",
        "echo 'rm x'",
        "rmdir x",
        "grep -r rm /srv",
        "git rm x",
        "cat rm",
        "echo '$(rm x)'",
        "ls; echo done",
        "sh -c 'ls; echo rm'",
        "ls | grep rm | wc -l",
        "cat <<'E'\nrm x\nE\n",
        "test -f rm && ls",
        'ls "$HOME"',
        "FOO=rm ls",
    ],
)
def test_what_only_speaks_of_it_passes(text: str) -> None:
    assert verdict(facts(text), 'allow exec: ["*"]', 'deny exec: ["rm *"]') is A


GIT = 'allow exec: ["git-upload-pack *", "git-receive-pack *", "git *"]'
RSYNC = 'allow exec: ["rsync --server --sender -*e* . /srv/www/*"]'
ANSIBLE = 'allow exec: ["echo *", "mkdir *", "umask *", "chmod *", "sleep 0", "/usr/bin/python3 *"]'


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (GIT, "git-upload-pack '/srv/git/site.git'", A),
        (GIT, "git-upload-pack '/srv/git/site.git'; id", D),
        (GIT, "git-upload-pack `id`", D),
        (GIT, "git-upload-pack $(id)", D),
        (GIT, "git log > /tmp/x", D),
        (GIT, "GIT_SSH_COMMAND=x git fetch", D),
        (GIT, "git log 2>/dev/null", A),
        (GIT, "git log 2>&1", A),
        (GIT, "git log | cat", D),
        (GIT, "env git log", A),
        (GIT, "sudo git log", D),
        (GIT, "sh -c 'git log && git status'", A),
        (GIT, "sh -c 'git log && id'", D),
        (GIT, "/tmp/git log", D),
        (GIT, "/tmp/sh -c 'git log'", D),
        (GIT, "PATH=/tmp sh -c 'git log'", D),
        (GIT, "PATH=/tmp; git log", D),
        (GIT, "git() { id; }; git", D),
        (GIT, "git log; }", D),
        (GIT, "", D),
        (GIT, "   ", D),
        (GIT, "# git log", D),
        (GIT, "g*t log", D),
        (GIT, "git \"$x\"", A),
        (GIT, "git log\x00", D),
        (ANSIBLE, "/bin/sh -c 'echo PLATFORM; ( umask 77 && mkdir -p /tmp/x ) && sleep 0'", A),
        (ANSIBLE, "/bin/sh -c '( umask 77 && mkdir -p \"` echo /tmp/x `\" && echo a=\"` echo b `\" ) && sleep 0'", A),
        (ANSIBLE, "/bin/sh -c '/usr/bin/python3 /tmp/x/AnsiballZ_ping.py && sleep 0'", A),
        (ANSIBLE, "/bin/sh -c 'rm -f -r /tmp/x > /dev/null 2>&1 && sleep 0'", D),
        (RSYNC, "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/www/x", A),
        (RSYNC, "rsync --server --sender -logDtpre.iLsfxCIvu . /srv/www/../x", D),
        (RSYNC, "rsync --server -logDtpre.iLsfxCIvu . /srv/www/x", D),
        ('allow exec: ["scp -t *"]', "scp -t /srv/x", A),
        ('allow exec: ["scp -t *"]', "scp -f /srv/x", D),
        ('allow exec: ["date"], redirects: ["/tmp/*"]', "date > /tmp/x", A),
        ('allow exec: ["date"], redirects: ["/tmp/*"]', "date >> /tmp/../etc/x", D),
        ('allow exec: ["date"], redirects: ["/tmp/*"]', "date > /tmp/$x", D),
        ('allow exec: ["date"], redirects: ["/tmp/*"]', "cd /tmp && date > x", D),
    ],
)  # fmt: skip
def test_what_an_allow_rule_lets_pass(rule: str, text: str, expected: Effect) -> None:
    assert verdict(facts(text), rule) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bash", D),
        ("bash -l", D),
        ("bash -i", D),
        ("exec bash", D),
        ("env bash", D),
        ("sudo -i", D),
        ("sudo su -", D),
        ("sudo bash", D),
        ("su", D),
        ("sh -c 'exec bash'", D),
        ("python3", D),
        ("tmux", D),
        ("$SHELL", D),
        ("ls", A),
        ("bash -c ls", A),
        ("sh script.sh", A),
        ("python3 x.py", A),
        ("sudo ls", A),
    ],
)
def test_shells_by_exec(text: str, expected: Effect) -> None:
    assert verdict(facts(text), 'allow exec: ["*"]', "deny shell: true") is expected


def test_a_held_command_is_held_wherever_it_stands() -> None:
    rules = ('allow exec: ["*"]', 'hold exec: ["systemctl stop *"]')
    assert verdict(facts("sudo systemctl stop nginx"), *rules) is H
    assert verdict(facts("ls && systemctl stop nginx"), *rules) is H
    assert verdict(facts("systemctl status nginx"), *rules) is A


@pytest.mark.parametrize(
    "text", ["x" * 1_000_000, "$(" * 1000 + "rm x" + ")" * 1000, "rm x;" * 20_000, "(" * 100_000]
)
def test_texts_that_are_too_much(text: str) -> None:
    assert verdict(facts(text), 'allow exec: ["*"]', 'deny exec: ["rm *"]') is D
    assert verdict(facts(text), 'allow exec: ["ls *"]') is D
