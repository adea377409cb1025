"""Deny rules by what they list, for finding the one that an allow rule lies wholly within.

Rules are compared with rules here, never with operations: a deny rule needs of an allow rule that its first pattern of
each key is one that a pattern of its own may be wider than (`policy.narrowing`). Finds candidates; `policy.shadowing`
says which of them are wider.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping

from policy.http_rules.fields import HostPattern
from policy.http_rules.paths import UrlPattern
from policy.http_rules.section import HttpMatcher
from policy.narrowing import Narrowing, Need
from policy.patterns import Glob, function_pattern, relation_pattern
from policy.sections import PostgresMatcher, Rule
from policy.ssh_rules.addresses import AddressPattern
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import PathPattern
from policy.ssh_rules.section import SshMatcher

Made = dict[Hashable, Need]
Told = dict[Hashable, Collection[Hashable] | None]

_EVERYTHING = HttpMatcher(methods=("*",))
_TO_SHELL = ("shell", "agent", "x11")


class DenyIndex:
    """Deny rules, each kept by what it says of one door."""

    def __init__(self, entries: Iterable[tuple[Mapping[Hashable, Need], Rule]]) -> None:
        self._rules = Narrowing(
            ({**_of_all(rule), **needs}, (order, rule)) for order, (needs, rule) in enumerate(entries)
        )

    def near(self, rule: Rule, told: Told) -> list[Rule]:
        """Those that `rule` may lie within. told: what it says of the same door."""
        known = {**_told_of_all(rule), **told}

        def shown(dimension: Hashable) -> Collection[Hashable] | None:
            key = dimension[0] if isinstance(dimension, tuple) else dimension
            return known.get(dimension, known.get(key, ()))

        found = dict(self._rules.find(shown))
        return [found[order] for order in sorted(found)]


def _of_all(rule: Rule) -> Made:
    found: Made = {} if rule.roles is None else {"roles": rule.roles}
    if rule.targets is not None:
        found["targets"] = (repr(rule.targets),)
    if rule.when is not None:
        found["when"] = (rule.when,)
    return found


def _told_of_all(rule: Rule) -> Told:
    return {
        "roles": (rule.roles or ())[:1],
        "targets": () if rule.targets is None else (repr(rule.targets),),
        "when": () if rule.when is None else (rule.when,),
    }


def _wider(globs: Iterable[Glob]) -> tuple[Hashable, ...]:
    """One of these must be wider than another glob: that one as a text, or written the same."""
    return tuple(item for glob in globs for item in (glob, ("written", glob.text)))


def _told(glob: Glob | None) -> Collection[Hashable]:
    if glob is None:
        return ()
    return (glob.literal,) if glob.literal is not None else (("written", glob.text),)


def _row_needs(kind: str, row: Iterable[Glob | None]) -> Made:
    """Part by part, up to the first that stands for any number of them."""
    found: Made = {}
    for index, glob in enumerate(row):
        if glob is None:
            break
        if not glob.is_any:
            found[(kind, index)] = _wider((glob,))
    return found


def _row_told(kind: str, row: Iterable[Glob | None]) -> Told:
    return {(kind, index): _told(glob) for index, glob in enumerate(row)}


# --- PostgreSQL ---------------------------------------------------------------------------------------------


def sql_needs(matcher: PostgresMatcher, commands: Collection[str] | None) -> Iterator[Made]:
    """commands: those that it means, None for all."""
    around: Made = {} if commands is None else {"command": tuple(commands)}
    if matcher.functions is not None:
        patterns = [function_pattern(text) for text in matcher.functions]
        if not any(pattern.parts[1].is_any for pattern in patterns):
            around["function"] = _wider(pattern.parts[1] for pattern in patterns)
    if matcher.settings is not None:
        globs = [Glob(text) for text in matcher.settings]
        if not any(glob.is_any for glob in globs):
            around["setting"] = _wider(globs)
    for text in matcher.relations or (None,):
        yield {**_row_needs("relation", () if text is None else relation_pattern(text).parts), **around}


def sql_told(matcher: PostgresMatcher, commands: Collection[str] | None) -> Told:
    told: Told = {"command": list(commands or ())[:1]}
    if matcher.relations is not None:
        told.update(_row_told("relation", relation_pattern(matcher.relations[0]).parts))
    if matcher.functions is not None:
        told["function"] = _told(function_pattern(matcher.functions[0]).parts[1])
    if matcher.settings is not None:
        told["setting"] = _told(Glob(matcher.settings[0]))
    return told


# --- SSH ----------------------------------------------------------------------------------------------------


def ssh_needs(matcher: SshMatcher) -> Iterator[Made]:
    """By the first key with patterns. A key that it does not have must not be one of the other's."""
    around: Made = {("has", key): (False,) for key, is_there in _keys(matcher) if not is_there}
    if matcher.redirects is not None:
        around["redirects"] = matcher.redirects  # there are commands that redirect nothing
    rows: list[Made] = [{}]
    if matcher.exec is not None:
        rows = [_command_needs(CommandPattern(text)) for text in matcher.exec]
    elif matcher.paths is not None:
        rows = [_row_needs("paths", PathPattern(text).parts) for text in matcher.paths]
    elif matcher.forward is not None:
        rows = [_address_needs("forward", AddressPattern(text)) for text in matcher.forward]
    elif matcher.listen is not None:
        rows = [_address_needs("listen", AddressPattern(text, to_listen=True)) for text in matcher.listen]
    elif matcher.subsystems is not None:
        globs = [Glob(text) for text in matcher.subsystems]
        rows = [{} if any(glob.is_any for glob in globs) else {("subsystem", 0): _wider(globs)}]
    return ({**row, **around} for row in rows)


