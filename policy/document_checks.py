"""What must hold across a policy document: names that exist and are one thing, rules that can match.

Gives faults (the document is refused) and warnings (it says something that has no effect here). Called by
`policy.document.load_document` after every section has been found sound by itself. Quick for 10,000 rules: a
rule is compared only with the deny rules that an index finds for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from policy.commands import COMMANDS, commands_matching
from policy.located_yaml import Fault, Located, Path, closest
from policy.patterns import (
    Glob,
    NamePattern,
    PatternIndex,
    column_pattern,
    function_pattern,
    relation_pattern,
)
from policy.sections import MaskSection, PolicySections, PostgresMatcher, Rule, Targets

Faults = list[Fault]


def check_document(document: PolicySections, located: Located) -> tuple[Faults, Faults]:
    """(faults, warnings) of a document whose sections are sound."""
    faults: Faults = []
    warnings: Faults = []
    for section, names in (
        ("access", [entry.name for entry in document.access]),
        ("rules", [rule.name for rule in document.rules]),
        ("masks", [mask.name for mask in document.masks]),
    ):
        faults.extend(_repeated(section, names, located))
    faults.extend(_unknown_roles(document, located))
    faults.extend(_roles_without_access(document, located))
    faults.extend(_shadowed(document.rules, located))
    warnings.extend(_without_a_door(document, located))
    warnings.extend(_unless_without_access(document, located))
    warnings.extend(_overlapping_masks(document.masks, located))
    return faults, warnings


def _repeated(section: str, names: Sequence[str], located: Located) -> Iterable[Fault]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            line, _ = located.position((section, first[name], "name"))
            yield located.fault(
                (section, index, "name"),
                f"`{name}` is taken, on line {line}",
                "give each entry a name of its own",
            )
        first.setdefault(name, index)


def _role_references(document: PolicySections) -> Iterable[tuple[Path, str]]:
    for index, entry in enumerate(document.access):
        for position, role in enumerate(entry.roles):
            yield ("access", index, "roles", position), role
    for index, rule in enumerate(document.rules):
        for position, role in enumerate(rule.roles or ()):
            yield ("rules", index, "roles", position), role
    for index, mask in enumerate(document.masks):
        for position, role in enumerate(mask.unless.roles if mask.unless is not None else ()):
            yield ("masks", index, "unless", "roles", position), role


def _unknown_roles(document: PolicySections, located: Located) -> Iterable[Fault]:
    for path, role in _role_references(document):
        if role not in document.roles:
            known = ", ".join(f"`{name}`" for name in list(document.roles)[:20])
            yield located.fault(
                path, f"there is no role `{role}`", f"{closest(role, document.roles)}roles are {known}"
            )


def _roles_without_access(document: PolicySections, located: Located) -> Iterable[Fault]:
    given = {role for entry in document.access for role in entry.roles}
    for index, rule in enumerate(document.rules):
        if rule.postgres is None:
            continue
        for position, role in enumerate(rule.roles or ()):
            if role in document.roles and role not in given:
                yield located.fault(
                    ("rules", index, "roles", position),
                    f"can never match: no access entry gives role `{role}` a target",
                    "add the role to an entry of `access`, or take it out of the rule",
                )


def _unless_without_access(document: PolicySections, located: Located) -> Iterable[Fault]:
    given = {role for entry in document.access for role in entry.roles}
    for index, mask in enumerate(document.masks):
        for position, role in enumerate(mask.unless.roles if mask.unless is not None else ()):
            if role not in given:
                yield located.fault(
                    ("masks", index, "unless", "roles", position),
                    f"no access entry gives role `{role}` a target",
                    "add the role to an entry of `access`, or take it out here",
                )


def _without_a_door(document: PolicySections, located: Located) -> Iterable[Fault]:
    for index, rule in enumerate(document.rules):
        for protocol in ("ssh", "http", "mcp"):
            if getattr(rule, protocol) is not None:
                yield located.fault(
                    ("rules", index, protocol),
                    f"has no effect: this version has no door for {protocol}",
                    "keep it for later, or remove it",
                )
    for index, mask in enumerate(document.masks):
        if mask.json_paths is not None:
            yield located.fault(
                ("masks", index, "json"),
                "has no effect: this version has no door for HTTP",
                "keep it for later, or mask the columns by `columns`",
            )


# --- an allow rule that a deny rule makes void --------------------------------------------------------------


def _shadowed(rules: Sequence[Rule], located: Located) -> Iterable[Fault]:
    """Allow rules all of whose matches a single deny rule matches too."""
    denies = [(rule, rule.postgres) for rule in rules if rule.effect == "deny" and rule.postgres is not None]
    unbound = [(rule, matcher) for rule, matcher in denies if matcher.relations is None]
    by_relation = PatternIndex(
        (relation_pattern(text), (rule, matcher))
        for rule, matcher in denies
        for text in matcher.relations or ()
    )
    for index, rule in enumerate(rules):
        matcher = rule.postgres
        if rule.effect != "allow" or matcher is None:
            continue
        bound: Sequence[tuple[Rule, PostgresMatcher]] = ()
        if matcher.relations is not None:
            # Whatever covers a pattern matches every name in it, so also its text with each `*` taken as a
            # letter.
            pattern = relation_pattern(matcher.relations[0])
            bound = by_relation.find(*(_sample(part) for part in pattern.parts))
        for deny, its in (*unbound, *bound):
            if _is_within(rule, deny) and _is_wider(its, matcher):
                yield located.fault(
                    ("rules", index),
                    f"can never match: deny rule `{deny.name}` matches everything that it allows",
                    "remove one of the two, or narrow the deny rule",
                )
                break


def _sample(part: Glob) -> str:
    return part.literal if part.literal is not None else part.text.replace("*", "\0")


def _is_within(rule: Rule, deny: Rule) -> bool:
    """Does the deny rule speak about everybody and every target that the rule speaks about?"""
    if deny.roles is not None and (rule.roles is None or not set(rule.roles) <= set(deny.roles)):
        return False
    return _selector_within(rule.targets, deny.targets)


def _selector_within(inner: Targets | None, outer: Targets | None) -> bool:
    return outer is None or inner == outer


def _is_wider(deny: PostgresMatcher, allow: PostgresMatcher) -> bool:
    """Does every operation that `allow` permits touch all of `deny`'s lists?"""
    permits_relations = allow.relations is not None or allow.columns is not None
    permits_relations = permits_relations or (allow.functions is None and allow.settings is None)
    if deny.columns is not None or (deny.where is not None and allow.where is None):
        return False  # there are operations on other columns, or with a WHERE
    if deny.relations is not None and (allow.functions is not None or allow.settings is not None):
        return False  # a function can be called, or a setting made, without a relation
    if deny.relations is not None and not _all_covered(allow.relations, deny.relations, relation_pattern):
        return False
    if deny.commands is not None and "*" not in deny.commands:
        meant = _expanded(deny.commands)
        if allow.commands is None or not _expanded(allow.commands) <= meant:
            return False
    for mine, theirs in ((deny.functions, allow.functions), (deny.settings, allow.settings)):
        if mine is None:
            continue
        if permits_relations or not _all_covered(theirs, mine, _function_or_setting):
            return False
    return not (deny.functions is not None and deny.settings is not None)


