"""What would be decided about a statement, and why, as plain data and as text for people.

Owns the questions that `proxyd explain` answers: who the subject is to the policy, whether it is let in, what
each statement does, which rules and masks follow. Judges by the same functions as a session. Pure: the caller
brings the policy, the catalog and the clock. `proxyd.ssh_explanation` does the same for SSH operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from policy.decision import Admission, Decision, Effect, Reason
from policy.document import PolicyDocument
from policy.evaluate import admit, judge_sql, masks_for, roles_of
from policy.facts import RelationAccess, SqlFacts, Subject, Target
from policy.http_rules.rule import HttpRule
from policy.rules import SqlRule
from policy.sql.analyze import Statement, analyze
from policy.sql.catalog import Catalog
from policy.sql.refusal import SqlRefused
from policy.sql.state import SessionState
from policy.ssh_rules.rule import SshRule
from policy.view import view_of


class Question(msgspec.Struct, frozen=True):
    """Who asks what of which target. `now` in Unix seconds."""

    subject: Subject
    target: Target
    login: str
    database: str
    text: str
    now: float


class Sight(msgspec.Struct, frozen=True):
    """What the judgement could see. unknown: what it had to do without, in words, () for a full view."""

    catalog: Catalog
    state: SessionState
    unknown: tuple[str, ...] = ()


class ExplainedStatement(msgspec.Struct, frozen=True):
    """One statement. by_rules: what the rules say of what can be seen, columns and masks aside; given when the
    real decision needs what is not known. conditions: of the rules that the reasons name.
    """

    text: str
    facts: SqlFacts
    decision: Decision
    by_rules: Decision | None = None
    conditions: tuple[str, ...] = ()


class Refusal(msgspec.Struct, frozen=True):
    """The text as a whole is not passed on: it does not parse, or holds what proxyd does not know."""

    message: str
    sqlstate: str
    detail: str = ""
    hint: str = ""
    position: int | None = None


class Explanation(msgspec.Struct, frozen=True):
    """The whole answer. `effect` is what the client would meet: the strictest of all parts."""

    effect: Effect
    subject: Subject
    roles: tuple[str, ...]
    target: Target
    database: str
    login: str
    policy_version: str
    admission: Admission
    masks: tuple[str, ...]
    search_path: tuple[str, ...] | None
    catalog_version: str
    unknown: tuple[str, ...]
    statements: tuple[ExplainedStatement, ...] = ()
    refusal: Refusal | None = None


def explain(document: PolicyDocument, question: Question, sight: Sight) -> Explanation:
    """Answer `question` under `document`, as far as `sight` reaches."""
    subject, target = question.subject, question.target
    admission = admit(document, subject, target, question.login, question.now)
    statements: tuple[ExplainedStatement, ...] = ()
    refusal = None
    try:
        found = analyze(question.text, sight.catalog, sight.state)
        statements = tuple(_explained(document, question, sight, statement) for statement in found)
    except SqlRefused as error:
        refusal = Refusal(error.message, error.sqlstate, error.detail, error.hint, error.position)
    effects = [admission.effect, *(statement.decision.effect for statement in statements)]
    if refusal is not None:
        effects.append(Effect.DENY)
    return Explanation(
        effect=strictest(effects),
        subject=subject,
        roles=tuple(sorted(roles_of(document, subject))),
        target=target,
        database=question.database,
        login=question.login,
        policy_version=document.version,
        admission=admission,
        masks=(*_mask_names(document, subject, target), *detector_words(document, subject, target)),
        search_path=sight.state.search_path,
        catalog_version="" if sight.unknown else sight.catalog.version,
        unknown=sight.unknown,
        statements=statements,
        refusal=refusal,
    )


def _explained(
    document: PolicyDocument, question: Question, sight: Sight, statement: Statement
) -> ExplainedStatement:
    facts = statement.facts
    decision = judge_sql(document, question.subject, question.target, question.login, facts)
    by_rules = None
    if sight.unknown and facts.unresolved:
        by_rules = judge_sql(document, question.subject, question.target, question.login, _seen(facts))
    conditions = condition_words(document.rules, decision.reasons)
    return ExplainedStatement(statement.text, facts, decision, by_rules, conditions)


def condition_words(
    rules: Iterable[SqlRule | SshRule | HttpRule], reasons: Iterable[Reason]
) -> tuple[str, ...]:
    """The condition of each of `rules` that a reason names and that has one, as "NAME: TEXT"."""
    named = {reason.rule for reason in reasons if reason.rule}
    return tuple(
        f"{rule.name}: {' '.join(rule.condition.text.split())}"
        for rule in rules
        if rule.name in named and rule.condition is not None
    )


def _seen(facts: SqlFacts) -> SqlFacts:
    """The commands, relations, functions and settings alone."""
    accesses = tuple(msgspec.structs.replace(access, columns=()) for access in facts.accesses)
    return msgspec.structs.replace(facts, accesses=accesses, uses=(), outputs=None, unresolved=())


def _mask_names(document: PolicyDocument, subject: Subject, target: Target) -> tuple[str, ...]:
    """The masks that apply to the subject here, whatever the statement."""
    if masks_for(document, subject, target).is_empty:
        return ()
    roles = roles_of(document, subject)
    return tuple(dict.fromkeys(entry.mask.name for entry in document.masks if entry.applies(roles, target)))


def detector_words(document: PolicyDocument, subject: Subject, target: Target) -> tuple[str, ...]:
    """The masks by detectors that apply to what the subject is shown here, and what they look for."""
    entries = view_of(document, subject, target).detect_masks
    return tuple(
        f"{entry.name} (looks for {', '.join(entry.kinds)})" for entry in entries if "response" in entry.on
    )


def strictest(effects: list[Effect]) -> Effect:
    for effect in (Effect.DENY, Effect.HOLD):
        if effect in effects:
            return effect
    return Effect.ALLOW


# For people


def render(explanation: Explanation) -> str:
    """The explanation as lines of text, without a newline at the end."""
    return "\n".join(_lines(explanation))


def _lines(e: Explanation) -> Iterator[str]:
    yield subject_line(e.subject, e.roles)
    yield f"target     {e.target.name}/{e.database} as {e.login}"
    yield f"policy     version {e.policy_version}"
    yield f"admission  {e.admission.effect.value}{limit_words(e.admission)}"
    yield from reason_lines(e.admission.reasons)
    yield f"masks      {', '.join(e.masks) or 'none apply to this subject here'}"
    path = "unknown" if e.search_path is None else ", ".join(e.search_path) or "empty"
    yield f"names      by the search path {path}"
    for what in e.unknown:
        yield f"unknown    {what}"
    if e.refusal is not None:
        yield from _refusal(e.refusal)
    for number, statement in enumerate(e.statements, start=1):
        yield ""
        yield from _statement(number, statement)
    yield ""
    is_open = any(statement.by_rules is not None for statement in e.statements)
    yield "=> not known without the catalog" if is_open else f"=> {e.effect.value}"


def subject_line(subject: Subject, roles: tuple[str, ...]) -> str:
    groups = ", ".join(subject.groups) or "none"
    return f"subject    {subject.name}  (groups: {groups}; roles: {', '.join(roles) or 'none'})"


def _refusal(refusal: Refusal) -> Iterator[str]:
    where = f" at character {refusal.position}" if refusal.position is not None else ""
    yield ""
    yield f"refused    {refusal.sqlstate}: {refusal.message}{where}"
    for words in (refusal.detail, refusal.hint):
        if words:
            yield f"           {words}"


def _statement(number: int, statement: ExplainedStatement) -> Iterator[str]:
    facts, decision = statement.facts, statement.decision
    yield f"statement {number}: {' '.join(statement.text.split())}"
    yield f"  does     {', '.join(dict.fromkeys((facts.command, *facts.commands)))}"
    for access in facts.accesses:
        yield f"  touches  {_access(access)}"
    for what, values in (("calls", facts.functions), ("sets", facts.settings)):
        if values:
            yield f"  {what:8} {', '.join(values)}"
    if statement.by_rules is not None:
        yield "  decision not known without the catalog (a session would be refused)"
        yield f"  by rules {statement.by_rules.effect.value}, columns, views and masks aside"
        yield from reason_lines(statement.by_rules.reasons)
        return
    for reason in facts.unresolved:
        yield f"  unsure   {reason}"
    yield f"  decision {decision.effect.value}"
    yield from reason_lines(decision.reasons)
    yield from condition_lines(statement.conditions)
    for mask in decision.masks:
        yield f"           column {mask.position + 1} ({mask.column}) is rewritten by the mask {mask.mask}"


def _access(access: RelationAccess) -> str:
    name = f"{access.schema}.{access.name}" if access.schema else f"{access.name} (schema unknown)"
    columns = "columns unknown" if access.columns is None else ", ".join(access.columns)
    text = f"{access.command} {name}"
    if columns:
        text += f" ({columns})"
    if access.via:
        text += f" through {access.via}"
    return text if access.bounded else f"{text}, without WHERE"


def reason_lines(reasons: tuple[Reason, ...]) -> Iterator[str]:
    for reason in reasons:
        rule = f"{reason.rule}: " if reason.rule and reason.rule not in reason.message else ""
        yield f"           {rule}{reason.message}"
        if reason.hint:
            yield f"             {reason.hint}"


def condition_lines(conditions: Iterable[str]) -> Iterator[str]:
    for condition in conditions:
        yield f"  when     {condition}"


def limit_words(admission: Admission) -> str:
    limits = admission.limits
    known = [
        (limits.max_age_s, "at most {:g} s"),
        (limits.idle_s, "idle at most {:g} s"),
        (limits.statements, "{:g} statements"),
        (limits.rows, "{:g} rows"),
    ]
    texts = [text.format(value) for value, text in known if value is not None]
    return f"  ({', '.join(texts)})" if texts else ""
