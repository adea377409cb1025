"""Document and facts of an SSH operation to a decision. Pure: the same facts and document give the same answer.

Deny beats hold beats allow; silence is deny. Called by the SSH gates (each operation), by `proxyd explain` and by
whoever judges a tape again.

How an operation is judged:

1. Deny rules and hold rules that touch it are found. What is not known (a word, a path, an address in an odd form)
   counts as meant. A rule on `shell` touches also an exec that starts a shell.
2. An exec whose commands cannot all be seen is refused where one of these rules depends on commands.
3. What is left must be covered by allow rules (or by hold rules that hold the operation anyway), for certain. An exec
   is covered command by command, see `policy.ssh.coverage`.

The condition of a rule (`when`) is asked where the rest of it holds, see `policy.conditions.answers`.

The session's access entry is looked at again with every operation, so that a reload that takes it away takes effect
in open sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from policy.conditions.answers import Answers
from policy.conditions.known import who_and_where
from policy.decision import Decision, Effect, Reason
from policy.document import PolicyDocument
from policy.evaluate import MAX_REASONS, bounded, has_standing_access, held_by, no_admission, roles_of
from policy.facts import SshFacts, SshOperation, Subject, Target
from policy.shown_text import shown
from policy.ssh.coverage import CommandCoverage
from policy.ssh.sight import Sight, sight_of
from policy.ssh.variables import ssh_variables
from policy.ssh.wording import ASK, command_text, described
from policy.ssh_rules.addresses import endpoint
from policy.ssh_rules.index import Rules, SshRuleIndex
from policy.ssh_rules.rule import SshRule
from policy.view import access_at, view_of

Indices = Mapping[Effect, SshRuleIndex]
Touched = Sequence[tuple[SshRule, str]]

SFTP = "sftp"


def judge_ssh(
    document: PolicyDocument, subject: Subject, target: Target, login: str, facts: SshFacts
) -> Decision:
    """May this operation happen?

    ALLOW carries the rules that cover it; HOLD the rules that hold it; DENY every reason there is (bounded).
    """
    view = view_of(document, subject, target)
    version = document.version
    if not has_standing_access(view, login):
        return Decision(Effect.DENY, (no_admission(target.protocol),), policy_version=version)
    indices = view.ssh_rules
    answers = Answers(lambda: ssh_variables(facts, subject, target, login))
    if facts.operation is SshOperation.EXEC:
        found = _judged_exec(indices, facts, answers)
    else:
        # Of what is done inside an sftp subsystem nothing is known when it is opened.
        opening = Answers(lambda: who_and_where(subject, target, login))
        found = _judged(indices, facts, answers, opening)
    if found.refusals:
        return Decision(Effect.DENY, bounded(found.refusals, found.more), policy_version=version)
    if found.holds:
        reasons = [held_by(rule, answers.doubt(rule)) for rule in found.holds]
        return Decision(Effect.HOLD, bounded(reasons), policy_version=version)
    allowed = [Reason(name, "allowed") for name in found.used]
    return Decision(Effect.ALLOW, bounded(allowed), policy_version=version)


def depends_on_paths(document: PolicyDocument, subject: Subject, target: Target) -> bool:
    """Does any rule for this subject and target tell paths apart?

    Then a path must be resolved at the target before it is judged; else it may be judged as the client wrote it.
    """
    return any(index.depends_on_paths for index in view_of(document, subject, target).ssh_rules.values())


def may_reach(
    document: PolicyDocument, subject: Subject, targets: Iterable[tuple[Target, Sequence[str]]]
) -> list[tuple[Target, tuple[str, ...]]]:
    """The targets that the subject has standing access to, each with the logins that it may use there.

    `targets`: each with its configured logins. Both keep their order; an entry that gives any login gives all of
    these. What expires or needs a grant is not looked at.
    """
    roles = roles_of(document, subject)
    reachable = []
    for target, logins in targets:
        here = [entry for entry in access_at(document, roles, target) if entry.grant is None]
        usable = tuple(login for login in logins if any(entry.has_login(login) for entry in here))
        if usable:
            reachable.append((target, usable))
    return reachable


@dataclass(slots=True)
class _Findings:
    """refusals: why it is denied, and `more` besides. holds: rules that hold it. used: names of those that cover it."""

    refusals: list[Reason]
    holds: Sequence[SshRule]
    used: dict[str, None] = field(default_factory=dict)
    more: int = 0


# --- an exec ------------------------------------------------------------------------------------------------


def _judged_exec(indices: Indices, facts: SshFacts, answers: Answers) -> _Findings:
    sight = sight_of(facts)
    holds = [rule for rule, _ in _touching_exec(indices[Effect.HOLD], sight, facts.command, answers)]
    allows, held = indices[Effect.ALLOW], indices[Effect.HOLD]
    coverage = CommandCoverage(allows, held, holds, facts.commands, sight, answers)
    denied = _touching_exec(indices[Effect.DENY], sight, facts.command, answers)
    withheld, more = answers.withheld(MAX_REASONS) if coverage.gaps else ([], 0)
    refusals = [
        *(
            _denied_by(rule, what, "Leave it out of the command", answers.doubt(rule))
            for rule, what in denied[:MAX_REASONS]
        ),
        *_unseen(indices, sight),
        *coverage.gaps,
        *withheld,
    ]
    return _Findings(refusals, holds, coverage.used, more + max(0, len(denied) - MAX_REASONS))


def _touching_exec(index: SshRuleIndex, sight: Sight, text: str, answers: Answers) -> Touched:
    found = {
        bundle.order: (bundle, f"exec of `{command_text(command)}`")
        for bundle, command in index.touching_commands(sight.commands, sight.redirects)
    }
    for bundle in index.for_every_text:
        found.setdefault(bundle.order, (bundle, f"exec of `{shown(text)}`"))
    if sight.shells:
        what = f"an interactive shell (exec of `{command_text(sight.shells[0])}`)"
        for bundle in index.shell:
            found.setdefault(bundle.order, (bundle, what))
    touched = [(rule, what) for bundle, what in found.values() for rule in answers.touching((bundle,))]
    return sorted(touched, key=lambda pair: pair[0].order)


def _unseen(indices: Indices, sight: Sight) -> Iterator[Reason]:
    """Where deny or hold rules depend on commands, all commands must be seen."""
    refusing = (indices[Effect.DENY], indices[Effect.HOLD])
    texts: list[str] = []
    if any(index.depends_on_words or index.shell for index in refusing):
        texts.extend(sight.unseen)
    if any(index.depends_on_words for index in refusing):
        texts.extend(sight.code)
    for text in texts:
        yield Reason(
            "",
            f"it cannot be seen what the command does: {text}",
            "Write the command in a simpler form, with each command and its words as they are.",
        )


# --- everything else ----------------------------------------------------------------------------------------


def _judged(indices: Indices, facts: SshFacts, answers: Answers, opening: Answers) -> _Findings:
    what = described(facts)
    holds = answers.touching(_touching(indices[Effect.HOLD], facts))
    denied = answers.touching(_touching(indices[Effect.DENY], facts))
    refusals = [_denied_by(rule, what, "", answers.doubt(rule)) for rule in denied[:MAX_REASONS]]
    more = max(0, len(denied) - MAX_REASONS)
    rule = _covering(indices[Effect.ALLOW], facts, answers, opening)
    if rule is None:
        rule = _holding(indices[Effect.HOLD], holds, facts, answers, opening)
    if rule is None:
        refusals.append(Reason("", f"no rule allows {what}", _hint(facts)))
        withheld, left = answers.withheld(MAX_REASONS)
        return _Findings([*refusals, *withheld], holds, more=more + left)
    return _Findings(refusals, holds, {rule.name: None}, more)


def _covering(index: SshRuleIndex, facts: SshFacts, answers: Answers, opening: Answers) -> SshRule | None:
    """The first rule that covers the operation and whose condition lets it."""
    rule = answers.covering(_meant(index, facts))
    if not _opens_sftp(facts):
        return rule
    # Each operation inside it is judged by itself: what a rule about files asks of them cannot be told yet.
    for bundle in index.about_files:
        if rule is not None and bundle.order > rule.order:
            break
        if not bundle.first.means_subsystem(SFTP):
            rule = min((rule, *opening.touching((bundle,))[:1]), key=_order_or_last)
    return rule


def _order_or_last(rule: SshRule | None) -> float:
    return inf if rule is None else rule.order


def _holding(
    index: SshRuleIndex, holds: Sequence[SshRule], facts: SshFacts, answers: Answers, opening: Answers
) -> SshRule | None:
    """The same of rules that hold the operation anyway, and of those that hold what is done in an sftp subsystem."""
    if _opens_sftp(facts):
        return _covering(index, facts, answers, opening)
    meant = (
        {rule.order for bundle in _meant(index, facts) for rule in bundle.not_false(answers)} if holds else ()
    )
    return answers.covering_of([rule for rule in holds if rule.order in meant])


def _opens_sftp(facts: SshFacts) -> bool:
    return facts.operation is SshOperation.SUBSYSTEM and facts.command == SFTP


def _touching(index: SshRuleIndex, facts: SshFacts) -> Rules:
    """Those that the operation touches, their conditions aside. (An exec is taken apart before.)"""
    match facts.operation:
        case SshOperation.FILE:
            return index.touching_file(facts)
        case SshOperation.FORWARD | SshOperation.LISTEN:
            return index.touching_address(facts.operation, endpoint(facts))
    return _by_kind(index, facts)


def _meant(index: SshRuleIndex, facts: SshFacts) -> Rules:
    """Those that cover the operation, their conditions aside."""
    match facts.operation:
        case SshOperation.FILE:
            return index.covering_file(facts)
        case SshOperation.FORWARD | SshOperation.LISTEN:
            return index.covering_address(facts.operation, endpoint(facts))
    return _by_kind(index, facts)


def _by_kind(index: SshRuleIndex, facts: SshFacts) -> Rules:
    match facts.operation:
        case SshOperation.SHELL:
            return index.shell
        case SshOperation.SUBSYSTEM:
            return index.by_subsystem(facts.command)
        case SshOperation.AGENT:
            return index.agent
        case SshOperation.X11:
            return index.x11
    return ()


def _denied_by(rule: SshRule, what: str, advice: str, doubt: str) -> Reason:
    ask = f"ask the owners of the policy about rule {rule.name}."
    hint = f"{advice}, or {ask}" if advice else f"{ask[:1].upper()}{ask[1:]}"
    return Reason(rule.name, f"{rule.message or f'{what} is denied'}{doubt}", hint)


def _hint(facts: SshFacts) -> str:
    ask = f"{ASK[:1].upper()}{ASK[1:]}."
    if facts.operation is SshOperation.SHELL:
        return f"Give a command instead, as in `ssh HOST COMMAND`, or {ASK}."
    return ask
