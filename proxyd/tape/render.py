"""A tape as text for a person, or as JSON for a program.

What the raw bytes mean is the business of a view, chosen by the protocol that the header names;
everything else (decisions, events, the end, frames that nobody knows) looks the same for every protocol.
Pure: gives lines, prints nothing. Everything recorded has passed `screen.plain`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final, Protocol, assert_never

import msgspec

from policy.decision import Decision, Effect
from policy.facts import SqlFacts
from proxyd.tape.entries import (
    Echoed,
    End,
    Entry,
    Event,
    FileMoved,
    FrameKind,
    Input,
    Judgement,
    Output,
    Reply,
    ReplyDigest,
    Request,
    Resized,
    StreamDigest,
    TapeHeader,
    Terminal,
    Typed,
    Unknown,
    Withheld,
)
from proxyd.tape.format import Tampered, Torn, Verdict, Whole
from proxyd.tape.postgres import PostgresView
from proxyd.tape.screen import plain, shortened

DEFAULT_MAX_ROWS: Final = 100
MAX_REMEMBERED_JUDGEMENTS: Final = 20_000
MAX_DATA_CHARACTERS: Final = 2000
MAX_RAW_BYTES: Final = 64
_MICROSECONDS: Final = 1_000_000
_DECIDED: Final = {Effect.ALLOW: "allowed", Effect.DENY: "denied", Effect.HOLD: "held"}


class View(Protocol):
    """How one protocol's raw bytes look. Keeps whatever it needs to follow the conversation."""

    def request(self, entry: Request) -> Iterator[str]: ...

    def reply(self, entry: Reply) -> Iterator[str]: ...

    def digest(self, entry: ReplyDigest) -> Iterator[str]: ...

    def finish(self) -> Iterator[str]: ...


class RawView:
    """For a protocol that this software cannot read: sizes and the first bytes."""

    def request(self, entry: Request) -> Iterator[str]:
        yield f"> {_raw_line(entry.raw)}"

    def reply(self, entry: Reply) -> Iterator[str]:
        yield f"< {_raw_line(entry.raw)}"

    def digest(self, entry: ReplyDigest) -> Iterator[str]:
        yield f"< {entry.omitted} more bytes, sha256 {entry.sha256.hex()}"

    def finish(self) -> Iterator[str]:
        yield from ()


class Renderer:
    """Turns one tape's entries into lines, in order. `detailed` adds times, facts and policy versions.

    `max_rows` of each result are shown, the others counted.
    """

    def __init__(
        self, header: TapeHeader, *, max_rows: int = DEFAULT_MAX_ROWS, detailed: bool = False
    ) -> None:
        self._header = header
        self._detailed = detailed
        self._judged: dict[int, list[str]] = {}
        self._operation: int | None = None
        self._view: View
        match header.protocol:
            case "postgres":
                self._view = PostgresView(header.target, max_rows=max_rows)
            case _:
                self._view = RawView()

    def lines(self, entry: Entry) -> Iterator[str]:
        """What one entry adds. A judgement adds nothing by itself: it is shown with its requests."""
        match entry:
            case Judgement():
                self._remember(entry)
            case Request():
                yield from self._request(entry)
            case Reply():
                yield from self._view.reply(entry)
            case ReplyDigest():
                yield from self._view.digest(entry)
            case Event():
                yield from self._event(entry)
            case End():
                yield from self._view.finish()
                yield f"-- session ended: {plain(entry.reason)}"
            case Unknown():
                yield from self._unknown(entry)
            case (
                Input()
                | Typed()
                | Echoed()
                | Withheld()
                | Output()
                | StreamDigest()
                | Terminal()
                | Resized()
                | FileMoved()
            ):
                yield f"-- {entry}"
            case _:
                assert_never(entry)

    def finish(self) -> Iterator[str]:
        """What is left when the tape ends without its end frame."""
        yield from self._view.finish()

    def _request(self, entry: Request) -> Iterator[str]:
        if entry.operation != self._operation:
            self._operation = entry.operation
            if self._detailed:
                at = _clock_time(self._header.started_at + entry.at_us / _MICROSECONDS)
                yield ""
                yield f"-- {at} operation {entry.operation}"
        yield from self._view.request(entry)
        seen: set[str] = set()
        for identifier in entry.judgements:
            for line in self._judged.get(identifier, [f"-- judgement {identifier} is not at hand"]):
                if line not in seen:
                    seen.add(line)
                    yield line

    def _remember(self, entry: Judgement) -> None:
        lines = []
        for index, decision in enumerate(entry.decisions):
            lines += decision_lines(decision)
            if self._detailed:
                lines += _detail_lines(entry, index)
        self._judged[entry.id] = lines
        if len(self._judged) > MAX_REMEMBERED_JUDGEMENTS:
            del self._judged[next(iter(self._judged))]

    def _event(self, entry: Event) -> Iterator[str]:
        data = ", ".join(f"{plain(str(key))}: {_data_text(value)}" for key, value in entry.data.items())
        yield f"-- event {plain(entry.name)}{': ' if data else ''}{shortened(data, MAX_DATA_CHARACTERS)}"

    def _unknown(self, entry: Unknown) -> Iterator[str]:
        fields = ", ".join(_data_text(field) for field in entry.fields)
        yield f"-- frame of kind {_kind_name(entry.kind)}: {shortened(fields, MAX_DATA_CHARACTERS)}"


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