def ssh_told(matcher: SshMatcher) -> Told:
    """None for what concerns a key that it does not have: no deny rule has to be wider there."""
    told: Told = {("has", key): (is_there,) for key, is_there in _keys(matcher)}
    told.update((key, None) for key, is_there in _keys(matcher) if not is_there)
    told["redirects"] = () if matcher.exec is not None else None
    if matcher.exec is not None:
        first = CommandPattern(matcher.exec[0])
        told.update(_row_told("exec", first.words))
        if first.words:
            told["exec", 0] = (("path", first.words[0].text), *_told(first.base))
    if matcher.paths is not None or matcher.files is not None:
        told.update(_row_told("paths", PathPattern((matcher.paths or ("/**",))[0]).parts))
    if matcher.forward is not None:
        told.update(_address_told("forward", AddressPattern(matcher.forward[0])))
    if matcher.listen is not None:
        told.update(_address_told("listen", AddressPattern(matcher.listen[0], to_listen=True)))
    if matcher.subsystems is not None:
        told["subsystem", 0] = _told(Glob(matcher.subsystems[0]))
    return told


def _keys(matcher: SshMatcher) -> list[tuple[str, bool]]:
    return [
        *((key, bool(getattr(matcher, key))) for key in _TO_SHELL),
        ("exec", matcher.exec is not None),
        ("paths", matcher.paths is not None or matcher.files is not None),
        ("subsystem", matcher.subsystems is not None),
        ("forward", matcher.forward is not None),
        ("listen", matcher.listen is not None),
    ]


def _command_needs(pattern: CommandPattern) -> Made:
    found = _row_needs("exec", pattern.words)
    if pattern.words and pattern.base is not pattern.words[0]:
        found["exec", 0] = (("path", pattern.words[0].text),)
    return found


def _address_needs(key: str, pattern: AddressPattern) -> Made:
    if pattern.socket is not None:
        return {(key, "is a socket"): (True,), **_row_needs(key, pattern.socket.parts)}
    found: Made = {(key, "is a socket"): (False,)}
    if pattern.port is not None:
        found[key, "port"] = (pattern.port,)
    if not pattern.host.is_any:
        found[key, "host"] = _wider((pattern.host,))
    return found


def _address_told(key: str, pattern: AddressPattern) -> Told:
    if pattern.socket is not None:
        return {(key, "is a socket"): (True,), **_row_told(key, pattern.socket.parts)}
    return {
        (key, "is a socket"): (False,),
        (key, "port"): () if pattern.port is None else (pattern.port,),
        (key, "host"): _told(pattern.host),
    }


# --- HTTP ---------------------------------------------------------------------------------------------------


def http_needs(rule: Rule) -> Iterator[Made]:
    matcher = rule.http or _EVERYTHING
    around: Made = {}
    if matcher.methods is not None and "*" not in matcher.methods:
        around["method"] = matcher.methods
    hosts = [HostPattern(text).name for text in matcher.hosts or ()]
    if hosts and not any(glob is None or glob.is_any for glob in hosts):
        around["host"] = _wider(glob for glob in hosts if glob is not None)
    types = [Glob(text) for text in matcher.content_types or ()]
    if types and not any(glob.is_any for glob in types):
        around["type"] = _wider(types)
    around.update((key, (text,)) for key, text in _compared(rule, matcher) if text is not None)
    for path in matcher.paths or (None,):
        yield {**_row_needs("path", () if path is None else UrlPattern(path).parts), **around}


def http_told(rule: Rule) -> Told:
    matcher = rule.http or _EVERYTHING
    told: Told = {key: () if text is None else (text,) for key, text in _compared(rule, matcher)}
    told["method"] = (matcher.methods or ("*",))[:1]
    if matcher.hosts is not None:
        name = HostPattern(matcher.hosts[0]).name
        told["host"] = None if name is None else _told(name)
    if matcher.content_types is not None:
        told["type"] = _told(Glob(matcher.content_types[0]))
    if matcher.paths is not None:
        told.update(_row_told("path", UrlPattern(matcher.paths[0]).parts))
    return told


def _compared(rule: Rule, matcher: HttpMatcher) -> list[tuple[str, str | None]]:
    """What a deny rule either does not have, or has in the very words of the other."""
    parts = (
        ("query", matcher.query),
        ("headers", matcher.headers),
        ("body", matcher.body),
        ("llm", rule.llm),
    )
    return [(key, None if part is None else repr(part)) for key, part in parts]
