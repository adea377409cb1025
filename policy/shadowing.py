"""Allow rules that a single deny rule makes void: they promise what nobody can ever do.

Compares rules by what they list, never by operations, and says "void" only where that is certain. Quick for 10,000
rules: a rule is compared only with the deny rules that an index finds for it. Called by `policy.document_checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from policy.commands import COMMANDS, commands_matching
from policy.http_shadowing import HttpDenies, is_wider_http
from policy.located_yaml import Fault, Located, Path
from policy.patterns import Glob, NamePattern, PatternIndex, function_pattern, relation_pattern
from policy.sections import PostgresMatcher, Rule, Targets
from policy.ssh_rules.addresses import AddressPattern
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import PathPattern
from policy.ssh_rules.prefixes import PrefixIndex
from policy.ssh_rules.section import SshMatcher

PatternT = TypeVar("PatternT")


def shadowed(rules: Sequence[Rule], located: Located) -> Iterator[Fault]:
    """A fault for each allow rule whose section a deny rule matches wholly."""
    deny_sql, deny_ssh, deny_http = _SqlDenies(rules), _SshDenies(rules), HttpDenies(rules)
    for index, rule in enumerate(rules):
        if rule.effect != "allow":
            continue
        is_one = sum((rule.postgres is not None, rule.ssh is not None, rule.is_about_http)) == 1
        if rule.postgres is not None:
            at: Path = ("rules", index) if is_one else ("rules", index, "postgres")
            yield from _fault(located, at, deny_sql.of(rule, rule.postgres))
        if rule.ssh is not None:
            at = ("rules", index) if is_one else ("rules", index, "ssh")
            yield from _fault(located, at, deny_ssh.of(rule, rule.ssh))
        if rule.is_about_http:
            section = "http" if rule.http is not None else "llm"
            at = ("rules", index) if is_one else ("rules", index, section)
            yield from _fault(located, at, _http_deny(rule, deny_http))


def _http_deny(rule: Rule, denies: HttpDenies) -> Rule | None:
    return next(
        (deny for deny in denies.near(rule) if _is_within(rule, deny) and is_wider_http(deny, rule)), None
    )


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


def _sample(part: Glob) -> str:
    """A name that whatever covers the glob must match: its text with each `*` taken as a letter."""
    return part.literal if part.literal is not None else part.text.replace("*", "\0")


# --- SQL ----------------------------------------------------------------------------------------------------


class _SqlDenies:
    def __init__(self, rules: Iterable[Rule]) -> None:
        denies = [
            (rule, rule.postgres) for rule in rules if rule.effect == "deny" and rule.postgres is not None
        ]
        plain = [(rule, matcher) for rule, matcher in denies if matcher.columns is None]
        bound = [entry for entry in plain if entry[1].relations is not None]
        free = [entry for entry in plain if entry[1].relations is None]
        self._unbound = [
            (rule, matcher)
            for rule, matcher in free
            if matcher.functions is None and matcher.settings is None
        ]
        self._by_relation = PatternIndex(
            (relation_pattern(text), entry) for entry in bound for text in entry[1].relations or ()
        )
        self._by_function = PatternIndex(
            (function_pattern(text), entry) for entry in free for text in entry[1].functions or ()
        )
        self._by_setting = PatternIndex(
            (_setting(text), entry) for entry in free for text in entry[1].settings or ()
        )

    def of(self, rule: Rule, matcher: PostgresMatcher) -> Rule | None:
        near = list(self._unbound)
        if matcher.relations is not None:
            pattern = relation_pattern(matcher.relations[0])
            near.extend(self._by_relation.find(*(_sample(part) for part in pattern.parts)))
        if matcher.functions is not None:
            pattern = function_pattern(matcher.functions[0])
            near.extend(self._by_function.find(*(_sample(part) for part in pattern.parts)))
        if matcher.settings is not None:
            near.extend(self._by_setting.find(_sample(Glob(matcher.settings[0]))))
        for deny, its in near:
            if _is_within(rule, deny) and _is_wider(its, matcher):
                return deny
        return None


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


class _SshDenies:
    """Deny rules by what they say of the first key that they have; a void rule is void in its first key too."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        denies = [(rule, rule.ssh) for rule in rules if rule.effect == "deny" and rule.ssh is not None]
        self._commands = PrefixIndex(
            (pattern.fixed_for_touching(), entry)
            for entry in denies
            for pattern in map(CommandPattern, entry[1].exec or ())
        )
        self._files = PrefixIndex(
            (fixed, entry)
            for entry in denies
            if entry[1].files is not None or entry[1].paths is not None
            for fixed in (
                [()] if entry[1].paths is None else [PathPattern(text).fixed for text in entry[1].paths]
            )
        )
        self._forward = _by_address(denies, lambda matcher: matcher.forward)
        self._listen = _by_address(denies, lambda matcher: matcher.listen)
        self._rest = [
            (rule, matcher)
            for rule, matcher in denies
            if matcher.shell or matcher.agent or matcher.x11 or matcher.subsystems is not None
        ]

    def of(self, rule: Rule, matcher: SshMatcher) -> Rule | None:
        for deny, its in self._near(matcher):
            if _is_within(rule, deny) and _is_wider_ssh(its, matcher):
                return deny
        return None

    def _near(self, matcher: SshMatcher) -> Iterable[tuple[Rule, SshMatcher]]:
        if matcher.exec is not None:
            return self._commands.along(CommandPattern(matcher.exec[0]).fixed_for_touching())
        if matcher.paths is not None or matcher.files is not None:
            return self._files.along(PathPattern(matcher.paths[0]).fixed if matcher.paths is not None else ())
        if matcher.forward is not None:
            return _at_address(self._forward, AddressPattern(matcher.forward[0]))
        if matcher.listen is not None:
            return _at_address(self._listen, AddressPattern(matcher.listen[0], to_listen=True))
        return self._rest


_AddressIndex = tuple[
    PatternIndex[tuple[Rule, SshMatcher]],
    PrefixIndex[tuple[Rule, SshMatcher]],
]


def _by_address(
    denies: Iterable[tuple[Rule, SshMatcher]], texts: Callable[[SshMatcher], Sequence[str] | None]
) -> _AddressIndex:
    entries = [
        (AddressPattern(text, to_listen=True), entry) for entry in denies for text in texts(entry[1]) or ()
    ]
    return (
        PatternIndex(
            (key, entry)
            for pattern, entry in entries
            if pattern.socket is None
            for key in pattern.index_keys()
        ),
        PrefixIndex(
            (pattern.socket.fixed, entry) for pattern, entry in entries if pattern.socket is not None
        ),
    )


def _at_address(index: _AddressIndex, pattern: AddressPattern) -> Iterable[tuple[Rule, SshMatcher]]:
    hosts, sockets = index
    if pattern.socket is not None:
        return sockets.along(pattern.socket.fixed)
    return hosts.find(_sample(pattern.host), "\0" if pattern.port is None else str(pattern.port))


def _is_wider_ssh(deny: SshMatcher, allow: SshMatcher) -> bool:
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
