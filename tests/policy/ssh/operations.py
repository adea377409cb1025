"""SSH facts written shortly, and documents of rules about them, for tables of rule, operation and verdict."""

from __future__ import annotations

from policy.decision import Decision, Effect
from policy.document import PolicyDocument, load_document
from policy.facts import (
    Redirect,
    SimpleCommand,
    SshFacts,
    SshOperation,
    Subject,
    Target,
    Word,
)
from policy.ssh.evaluate import judge_ssh

A, D, H = Effect.ALLOW, Effect.DENY, Effect.HOLD

HEAD = """\
version: 1
roles:
  ops: {groups: [ops]}
  guest: {groups: [guests]}
access:
  - {name: all, roles: [ops, guest], targets: {protocol: ssh}, logins: [deploy]}
"""
OPS = Subject("olga", ("ops",))
GUEST = Subject("gus", ("guests",))
WEB = Target("web1", "ssh", {"env": "prod"})

SHELL = SshFacts(SshOperation.SHELL, has_pty=True)
AGENT = SshFacts(SshOperation.AGENT)
X11 = SshFacts(SshOperation.X11)


def document(*rules: str) -> PolicyDocument:
    """Rules as "allow shell: true" or "deny roles=[ops] exec: [x]": an effect, and what stands in `ssh`."""
    lines = [_line(number, rule) for number, rule in enumerate(rules)]
    return load_document(HEAD + ("rules:\n" + "".join(lines) if lines else ""), "p.yaml")


def _line(number: int, rule: str) -> str:
    effect, _, section = rule.partition(" ")
    more = ", approval: {approvers: [boss]}" if effect == "hold" else ""
    return f"  - {{name: {effect}-{number}, effect: {effect}, ssh: {{{section}}}{more}}}\n"


def judged(facts: SshFacts, *rules: str) -> Decision:
    return judge_ssh(document(*rules), OPS, WEB, "deploy", facts)


def verdict(facts: SshFacts, *rules: str) -> Effect:
    return judged(facts, *rules).effect


def word(text: str) -> Word:
    """ "$x" and "?x" are not known."""
    return Word(text, is_known=not text.startswith(("$", "?")))


def command(
    text: str,
    *inner: SimpleCommand,
    env: tuple[str, ...] = (),
    to: tuple[str, ...] = (),
    explained: bool = False,
    code: bool = False,
) -> SimpleCommand:
    """Words split at blanks; `to` are files that it redirects to."""
    return SimpleCommand(
        tuple(map(word, text.split())),
        env,
        tuple(Redirect(">", word(path)) for path in to),
        inner,
        is_explained=explained,
        reads_code=code,
    )


def run(*commands: SimpleCommand | str, unresolved: tuple[str, ...] = (), has_pty: bool = False) -> SshFacts:
    parsed = tuple(command(each) if isinstance(each, str) else each for each in commands)
    text = "; ".join(" ".join(word.text for word in each.words) for each in parsed)
    return SshFacts(SshOperation.EXEC, text, parsed, unresolved, has_pty=has_pty)


def subsystem(name: str) -> SshFacts:
    return SshFacts(SshOperation.SUBSYSTEM, name)


def file(verb: str, path: str, other: str = "") -> SshFacts:
    return SshFacts(SshOperation.FILE, verb=verb, path=path, other_path=other)


def forward(where: str) -> SshFacts:
    return _address(SshOperation.FORWARD, where)


def listen(where: str) -> SshFacts:
    return _address(SshOperation.LISTEN, where)


def _address(operation: SshOperation, where: str) -> SshFacts:
    if where.startswith("unix:"):
        return SshFacts(operation, path=where.removeprefix("unix:"))
    host, _, port = where.rpartition(":")
    return SshFacts(operation, host=host, port=int(port))