def _function_or_setting(text: str) -> NamePattern:
    return function_pattern(text) if text.count(".") == 1 else NamePattern(text, (Glob(text),))


def _all_covered(
    inner: Sequence[str] | None, outer: Sequence[str], parse: Callable[[str], NamePattern]
) -> bool:
    if inner is None:
        return any(all(part.is_any for part in parse(text).parts) for text in outer)
    wide = [parse(text) for text in outer]
    return all(any(pattern.covers(parse(text)) for pattern in wide) for text in inner)


def _expanded(texts: Sequence[str]) -> frozenset[str]:
    return COMMANDS if "*" in texts else frozenset().union(*(commands_matching(text) for text in texts))


# --- masks that name the same column ------------------------------------------------------------------------


def _overlapping_masks(masks: Sequence[MaskSection], located: Located) -> Iterable[Fault]:
    """One warning for each pair of masks that can name one column, at the later of the two."""
    by_name: dict[tuple[str, str], list[tuple[int, NamePattern]]] = {}
    globs: list[tuple[int, NamePattern]] = []
    for index, mask in enumerate(masks):
        reported: set[int] = set()
        for position, text in enumerate(mask.columns or ()):
            pattern = column_pattern(text)
            relation, column = pattern.parts[1].literal, pattern.parts[2].literal
            name = (relation, column) if relation is not None and column is not None else None
            if name is None:
                earlier = [*globs, *(entry for entries in by_name.values() for entry in entries)]
            else:
                earlier = [*globs, *by_name.get(name, ())]
            for other, its in earlier:
                if other == index or other in reported or not pattern.overlaps(its):
                    continue
                if not _selectors_meet(mask.targets, masks[other].targets):
                    continue
                reported.add(other)
                yield located.fault(
                    ("masks", index, "columns", position),
                    f"`{text}` and `{its.text}` of mask `{masks[other].name}` can name the same column",
                    "the more concealing method is applied there: redact, null, fixed, pseudonym, partial",
                )
            (globs if name is None else by_name.setdefault(name, [])).append((index, pattern))


def _selectors_meet(one: Targets | None, other: Targets | None) -> bool:
    if one is None or other is None or one.protocol is None or other.protocol is None:
        return True
    return one.protocol == other.protocol
