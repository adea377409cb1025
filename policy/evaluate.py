"""Document and facts to a decision. Pure: the same facts and the same document give the same answer, always.

Deny beats hold beats allow; silence is deny. Called by the door (admission), by the gate (each statement
that is not cached), by `proxyd explain` and by whoever judges a tape again.

How a statement is judged:

1. Deny rules and hold rules that touch it are found: every list in the rule must mean something that the
statement
   does, and commands, relations, columns and `where` must mean the same relation access. Accesses through
   views count. What is not known (schema, columns) counts as meant.
2. Masks: see `policy.concealment`.
3. What could not be seen (`facts.unresolved`): see `_unseen`.
4. What is left must be covered by allow rules, see `policy.coverage`.

The condition of a rule (`when`) is asked where the rest of it holds, see `policy.conditions.answers`.

The session's access entry is looked at again with every statement, so that a reload that takes it away takes
effect in open sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from policy.concealment import Concealment
from policy.conditions.answers import Answers
from policy.conditions.bundles import Bundle
from policy.conditions.known import sql_variables
from policy.coverage import Coverage
from policy.decision import Admission, Decision, Effect, Reason, SessionLimits
from policy.document import PolicyDocument
from policy.facts import HIDDEN, SqlFacts, Subject, Target
from policy.http_rules.rule import HttpRule
from policy.rules import AccessEntry, SqlRule
from policy.ssh_rules.rule import SshRule
from policy.view import MaskSet, View, roles_of, view_of

__all__ = ["MaskSet", "admit", "identity_for", "judge_sql", "masks_for", "refuse_admission", "roles_of"]

Number = TypeVar("Number", int, float)

MAX_REASONS = 20

_WHERE_THE_NAMES_STAND = {
    "postgres": "the database name (TARGET or TARGET/DATABASE) and the user name (the login)",
    "ssh": "the user name (LOGIN+TARGET)",
    "http": "the host name or the path (/t/TARGET/, /t/LOGIN+TARGET/) and the header Proxyd-Login",
}
_EXPIRED = Reason("", "your credential has expired", "Sign in again, or renew the certificate.")


def masks_for(document: PolicyDocument, subject: Subject, target: Target) -> MaskSet:
    """The masks that apply to the subject at the target."""
    return view_of(document, subject, target).masks


def identity_for(document: PolicyDocument, subject: Subject, target: Target) -> bytes:
    """What of the subject, besides its roles, decisions about SQL at the target depend on: all of it, or b"".

    What was decided for one subject holds for another with the same roles and the same of this.
    """
    if not view_of(document, subject, target).asks_for_subject:
        return b""
    known = (subject.name, subject.groups, subject.claims, subject.method)
    return msgspec.json.encode(known, order="deterministic")


# --- admission ----------------------------------------------------------------------------------------------


def refuse_admission(document: PolicyDocument, protocol: str = "postgres") -> Admission:
    """The answer for a target or login that does not exist: the same as for one that is not the caller's."""
    return Admission(Effect.DENY, (no_admission(protocol),), policy_version=document.version)


def no_admission(protocol: str) -> Reason:
    """Why somebody is not let in, in the words of the door that they stand at."""
    names = _WHERE_THE_NAMES_STAND.get(protocol, "the names of target and login")
    return Reason(
        "",
        "no access entry lets you use this target with this login",
        f"Check {names}, or ask the owners of the policy for access.",
    )


def admit(document: PolicyDocument, subject: Subject, target: Target, login: str, now: float) -> Admission:
    """May the subject open a session to the target as `login` at `now` (Unix seconds)?

    Where several access entries match, the session has the tightest of each of their limits. Entries with a
    grant admit nobody until there are grants. A refusal does not tell whether target, login or role was
    wrong.
    """
    if subject.expires_at is not None and now >= subject.expires_at:
        return Admission(Effect.DENY, (_EXPIRED,), policy_version=document.version)
    matching = _entries(view_of(document, subject, target), login)
    standing = [entry for entry in matching if entry.grant is None]
    if standing:
        reasons = tuple(Reason(entry.name, f"access entry {entry.name} admits you") for entry in standing)
        return Admission(Effect.ALLOW, reasons, _tightest(standing), document.version)
    if matching:
        reasons = tuple(_needs_grant(entry) for entry in matching)
        return Admission(Effect.DENY, reasons, policy_version=document.version)
    return refuse_admission(document, target.protocol)


