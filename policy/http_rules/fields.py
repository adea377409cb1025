"""What a rule says of named values that a request has: query parameters, header fields. And of its host, its type.

Covering (allow) counts what is certain: the name is there as written and every value of it is listed. Touching
(deny, hold) counts what may be meant: any value that some server would take for a listed one, of any name that some
server would take for this one (`Debug`, `debug[]`; `x_env` for `x-env`). Called by `policy.http_rules.rule`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from policy.http_rules.folding import TextPattern, fold
from policy.patterns import Glob

MAX_FIELDS = 1000  # of more a rule with names touches every one and covers none


class Presence(Enum):
    """What a rule can say of something instead of listing values."""

    ABSENT = "absent"
    PRESENT = "present"


@dataclass(frozen=True, slots=True, eq=False)
class NamedValues:
    """One name and what is said of it. `folded`: the name as the most lenient server compares it."""

    name: str
    folded: str
    presence: Presence | None
    patterns: tuple[TextPattern, ...]
    is_header: bool = False

    @property
    def outline(self) -> Hashable:
        return self.is_header, self.name, self.presence, tuple(pattern.text for pattern in self.patterns)

    def touches(self, fields: Fields) -> bool:
        if self.presence is Presence.ABSENT:
            return self.name not in fields.by_name
        values = fields.by_folded_name.get(self.folded)
        if fields.is_too_many:
            return True
        if values is None:
            return False
        if self.presence is Presence.PRESENT:
            return True
        return any(pattern.touches(text) for text in fields.folded(self.folded) for pattern in self.patterns)

    def covers(self, fields: Fields) -> bool:
        if fields.is_too_many:
            return False
        if self.presence is Presence.ABSENT:
            return self.folded not in fields.by_folded_name
        if self.name not in fields.by_name:
            return False
        if self.presence is Presence.PRESENT:
            return True
        return all(self._covers_value(value) for value in fields.by_folded_name[self.folded])

    def _covers_value(self, value: str) -> bool:
        if self.is_header and "," in value:
            # One field can hold a list. A pattern without a comma means one element of it.
            if any("," in pattern.text and pattern.covers(value) for pattern in self.patterns):
                return True
            return all(self._listed(element.strip()) for element in value.split(","))
        return self._listed(value)

    def _listed(self, text: str) -> bool:
        return any(pattern.covers(text) for pattern in self.patterns)


class Fields:
    """The parameters or header fields of one request, as rules look for them: by name, and by what it could be
    taken for."""

    __slots__ = ("_folded", "_is_header", "by_folded_name", "by_name", "is_too_many")

    def __init__(self, pairs: Sequence[tuple[str, str]], *, is_header: bool) -> None:
        self._is_header = is_header
        self._folded: dict[str, list[str]] = {}
        self.is_too_many = len(pairs) > MAX_FIELDS
        self.by_name = frozenset(name for name, _ in pairs)
        self.by_folded_name: dict[str, list[str]] = {}
        fold_name = folded_header if is_header else folded_parameter
        for name, value in pairs[:MAX_FIELDS]:
            self.by_folded_name.setdefault(fold_name(name), []).append(value)

    def first(self, name: str) -> list[str]:
        """The first value of what may be called `name`, and the first element of the list that it may be."""
        values = self.by_folded_name.get(folded_header(name) if self._is_header else folded_parameter(name))
        if not values or name not in self.by_name:
            return []
        is_list = self._is_header and "," in values[0]
        return [values[0], values[0].split(",")[0].strip()] if is_list else values[:1]

    def folded(self, name: str) -> list[str]:
        """The values of the name, each also in the elements of the list that it may be."""
        known = self._folded.get(name)
        if known is None:
            values = self.by_folded_name.get(name, ())
            known = self._folded[name] = [fold(text) for value in values for text in self._texts(value)]
        return known

    def _texts(self, value: str) -> Iterator[str]:
        yield value
        if self._is_header and "," in value:
            yield from (element.strip() for element in value.split(","))


def folded_header(name: str) -> str:
    """Gateways in front of a program (CGI, WSGI) do not tell `_` from `-`."""
    return fold(name).replace("_", "-")


def folded_parameter(name: str) -> str:
    """`a[]`, `a[0]` and `a[b]` are all called `a` by somebody, and `a.b` is called `a_b`."""
    return fold(name).partition("[")[0].strip().replace(".", "_").replace(" ", "_")


def query_values(name: str, presence: Presence | None, texts: Iterable[str]) -> NamedValues:
    return NamedValues(name, folded_parameter(name), presence, tuple(map(TextPattern, texts)))


def header_values(name: str, presence: Presence | None, texts: Iterable[str]) -> NamedValues:
    patterns = tuple(map(TextPattern, texts))
    return NamedValues(name.lower(), folded_header(name), presence, patterns, is_header=True)


class HostPattern:
    """A host, with or without a port; without one it means every port."""

    __slots__ = ("_glob", "_has_port", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._glob = TextPattern(normal_host(text))
        self._has_port = port_of(text) != ""

    @property
    def literal(self) -> str | None:
        """What an index keeps it under: the name without port; None for several."""
        literal = self._glob.exact.literal
        return None if literal is None else without_port(literal)

    @property
    def name(self) -> Glob | None:
        """What every host that it matches is called, without its port; None where that is hard to tell."""
        if self._has_port:
            return None if self.literal is None else Glob(self.literal, quoted=True)
        return self._glob.exact

    def matches(self, host: str) -> bool:
        """`host` in normal form. Names have no case, so touching and covering are one."""
        return self._glob.covers(host if self._has_port else without_port(host))

    def is_wider(self, other: HostPattern) -> bool:
        if self._glob.exact.is_any or self.text == other.text:
            return True
        return self._has_port == other._has_port and self._glob.is_wider(other._glob)


def normal_host(host: str) -> str:
    """Without case and without a dot at the end of the name."""
    name, port = without_port(host.lower()), port_of(host)
    return f"{name}:{port}" if port else name


def port_of(host: str) -> str:
    _, colon, port = host.rpartition(":")
    return port if colon and (port.isdigit() or port == "*") and not port.endswith("]") else ""


def without_port(host: str) -> str:
    port = port_of(host)
    name = host[: -len(port) - 1] if port else host.removesuffix(":")
    return name.removesuffix(".")


def media_type(text: str) -> str:
    """The type without its parameters."""
    return text.partition(";")[0].strip().lower()