def stamp(unix_s: float) -> str:
    """UTC to the second; a time that no calendar has is shown as the number."""
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s"


def _clock_time(unix_s: float) -> str:
    try:
        at = datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{unix_s} s"
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"


def entry_json(entry: Entry) -> str:
    """One line of JSON; bytes in base64. ASCII only, so it drives no terminal either."""
    name = entry.__class__.__name__
    kind = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
    fields = {key: getattr(entry, key) for key in entry.__struct_fields__}
    if isinstance(entry, Unknown):
        fields["kind_number"] = fields.pop("kind")
    return to_json({"kind": kind, **fields})


def header_json(header: TapeHeader) -> str:
    return to_json({"kind": "header", "at_us": 0, **msgspec.to_builtins(header)})


def verdict_json(verdict: Verdict, *, is_live: bool) -> str:
    state = type(verdict).__name__.lower()
    fields = {key: getattr(verdict, key) for key in verdict.__struct_fields__}
    return to_json(
        {"kind": "verdict", "verdict": state, "live": is_live, **fields, "chain": verdict.chain.hex()}
    )


def to_json(value: object) -> str:
    return json.dumps(_jsonable(value), ensure_ascii=True, default=_json_default)


def _jsonable(value: object) -> object:
    """Maps of a tape may have keys that JSON has not."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_jsonable(one) for one in value]
    return value


def _json_default(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return str(value) if isinstance(value, PurePath) else repr(value)


def _detail_lines(entry: Judgement, index: int) -> list[str]:
    lines = []
    if index < len(entry.facts):
        facts = entry.facts[index]
        if isinstance(facts, SqlFacts):
            lines.append(f"--   {_facts_text(facts)}")
        lines += [f"--   not seen through: {plain(reason)}" for reason in facts.unresolved]
    lines.append(f"--   policy {plain(entry.policy_version)}")
    return lines


def _facts_text(facts: SqlFacts) -> str:
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
    return shortened(plain("; ".join(parts)), MAX_DATA_CHARACTERS)


def _data_text(value: object) -> str:
    if isinstance(value, str):
        return plain(shortened(value, MAX_DATA_CHARACTERS))
    if isinstance(value, bytes):
        return _raw_line(value)
    return plain(shortened(to_json(value), MAX_DATA_CHARACTERS))


def _raw_line(raw: bytes) -> str:
    more = "..." if len(raw) > MAX_RAW_BYTES else ""
    return f"{len(raw)} bytes: {plain(repr(raw[:MAX_RAW_BYTES])[2:-1])}{more}"


def _kind_name(kind: int) -> str:
    """The number, and the name if only the fields of the frame are strange."""
    try:
        return f"{kind} ({FrameKind(kind).name.lower()}, of another shape)"
    except ValueError:
        return str(kind)