def _entries(view: View, login: str) -> Sequence[AccessEntry]:
    return view.entries_for(login)


def has_standing_access(view: View, login: str) -> bool:
    """Is there an entry that admits the view's roles as `login`, without a grant?"""
    logins = view.standing_logins
    return logins is None or login in logins


def _needs_grant(entry: AccessEntry) -> Reason:
    approvers = ", ".join(entry.grant.approvers) if entry.grant is not None else ""
    return Reason(
        entry.name,
        f"access by {entry.name} needs a grant, which needs an approval",
        f"Ask {approvers}. This version cannot give grants yet.",
    )


def _tightest(entries: Sequence[AccessEntry]) -> SessionLimits:
    limits = [entry.limits for entry in entries]
    return SessionLimits(
        max_age_s=_least(limit.max_age_s for limit in limits),
        idle_s=_least(limit.idle_s for limit in limits),
        statements=_least(limit.statements for limit in limits),
        rows=_least(limit.rows for limit in limits),
    )


def _least(values: Iterable[Number | None]) -> Number | None:
    return min((value for value in values if value is not None), default=None)


# --- statements ---------------------------------------------------------------------------------------------


def judge_sql(
    document: PolicyDocument, subject: Subject, target: Target, login: str, facts: SqlFacts
) -> Decision:
    """May this statement run, and which output columns must be rewritten?

    ALLOW carries the rules that cover it and its mask obligations; HOLD the rules that hold it and the
    obligations for when it is approved; DENY every reason there is (at most MAX_REASONS are told).
    """
    view = view_of(document, subject, target)
    version = document.version
    if not has_standing_access(view, login):
        return Decision(Effect.DENY, (no_admission(target.protocol),), policy_version=version)
    commands = tuple(dict.fromkeys((facts.command, *facts.commands)))
    concealment = Concealment(view.masks, facts, commands)
    answers = Answers(lambda: sql_variables(facts, subject, target, login))
    holds = answers.touching(_touching(view, Effect.HOLD, facts, commands))
    coverage = Coverage(view, facts, commands, holds, answers)
    denies = answers.touching(_touching(view, Effect.DENY, facts, commands))
    left = max(0, len(denies) - MAX_REASONS)
    withheld, more = answers.withheld(MAX_REASONS) if coverage.gaps else ([], 0)
    refusals = [
        *(_denied_by(rule, facts, commands, answers.doubt(rule)) for rule in denies[:MAX_REASONS]),
        *_unseen(view, facts),  # before its consequences for masks and cover
        *concealment.refusals,
        *coverage.gaps,
        *withheld,
    ]
    if refusals:
        return Decision(Effect.DENY, bounded(refusals, more + left), policy_version=version)
    masks = tuple(concealment.obligations)
    if holds:
        reasons = [held_by(rule, answers.doubt(rule)) for rule in holds]
        return Decision(Effect.HOLD, bounded(reasons), masks, version)
    allowed = [Reason(name, "allowed") for name in coverage.used]
    return Decision(Effect.ALLOW, bounded(allowed), masks, version)


def bounded(reasons: Sequence[Reason], more: int = 0) -> tuple[Reason, ...]:
    """Each reason once, and at most MAX_REASONS of them. more: how many there are besides, once there are that many."""
    distinct = tuple(dict.fromkeys(reasons))
    left = len(distinct) + more - MAX_REASONS
    return distinct if left <= 0 else (*distinct[:MAX_REASONS], Reason("", f"and {left} more reasons"))


