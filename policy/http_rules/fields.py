"""What a rule says of named values that a request has: query parameters, header fields. And of its host, its type.

Covering (allow) counts what is certain: the name is there as written and every value of it is listed. Touching
(deny, hold) counts what may be meant: any value that some server would take for a listed one, of any name that some
server would take for this one (`Debug`, `debug[]`; `x_env` for `x-env`). Called by `policy.http_rules.rule`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from policy.http_rules.folding import TextPattern, fold

Pairs = Sequence[tuple[str, str]]


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

    def touches(self, pairs: Pairs) -> bool:
        if self.presence is Presence.ABSENT:
            return not any(name == self.name for name, _ in pairs)
        if self.presence is Presence.PRESENT:
            return any(self._may_be(name) for name, _ in pairs)
        return any(
            pattern.touches(text)
            for name, value in pairs
            if self._may_be(name)
            for text in map(fold, self._texts(value))
            for pattern in self.patterns
        )

    def covers(self, pairs: Pairs) -> bool:
        if self.presence is Presence.ABSENT:
            return not any(self._may_be(name) for name, _ in pairs)
        if not any(name == self.name for name, _ in pairs):
            return False
        if self.presence is Presence.PRESENT:
            return True
        return all(self._covers_value(value) for name, value in pairs if self._may_be(name))

    def _covers_value(self, value: str) -> bool:
        if self.is_header and "," in value:
            # One field can hold a list. A pattern without a comma means one element of it.
            if any("," in pattern.text and pattern.covers(value) for pattern in self.patterns):
                return True
            return all(self._listed(element.strip()) for element in value.split(","))
        return self._listed(value)

    def _listed(self, text: str) -> bool:
        return any(pattern.covers(text) for pattern in self.patterns)

    def _texts(self, value: str) -> Iterator[str]:
        yield value
        if self.is_header and "," in value:
            yield from (element.strip() for element in value.split(","))

    def _may_be(self, name: str) -> bool:
        if name == self.name:
            return True
        return (folded_header(name) if self.is_header else folded_parameter(name)) == self.folded


def folded_header(name: str) -> str:
    """Gateways in front of a program (CGI, WSGI) do not tell `_` from `-`."""
    return fold(name).replace("_", "-")


def folded_parameter(name: str) -> str:
    """`a[]`, `a[0]` and `a[b]` are all called `a` by somebody."""
    return fold(name).partition("[")[0].strip()


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
