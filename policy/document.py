"""The policy document: text in, a checked and compiled `PolicyDocument` out, or every fault in it at once.

Owns loading and compiling. What the document may say is in `policy.sections`, what must hold across it in
`policy.document_checks`. A document that could promise more than this version enforces is refused. Called by
the daemon (start, reload, `proxyd check`) and by whoever judges a tape again. Never reads a file or a key by
itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from policy.commands import COMMANDS, MUST_BE_NAMED, commands_matching
from policy.conditions import compile_condition
from policy.decision import Effect, SessionLimits
from policy.document_checks import check_document
from policy.facts import Subject, Target, Use
from policy.http_compiling import http_rule
from policy.http_rules.rule import HttpRule
from policy.json_paths import JsonPath
from policy.llm.budget import Budget, limits_of
from policy.located_yaml import DocumentError, Fault, parse, validate
from policy.masking import Mask, MaskingKeyMissing
from policy.patterns import Glob, column_pattern, function_pattern, relation_pattern
from policy.rules import (
    AccessEntry,
    DetectMaskEntry,
    GrantTerms,
    JsonMaskEntry,
    MaskEntry,
    Membership,
    Selector,
    SqlRule,
)
from policy.sections import (
    Access,
    MaskSection,
    PolicySections,
    PostgresMatcher,
    Rule,
    TargetedBudget,
    Targets,
)
from policy.ssh_rules.addresses import AddressPattern
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import FILE_VERBS, PathPattern
from policy.ssh_rules.rule import SshRule
from policy.ssh_rules.section import SshMatcher

__all__ = ["DocumentError", "Fault", "PolicyDocument", "load_document"]

PatternT = TypeVar("PatternT")
EntryT = TypeVar("EntryT", MaskEntry, JsonMaskEntry, DetectMaskEntry)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyDocument:
    """One version of the policy. Immutable but for `views`, `kept` and `seen`, which `policy.view` can work out again.

    version: the first 16 hexadecimal digits of the text's SHA-256. detectors: the document's own patterns (RE2) by
    name. warnings: what the document says without effect.
    """

    version: str
    source: str
    roles: Mapping[str, Membership]
    access: tuple[AccessEntry, ...]
    rules: tuple[SqlRule, ...]
    masks: tuple[MaskEntry, ...]
    ssh_rules: tuple[SshRule, ...] = ()
    http_rules: tuple[HttpRule, ...] = ()
    json_masks: tuple[JsonMaskEntry, ...] = ()
    detect_masks: tuple[DetectMaskEntry, ...] = ()
    detectors: Mapping[str, str] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    warnings: tuple[Fault, ...] = ()
    views: dict[Hashable, object] = field(default_factory=dict, repr=False)
    kept: dict[str, object] = field(init=False, default_factory=dict, repr=False)
    seen: dict[tuple[int, int], tuple[Subject, Target, object]] = field(
        init=False, default_factory=dict, repr=False
    )

    def with_keys(self, keys: Mapping[str, bytes]) -> PolicyDocument:
        """The document with the keys of its pseudonym masks. Raises MaskingKeyMissing, naming every mask."""
        missing: list[str] = []

        def keyed(entries: Iterable[EntryT]) -> tuple[EntryT, ...]:
            found: list[EntryT] = []
            for entry in entries:
                try:
                    found.append(
                        entry if entry.mask is None else replace(entry, mask=entry.mask.with_key(keys))
                    )
                except MaskingKeyMissing as error:
                    missing.append(str(error))
            return tuple(found)

        masks, json_masks, detect_masks = (
            keyed(self.masks),
            keyed(self.json_masks),
            keyed(self.detect_masks),
        )
        if missing:
            raise MaskingKeyMissing("; ".join(missing))
        return replace(self, masks=masks, json_masks=json_masks, detect_masks=detect_masks, views={})


def load_document(text: str, source: str, keys: Mapping[str, bytes] | None = None) -> PolicyDocument:
    """The document in `text`. `source` is its name in faults; `keys` are the pseudonyms' keys, 16 bytes or
    more each.

    Raises DocumentError with every fault found, and MaskingKeyMissing when `keys` is given and one is not in
    it. Without `keys` the document can be checked and judged by, but a pseudonym refuses to be applied.
    """
    located = parse(text, source)
    sections = validate(PolicySections, located)
    faults, warnings = check_document(sections, located)
    if faults:
        raise DocumentError(faults)
    document = PolicyDocument(
        version=hashlib.sha256(text.encode()).hexdigest()[:16],
        source=source,
        roles={name: _membership(role.groups, role.claims) for name, role in sections.roles.items()},
        access=tuple(_access(entry) for entry in sections.access),
        rules=tuple(
            _rule(order, rule, rule.postgres)
            for order, rule in enumerate(sections.rules)
            if rule.postgres is not None
        ),
        masks=tuple(entry for mask in sections.masks for entry in _mask(mask)),
        ssh_rules=tuple(
            _ssh_rule(order, rule, rule.ssh)
            for order, rule in enumerate(sections.rules)
            if rule.ssh is not None
        ),
        http_rules=tuple(
            http_rule(order, rule, _optional_selector(rule.targets))
            for order, rule in enumerate(sections.rules)
            if rule.is_about_http
        ),
        json_masks=tuple(entry for mask in sections.masks for entry in _json_mask(mask)),
        detect_masks=tuple(entry for mask in sections.masks for entry in _detect_mask(mask)),
        detectors={name: own.pattern for name, own in (sections.detectors or {}).items()},
        budgets=tuple(map(_budget, sections.budgets)),
        warnings=tuple(sorted(warnings)),
    )
    return document if keys is None else document.with_keys(keys)


def _membership(groups: Iterable[str] | None, claims: Mapping[str, tuple[str, ...]] | None) -> Membership:
    return Membership(
        groups=frozenset(groups or ()),
        claims=tuple((key, frozenset(values)) for key, values in (claims or {}).items()),
    )


def _selector(targets: Targets) -> Selector:
    return Selector(
        labels=tuple((key, frozenset(values)) for key, values in (targets.labels or {}).items()),
        protocol=targets.protocol,
        names=tuple(Glob(name) for name in targets.names or ()),
    )


def _optional_selector(targets: Targets | None) -> Selector | None:
    return None if targets is None else _selector(targets)


def _access(entry: Access) -> AccessEntry:
    session, grant = entry.session, entry.grant
    return AccessEntry(
        name=entry.name,
        roles=frozenset(entry.roles),
        targets=_selector(entry.targets),
        logins=None if "*" in entry.logins else frozenset(entry.logins),
        limits=SessionLimits()
        if session is None
        else SessionLimits(session.max, session.idle, session.statements, session.rows),
        grant=None if grant is None else GrantTerms(grant.approvers, grant.approvals, grant.max),
    )


def _rule(order: int, rule: Rule, matcher: PostgresMatcher) -> SqlRule:
    touched, covered = _commands(matcher.commands)
    return SqlRule(
        order=order,
        name=rule.name,
        effect=Effect(rule.effect),
        roles=None if rule.roles is None else frozenset(rule.roles),
        targets=_optional_selector(rule.targets),
        touched=touched,
        covered=covered,
        relations=_each(matcher.relations, relation_pattern),
        columns=_each(matcher.columns, lambda text: column_pattern(text, one_part=True)),
        functions=_each(matcher.functions, function_pattern),
        settings=_each(matcher.settings, Glob),
        where_absent=matcher.where is not None,
        names_commands=matcher.commands is not None,
        message=rule.message or "",
        approvers=rule.approval.approvers if rule.approval is not None else (),
        approvals=rule.approval.approvals if rule.approval is not None else 0,
        condition=None if rule.when is None else compile_condition(rule.when, "postgres"),
        shape="" if rule.when is None else repr(matcher),
    )


def _commands(texts: tuple[str, ...] | None) -> tuple[frozenset[str] | None, frozenset[str]]:
    """What a `commands` list touches (None: every command, also one unknown here) and what it covers."""
    if texts is None:
        return None, COMMANDS - MUST_BE_NAMED
    meant = frozenset().union(*(commands_matching(text) for text in texts))
    covered = meant - (MUST_BE_NAMED - frozenset(texts))
    return (None if "*" in texts else meant), covered


def _ssh_rule(order: int, rule: Rule, matcher: SshMatcher) -> SshRule:
    return SshRule(
        order=order,
        name=rule.name,
        effect=Effect(rule.effect),
        roles=None if rule.roles is None else frozenset(rule.roles),
        targets=_optional_selector(rule.targets),
        shell=matcher.shell is not None,
        commands=_each(matcher.exec, CommandPattern),
        redirects=_each(matcher.redirects, PathPattern),
        subsystems=_each(matcher.subsystems, Glob),
        verbs=_verbs(matcher),
        paths=_each(matcher.paths, PathPattern),
        forward=_each(matcher.forward, AddressPattern),
        listen=_each(matcher.listen, lambda text: AddressPattern(text, to_listen=True)),
        agent=matcher.agent is not None,
        x11=matcher.x11 is not None,
        message=rule.message or "",
        approvers=rule.approval.approvers if rule.approval is not None else (),
        approvals=rule.approval.approvals if rule.approval is not None else 0,
        condition=None if rule.when is None else compile_condition(rule.when, "ssh"),
        shape="" if rule.when is None else repr(matcher),
    )


def _verbs(matcher: SshMatcher) -> frozenset[str]:
    """The file operations that the section is about; `paths` alone means every one."""
    if matcher.files is None:
        return FILE_VERBS if matcher.paths is not None else frozenset()
    return FILE_VERBS if "*" in matcher.files else frozenset(matcher.files)


def _each(texts: tuple[str, ...] | None, parse: Callable[[str], PatternT]) -> tuple[PatternT, ...] | None:
    return None if texts is None else tuple(parse(text) for text in texts)


def _mask(mask: MaskSection) -> Iterable[MaskEntry]:
    method = mask.method_or_token.method()
    if mask.columns is None or method is None:
        return
    yield MaskEntry(
        mask=Mask(mask.name, method, frozenset(Use(use) for use in mask.uses or ())),
        columns=tuple(column_pattern(text) for text in mask.columns),
        unless=_unless(mask),
        targets=_optional_selector(mask.targets),
    )


def _json_mask(mask: MaskSection) -> Iterable[JsonMaskEntry]:
    method = mask.method_or_token.method()
    if mask.json_paths is None or method is None:
        return
    yield JsonMaskEntry(
        mask=Mask(mask.name, method),
        paths=tuple(JsonPath.parse(text) for text in mask.json_paths),
        on=frozenset(mask.on or ("response",)),
        unless=_unless(mask),
        targets=_optional_selector(mask.targets),
    )


def _detect_mask(mask: MaskSection) -> Iterable[DetectMaskEntry]:
    method = mask.method_or_token.method()
    if mask.detect is None:
        return
    yield DetectMaskEntry(
        name=mask.name,
        mask=None if method is None else Mask(mask.name, method),
        kinds=mask.detect,
        on=frozenset(mask.on or ("response",)),
        unless=_unless(mask),
        targets=_optional_selector(mask.targets),
    )


def _budget(budget: TargetedBudget) -> Budget:
    return Budget(
        name=budget.name,
        roles=None if budget.roles is None else frozenset(budget.roles),
        targets=_optional_selector(budget.targets),
        day=limits_of(budget.day),
    )


def _unless(mask: MaskSection) -> frozenset[str]:
    return frozenset(mask.unless.roles) if mask.unless is not None else frozenset()