def _touching(
    view: View, effect: Effect, facts: SqlFacts, commands: Sequence[str]
) -> Iterator[Bundle[SqlRule]]:
    near = view.rules[effect].concerning(facts, commands)
    return (bundle for bundle in near if _touches(bundle.first, facts, commands))


def _touches(rule: SqlRule, facts: SqlFacts, commands: Sequence[str]) -> bool:
    """Does every list of the rule mean something that the statement does?"""
    if rule.is_about_relations:
        if not any(rule.touches(access, facts) for access in facts.accesses):
            return False
    elif rule.touched is not None:
        done = {*commands, *(access.command for access in facts.accesses)}
        if rule.touched.isdisjoint(done):
            return False
    if rule.functions is not None and not any(
        rule.names_function(name, certain=False) for name in _functions(facts)
    ):
        return False
    return rule.settings is None or any(rule.names_setting(name) for name in facts.settings)


def _functions(facts: SqlFacts) -> tuple[str, ...]:
    return (*facts.functions, *facts.hidden_functions)


def _denied_by(rule: SqlRule, facts: SqlFacts, commands: Sequence[str], doubt: str) -> Reason:
    what = _what_touched(rule, facts, commands)
    if rule.where_absent:
        message = rule.message or f"{what} without WHERE is denied"
        return Reason(rule.name, f"{message}{doubt}", "Add a WHERE that says which rows.")
    return Reason(
        rule.name,
        f"{rule.message or f'{what} is denied'}{doubt}",
        f"Leave it out of the statement, or ask the owners of the policy about rule {rule.name}.",
    )


def _what_touched(rule: SqlRule, facts: SqlFacts, commands: Sequence[str]) -> str:
    for access in facts.accesses:
        if rule.is_about_relations and rule.touches(access, facts):
            relation = f"{access.schema}.{access.name}" if access.schema else access.name
            through = f" (through {access.via})" if access.via else ""
            return f"`{access.command}` on {relation}{through}"
    for name in _functions(facts):
        if rule.functions is not None and rule.names_function(name, certain=False):
            return f"function {name}"
    for name in facts.settings:
        if rule.settings is not None and rule.names_setting(name):
            return f"a change of setting {name}"
    done = (*commands, *(access.command for access in facts.accesses))
    return f"`{next((command for command in done if rule.touches_command(command)), facts.command)}`"


def held_by(rule: SqlRule | SshRule | HttpRule, doubt: str = "") -> Reason:
    """What a hold rule says of what it holds. doubt: see `Answers.doubt`."""
    people = ", ".join(rule.approvers)
    needed = "an approval" if rule.approvals == 1 else f"{rule.approvals} approvals"
    message = f"rule {rule.name} holds this until {needed} by {people}"
    message = f"{rule.message} ({message})" if rule.message else message
    return Reason(rule.name, f"{message}{doubt}", f"Ask {people} to approve it.")


def _unseen(view: View, facts: SqlFacts) -> Iterator[Reason]:
    """Reasons from what the analysis could not see.

    Those that begin with "refused:" always deny, those with HIDDEN wherever masks apply. The others deny where
    they could hide something: when masks apply and a relation of the statement may carry one, or its relations
    are not all known; when a deny or hold rule for this subject and target lists columns; when no relation at
    all is known and such a rule goes beyond commands.
    """
    unknown = not facts.accesses or any(not access.schema for access in facts.accesses)
    masked = not view.masks.is_empty and (
        unknown or any(view.masks.touches(access.schema, access.name) for access in facts.accesses)
    )
    matters = masked or view.refuses_columns or (unknown and view.refuses_beyond_commands)
    for text in facts.unresolved:
        if text.startswith("refused:"):
            yield Reason(
                "",
                text.removeprefix("refused:").strip(),
                "Write the statement without it, or in a simpler form.",
            )
        elif matters or (text.startswith(HIDDEN) and not view.masks.is_empty):
            yield Reason(
                "",
                f"it cannot be seen what the statement does: {text.removeprefix(HIDDEN)}",
                "Name relations with their schema and columns by name, or split the statement.",
            )
