"""What would be decided about an SSH operation, and why, as plain data and as text for people.

The counterpart of `proxyd.explanation` for the second door: who the subject is to the policy, whether it is let in,
what the operation does, which rules follow. Judges by the same functions as a session. Pure: the caller brings the
policy and the clock. Called by `proxyd explain`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from policy.decision import Admission, Decision, Effect
from policy.document import PolicyDocument
from policy.evaluate import admit, roles_of
from policy.facts import SimpleCommand, SshFacts, SshOperation, Subject, Target
from policy.shown_text import shown
from policy.ssh.evaluate import depends_on_paths, judge_ssh
from policy.ssh.wording import command_text, described, redirect_text
from proxyd.explanation import (
    condition_lines,
    condition_words,
    detector_words,
    limit_words,
    reason_lines,
    strictest,
    subject_line,
)
from proxyd.gates.ssh.transfers import is_transfer

MAX_SHOWN_COMMANDS = 100


class SshQuestion(msgspec.Struct, frozen=True):
    """Who asks for what of which target. `now` in Unix seconds."""

    subject: Subject
    target: Target
    login: str
    facts: SshFacts
    now: float


class SshExplanation(msgspec.Struct, frozen=True):
    """The whole answer. `effect` is what the client would meet. unknown: what a session would know besides.

    conditions: of the rules that the reasons name.
    """

    effect: Effect
    subject: Subject
    roles: tuple[str, ...]
    target: Target
    login: str
    policy_version: str
    admission: Admission
    facts: SshFacts
    decision: Decision
    unknown: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()


def explain_ssh(document: PolicyDocument, question: SshQuestion) -> SshExplanation:
    """Answer `question` under `document`."""
    subject, target, facts = question.subject, question.target, question.facts
    admission = admit(document, subject, target, question.login, question.now)
    decision = judge_ssh(document, subject, target, question.login, facts)
    unknown: tuple[str, ...] = ()
    if facts.operation is SshOperation.FILE and depends_on_paths(document, subject, target):
        unknown = (
            "symbolic links: the path is judged as it stands, a session asks the target where it leads",
        )
    return SshExplanation(
        effect=strictest([admission.effect, decision.effect]),
        subject=subject,
        roles=tuple(sorted(roles_of(document, subject))),
        target=target,
        login=question.login,
        policy_version=document.version,
        admission=admission,
        facts=facts,
        decision=decision,
        unknown=unknown,
        masks=detector_words(document, subject, target),
        conditions=condition_words(document.ssh_rules, decision.reasons),
    )


def render_ssh(explanation: SshExplanation) -> str:
    """The explanation as lines of text, without a newline at the end."""
    return "\n".join(_lines(explanation))


def _lines(e: SshExplanation) -> Iterator[str]:
    yield subject_line(e.subject, e.roles)
    yield f"target     {e.target.name} as {e.login}"
    yield f"policy     version {e.policy_version}"
    yield f"admission  {e.admission.effect.value}{limit_words(e.admission)}"
    yield from reason_lines(e.admission.reasons)
    if e.masks:
        passes = " (not in this transfer, which passes as it is)" if is_transfer(e.facts) else ""
        yield f"masks      {', '.join(e.masks)}{passes}"
    for what in e.unknown:
        yield f"unknown    {what}"
    yield ""
    yield f"operation  {described(e.facts)}"
    lines = list(_command_lines(e.facts.commands, ""))
    yield from lines[:MAX_SHOWN_COMMANDS]
    if len(lines) > MAX_SHOWN_COMMANDS:
        yield f"           and {len(lines) - MAX_SHOWN_COMMANDS} more"
    for why in e.facts.unresolved:
        yield f"  unsure   {shown(why)}"
    yield f"  decision {e.decision.effect.value}"
    yield from reason_lines(e.decision.reasons)
    yield from condition_lines(e.conditions)
    yield ""
    yield f"=> {e.effect.value}"


def _command_lines(commands: Iterable[SimpleCommand], indent: str) -> Iterator[str]:
    """A line for each command, and below it what it runs itself."""
    pending = [(command, indent) for command in reversed(tuple(commands))]
    while pending:
        command, indent = pending.pop()
        more = [f"{shown(name)}=" for name in command.assignments]
        more.extend(redirect_text(redirect) for redirect in command.redirects)
        more.extend(["reads its commands from its input"] if command.reads_code else ())
        around = f"  ({', '.join(more)})" if more and command.words else ""
        yield f"  runs     {indent}{command_text(command)}{around}"
        pending.extend((inner, indent + "  ") for inner in reversed(command.inner))
