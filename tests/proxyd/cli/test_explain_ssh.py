"""`proxyd explain` of SSH operations: what is asked, what is said, and what is no question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxyd.cli.main import main
from tests.proxyd.documents import POLICY, write_ssh_setup

Output = pytest.CaptureFixture[str]

RULES = """\
  - name: work
    effect: allow
    roles: [analyst]
    ssh: {exec: ["ls *", "uptime"], paths: ["/srv/**"], forward: ["*.internal:443"], listen: ["localhost:*"]}
  - name: no-secrets
    effect: deny
    ssh: {paths: ["/srv/secrets/**"], exec: ["rm *"]}
    message: "Secrets stay where they are."
  - name: ask-first
    effect: hold
    ssh: {shell: true, x11: true}
    approval: {approvers: [boss]}
masks:
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_ssh_setup(tmp_path, policy=POLICY.replace("masks:\n", RULES))


def explain(config: Path, *arguments: str, login: str = "readonly", target: str = "web1") -> int:
    who = ["--subject", "ann", "--group", "data", "--login", login]
    return main(["explain", "--config", str(config), *who, "--target", target, *arguments])


def test_a_command(config: Path, capsys: Output) -> None:
    assert explain(config, "--exec", "ls -l /srv; A=b sudo rm -rf $x > /tmp/log") == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "subject    ann  (groups: data; roles: analyst)"
    assert lines[1] == "target     web1 as readonly"
    assert lines[3] == "admission  allow"
    assert "operation  exec of `ls -l /srv; A=b sudo rm -rf $x > /tmp/log`" in lines
    assert "  runs     ls -l /srv" in lines
    assert "  runs     sudo rm -rf $x  (A=, > /tmp/log)" in lines
    assert "  runs       rm -rf $x" in lines
    assert "  decision deny" in lines
    assert "           no-secrets: Secrets stay where they are." in lines
    assert lines[-1] == "=> deny"


@pytest.mark.parametrize(
    ("arguments", "operation", "decision"),
    [
        (["--exec", "uptime"], "exec of `uptime`", "allow"),
        (["--exec", ""], "exec of ``", "deny"),
        (["--exec", "echo $(("], "exec of `echo $((`", "deny"),
        (["--shell"], "an interactive shell", "hold"),
        (["--subsystem", "sftp"], "subsystem `sftp`", "allow"),
        (["--file", "read", "/srv/a"], "`read` of /srv/a", "allow"),
        (["--file", "read", "/srv/../etc/./passwd"], "`read` of /etc/passwd", "deny"),
        (["--file", "rename", "/srv/a", "/srv/b"], "`rename` of /srv/a to /srv/b", "allow"),
        (["--file", "read", "/srv/secrets/a"], "`read` of /srv/secrets/a", "deny"),
        (["--forward", "a.internal:443"], "forwarding to a.internal:443", "allow"),
        (["--forward", "[fd00::1]:443"], "forwarding to [fd00::1]:443", "deny"),
        (["--forward", "unix:/run/x"], "forwarding to the socket /run/x", "deny"),
        (["--listen", "localhost:8080"], "listening on localhost:8080", "allow"),
        (["--listen", ":8080"], "listening on every address, port 8080", "deny"),
        (["--agent"], "forwarding of the key agent", "deny"),
        (["--x11"], "forwarding of the display (X11)", "hold"),
    ],
)
def test_each_operation(
    config: Path, arguments: list[str], operation: str, decision: str, capsys: Output
) -> None:
    assert explain(config, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"operation  {operation}" in lines
    assert lines[-1] == f"=> {decision}"


def test_a_hold_says_whom_to_ask(config: Path, capsys: Output) -> None:
    assert explain(config, "--shell") == 0
    assert "rule ask-first holds this until an approval by boss" in capsys.readouterr().out


def test_paths_are_said_to_be_taken_as_they_stand(config: Path, capsys: Output) -> None:
    assert explain(config, "--file", "read", "/srv/a") == 0
    assert "unknown    symbolic links: " in capsys.readouterr().out
    assert explain(config, "--shell") == 0
    assert "unknown" not in capsys.readouterr().out


def test_a_stranger(config: Path, capsys: Output) -> None:
    assert explain(config, "--shell", login="root") == 0
    shown = capsys.readouterr().out
    assert "admission  deny" in shown
    assert "LOGIN+TARGET" in shown


def test_json(config: Path, capsys: Output) -> None:
    assert explain(config, "--exec", "ls\x1b[2J", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["effect"], answer["facts"]["operation"]) == ("deny", "exec")
    assert answer["decision"]["reasons"]


def test_nothing_reaches_the_terminal_that_it_would_obey(config: Path, capsys: Output) -> None:
    assert explain(config, "--exec", "rm \x1b[2J$(\x07)") == 0
    assert explain(config, "--file", "read", "/srv/\x1b[2J") == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["select 1"], "speaks ssh, and no SQL; give --exec, --shell"),
        (["--shell", "--login", "nobody"], "--login: name one of readonly, root, console"),
        (["--shell", "--target", "web1/db"], "speaks ssh, and has no databases"),
        (["--shell", "--target", "shop"], "speaks postgres; give the SQL"),
    ],
)
def test_what_is_no_question(config: Path, arguments: list[str], words: str, capsys: Output) -> None:
    assert explain(config, *arguments) == 1
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of the arguments SQL --shell --exec"),
        (["--shell", "--agent"], "not allowed with argument"),
        (["--file", "reed", "/x"], "'reed' is not one of link, list, mkdir"),
        (["--file", "read"], "read takes one path"),
        (["--file", "read", "/x", "/y"], "read takes one path"),
        (["--file", "rename", "/x"], "rename takes two paths"),
        (["--file", "read", "x"], "give absolute paths"),
        (["--forward", "db"], "'db' is not HOST:PORT or unix:/PATH"),
        (["--forward", "db:http"], "is not HOST:PORT"),
        (["--listen", "unix:x"], "is not HOST:PORT"),
        (["--exec", "\udc80"], "not UTF-8"),
    ],
)
def test_a_wrong_command_line(config: Path, arguments: list[str], words: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        explain(config, *arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_what_detectors_look_for_and_where_they_do_not(tmp_path: Path, capsys: Output) -> None:
    masks = "  - {name: second-line, detect: [email, credit_card]}\n"
    config = write_ssh_setup(tmp_path, policy=POLICY.replace("masks:\n", RULES + masks))
    assert explain(config, "--exec", "ls /srv") == 0
    assert "masks      second-line (looks for email, credit_card)\n" in capsys.readouterr().out
    assert explain(config, "--exec", "scp -f /srv/a") == 0
    assert "looks for email, credit_card) (not in this transfer" in capsys.readouterr().out
