"""Allow rules that a single deny rule makes void: they promise what nobody can ever do.

Compares rules by what they list, never by operations, and says "void" only where that is certain. Quick for 10,000
rules: a rule is compared only with the deny rules that an index finds for it. Called by `policy.document_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from policy.commands import COMMANDS, commands_matching
from policy.deny_index import DenyIndex, http_needs, http_told, sql_needs, sql_told, ssh_needs, ssh_told
from policy.http_shadowing import is_wider_http
from policy.located_yaml import Fault, Located, Path
from policy.patterns import Glob, NamePattern, function_pattern, relation_pattern
from policy.sections import PostgresMatcher, Rule, Targets
from policy.ssh_rules.addresses import AddressPattern
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import PathPattern
from policy.ssh_rules.section import SshMatcher

PatternT = TypeVar("PatternT")


def shadowed(rules: Sequence[Rule], located: Located) -> Iterator[Fault]:
    """A fault for each allow rule whose section a deny rule matches wholly."""
    denies = [rule for rule in rules if rule.effect == "deny"]
    deny_sql, deny_ssh, deny_http = _sql_denies(denies), _ssh_denies(denies), _http_denies(denies)
    for index, rule in enumerate(rules):
        if rule.effect != "allow":
            continue
        is_one = sum((rule.postgres is not None, rule.ssh is not None, rule.is_about_http)) == 1
        if rule.postgres is not None:
            at: Path = ("rules", index) if is_one else ("rules", index, "postgres")
            near = deny_sql.near(rule, sql_told(rule.postgres, _commands_of(rule.postgres)))
            yield from _fault(located, at, _first(near, rule, _is_wider_sql))
        if rule.ssh is not None:
            at = ("rules", index) if is_one else ("rules", index, "ssh")
            yield from _fault(
                located, at, _first(deny_ssh.near(rule, ssh_told(rule.ssh)), rule, _is_wider_ssh)
            )
        if rule.is_about_http:
            section = "http" if rule.http is not None else "llm"
            at = ("rules", index) if is_one else ("rules", index, section)
            yield from _fault(located, at, _first(deny_http.near(rule, http_told(rule)), rule, is_wider_http))


def _first(near: Iterable[Rule], rule: Rule, is_wider: Callable[[Rule, Rule], bool]) -> Rule | None:
    return next((deny for deny in near if _is_within(rule, deny) and is_wider(deny, rule)), None)


def _sql_denies(denies: Iterable[Rule]) -> DenyIndex:
    return DenyIndex(
        (needs, rule)
        for rule in denies
        if rule.postgres is not None and rule.postgres.columns is None
        for needs in sql_needs(rule.postgres, _commands_of(rule.postgres))
    )


def _ssh_denies(denies: Iterable[Rule]) -> DenyIndex:
    return DenyIndex(
        (needs, rule) for rule in denies if rule.ssh is not None for needs in ssh_needs(rule.ssh)
    )


def _http_denies(denies: Iterable[Rule]) -> DenyIndex:
    return DenyIndex((needs, rule) for rule in denies if rule.is_about_http for needs in http_needs(rule))


def _commands_of(matcher: PostgresMatcher) -> frozenset[str] | None:
    return None if matcher.commands is None or "*" in matcher.commands else _expanded(matcher.commands)


def _is_wider_sql(deny: Rule, allow: Rule) -> bool:
    return (
        deny.postgres is not None and allow.postgres is not None and _is_wider(deny.postgres, allow.postgres)
    )


def _is_wider_ssh(deny: Rule, allow: Rule) -> bool:
    return deny.ssh is not None and allow.ssh is not None and _reaches_further(deny.ssh, allow.ssh)


def _fault(located: Located, path: Path, deny: Rule | None) -> Iterator[Fault]:
    if deny is not None:
        yield located.fault(
            path,
            f"can never match: deny rule `{deny.name}` matches everything that it allows",
            "remove one of the two, or narrow the deny rule",
        )


def _is_within(rule: Rule, deny: Rule) -> bool:
    """Does the deny rule speak about everybody and every target that the rule speaks about?"""
    if deny.roles is not None and (rule.roles is None or not set(rule.roles) <= set(deny.roles)):
        return False
    if deny.when not in (None, rule.when):
        return False
    return _selector_within(rule.targets, deny.targets)


def _selector_within(inner: Targets | None, outer: Targets | None) -> bool:
    return outer is None or inner == outer


# --- SQL ----------------------------------------------------------------------------------------------------


def _setting(text: str) -> NamePattern:
    return NamePattern(text, (Glob(text),))


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
    return function_pattern(text) if text.count(".") == 1 else _setting(text)


def _all_covered(
    inner: Sequence[str] | None, outer: Sequence[str], parse: Callable[[str], NamePattern]
) -> bool:
    if inner is None:
        return any(all(part.is_any for part in parse(text).parts) for text in outer)
    wide = [parse(text) for text in outer]
    return all(any(pattern.covers(parse(text)) for pattern in wide) for text in inner)


def _expanded(texts: Sequence[str]) -> frozenset[str]:
    return COMMANDS if "*" in texts else frozenset().union(*(commands_matching(text) for text in texts))


# --- SSH ----------------------------------------------------------------------------------------------------


def _reaches_further(deny: SshMatcher, allow: SshMatcher) -> bool:
    """Does every operation that `allow` permits touch the deny rule?"""
    for mine, theirs in ((deny.shell, allow.shell), (deny.agent, allow.agent), (deny.x11, allow.x11)):
        if theirs and not mine:
            return False
    return (
        _commands_wider(deny, allow)
        and _files_wider(deny, allow)
        and _texts_wider(deny.subsystems, allow.subsystems, Glob, Glob.covers)
        and _texts_wider(deny.forward, allow.forward, AddressPattern, AddressPattern.is_wider)
        and _texts_wider(deny.listen, allow.listen, _to_listen, AddressPattern.is_wider)
    )


def _commands_wider(deny: SshMatcher, allow: SshMatcher) -> bool:
    if allow.exec is not None and deny.redirects is not None:
        return False  # there are commands that redirect nothing
    return _texts_wider(deny.exec, allow.exec, CommandPattern, CommandPattern.is_wider)


def _files_wider(deny: SshMatcher, allow: SshMatcher) -> bool:
    if allow.files is None and allow.paths is None:
        return True
    if deny.files is None and deny.paths is None:
        return False
    # Such an allow rule opens sftp too, which no deny rule about files takes away; but nothing can be done in it.
    verbs = set(deny.files or ("*",))
    if "*" not in verbs and not set(allow.files or ("*",)) <= verbs:
        return False
    if deny.paths is None:
        return True
    return _texts_wider(deny.paths, allow.paths or ("/**",), PathPattern, PathPattern.is_wider)


def _texts_wider(
    outer: Sequence[str] | None,
    inner: Sequence[str] | None,
    parse: Callable[[str], PatternT],
    is_wider: Callable[[PatternT, PatternT], bool],
) -> bool:
    """Is each of `inner` within one of `outer`?"""
    if inner is None:
        return True
    wide = [parse(text) for text in outer or ()]
    return all(any(is_wider(pattern, parse(text)) for pattern in wide) for text in inner)


def _to_listen(text: str) -> AddressPattern:
    return AddressPattern(text, to_listen=True)
