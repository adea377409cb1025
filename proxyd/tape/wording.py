"""The words in which a tape is shown to a person, whatever its protocol: who, when, decided how, whole or not.

Pure. Everything recorded has passed `screen.plain`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, assert_never

from policy.decision import Decision, Effect
from policy.facts import BodyState, HttpFacts, LlmFacts, SimpleCommand, SqlFacts, SshFacts
from proxyd.tape.entries import Judgement, TapeHeader
from proxyd.tape.format import Tampered, Torn, Verdict, Whole
from proxyd.tape.json_lines import to_json
from proxyd.tape.screen import plain, shortened

MAX_DATA_CHARACTERS: Final = 2000
MAX_RAW_BYTES: Final = 64
_DECIDED: Final = {Effect.ALLOW: "allowed", Effect.DENY: "denied", Effect.HOLD: "held"}


def header_lines(header: TapeHeader) -> list[str]:
    """Who, what and when, for the top of a tape."""
    subject = header.subject
    groups = f" ({', '.join(plain(group) for group in subject.groups)})" if subject.groups else ""
    database = f"/{plain(header.database)}" if header.database else ""
    return [
        f"-- session {plain(header.session)}, {stamp(header.started_at)}",
        f"-- {plain(subject.name)}{groups} by {plain(subject.method)} from {plain(header.client)}",
        f"-- {plain(header.protocol)} to {plain(header.target)}{database} as {plain(header.login)}",
        f"-- policy {plain(header.policy_version)}, proxyd {plain(header.software_version)}",
    ]


def verdict_line(verdict: Verdict, *, is_live: bool) -> str:
    """How a tape stands, in one line."""
    match verdict:
        case Whole():
            return f"whole: {verdict.frames} frames, chain {verdict.chain.hex()}"
        case Torn():
            good = f"{verdict.frames} frames before it are good, chain {verdict.chain.hex() or 'none'}"
            if is_live:
                return f"still being written: ends at byte {verdict.offset} so far; {good}"
            return f"torn at byte {verdict.offset}: {verdict.reason}; {good}"
        case Tampered():
            good = f"{verdict.frames} frames before it are good, chain {verdict.chain.hex() or 'none'}"
            return f"TAMPERED WITH at byte {verdict.offset}: {verdict.reason}; {good}"
        case _:
            assert_never(verdict)


def decision_lines(decision: Decision) -> list[str]:
    """A decision with its rules, messages and masks."""
    decided = _DECIDED[decision.effect]
    lines = []
    for reason in decision.reasons:
        rule = f" by {plain(reason.rule)}" if reason.rule else ""
        message = f": {plain(reason.message)}" if reason.message else ""
        hint = f" ({plain(reason.hint)})" if reason.hint else ""
        lines.append(f"-- {decided}{rule}{message}{hint}")
    if not lines:
        lines.append(f"-- {decided}")
    lines += [f"-- masked: {plain(str(mask.column))} by {plain(mask.mask)}" for mask in decision.masks]
    return lines


def decided_text(decision: Decision) -> str:
    """The same in one line."""
    return "; ".join(line.removeprefix("-- ") for line in decision_lines(decision))


def stamp(unix_s: float) -> str:
    """UTC to the second; a time that no calendar has is shown as the number."""
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s"


def clock_time(unix_s: float) -> str:
    """The time of day in UTC, to the millisecond."""
    try:
        at = datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s"
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def detail_lines(entry: Judgement, index: int) -> list[str]:
    """The facts behind `entry.decisions[index]`."""
    lines = []
    if index < len(entry.facts):
        facts = entry.facts[index]
        lines += [f"--   {text}" for text in [_facts_text(facts)] if text]
        lines += [f"--   not seen through: {plain(reason)}" for reason in _unresolved(facts)]
    lines.append(f"--   policy {plain(entry.policy_version)}")
    return lines


def _facts_text(facts: SqlFacts | SshFacts | HttpFacts) -> str:
    match facts:
        case SqlFacts():
            parts = _sql_parts(facts)
        case SshFacts():
            parts = _ssh_parts(facts)
        case HttpFacts():
            parts = _http_parts(facts)
    return shortened(plain("; ".join(parts)), MAX_DATA_CHARACTERS)


def _unresolved(facts: SqlFacts | SshFacts | HttpFacts) -> tuple[str, ...]:
    if not isinstance(facts, HttpFacts):
        return facts.unresolved
    return facts.llm.unresolved if facts.llm is not None else ()


def _sql_parts(facts: SqlFacts) -> list[str]:
    relations = sorted(
        {f"{access.command} {access.schema}.{access.name}".strip() for access in facts.accesses}
    )
    parts = [facts.command]
    for title, names in (
        ("touches", relations),
        ("calls", facts.functions),
        ("sets", facts.settings),
    ):
        if names:
            parts.append(f"{title} {', '.join(names)}")
    return parts


def _ssh_parts(facts: SshFacts) -> list[str]:
    commands: list[str] = []
    files: list[str] = []
    waiting = list(reversed(facts.commands))
    while waiting and len(commands) < MAX_DATA_CHARACTERS:
        command: SimpleCommand = waiting.pop()
        waiting += reversed(command.inner)
        if command.words:
            commands.append(command.words[0].text)
        files += [f"{redirect.operator} {redirect.word.text}" for redirect in command.redirects]
    parts = [f"runs {', '.join(commands)}"] if commands else []
    return [*parts, f"redirects {', '.join(files)}"] if files else parts


def _http_parts(facts: HttpFacts) -> list[str]:
    parts = [f"{facts.method} {facts.path} of {facts.host}"]
    parts += [f"could be read as {path}" for path in facts.other_paths]
    if facts.body_state is not BodyState.NONE:
        size = f"{facts.body_bytes} bytes" if facts.body_bytes is not None else "of unknown length"
        parts.append(f"body {size}, {facts.body_state.value.replace('_', ' ')}")
    if facts.upgrade:
        parts.append(f"changes to {facts.upgrade}")
    return parts if facts.llm is None else [*parts, *_llm_parts(facts.llm)]


def _llm_parts(facts: LlmFacts) -> list[str]:
    parts = [f"{facts.api} {facts.operation}{f' of {facts.model}' if facts.model else ''}"]
    parts.append(f"about {facts.input_tokens} tokens in")
    parts.append(f"at most {facts.max_tokens} out" if facts.max_tokens is not None else "no limit out")
    if facts.estimated_cost_usd is not None:
        parts.append(f"at most {facts.estimated_cost_usd:.6f} USD")
    return [*parts, f"offers tools {', '.join(facts.tools)}"] if facts.tools else parts


def data_text(value: object) -> str:
    """One value of an event or of a frame that nobody knows."""
    if isinstance(value, str):
        return plain(shortened(value, MAX_DATA_CHARACTERS))
    if isinstance(value, bytes):
        return raw_line(value)
    return plain(shortened(to_json(value), MAX_DATA_CHARACTERS))


def raw_line(raw: bytes, size: int | None = None) -> str:
    """How many bytes, and the first of them. `size`: where `raw` is only the beginning."""
    size = len(raw) if size is None else size
    more = "..." if size > MAX_RAW_BYTES else ""
    return f"{size} bytes: {plain(repr(raw[:MAX_RAW_BYTES])[2:-1])}{more}"
