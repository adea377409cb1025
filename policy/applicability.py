"""Which entries of a document speak of these roles at this target, and which roles a subject has.

Found by the roles, names and labels that entries list: a document may hold ten thousand people's roles, targets and
rules. Made once for each document and kept with it. Called by `policy.view` and `policy.ssh.evaluate`.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from policy.facts import Subject, Target
from policy.narrowing import Narrowing, Need, Needs
from policy.rules import Membership, Selector, claim_values


class Entry(Protocol):
    """What can be limited to some roles or some targets; None for all of them."""

    @property
    def roles(self) -> frozenset[str] | None: ...

    @property
    def targets(self) -> Selector | None: ...


EntryT = TypeVar("EntryT", bound=Entry)


class Applicable(Generic[EntryT]):
    """Entries in the document's order."""

    def __init__(self, entries: Iterable[EntryT]) -> None:
        self._entries = Narrowing((_needs(entry), (order, entry)) for order, entry in enumerate(entries))

    def at(self, roles: frozenset[str], target: Target) -> tuple[EntryT, ...]:
        """Those that speak of one of the roles, at the target."""

        def shown(dimension: Hashable) -> Collection[Hashable] | None:
            match dimension:
                case "role":
                    return roles
                case "name":
                    return (target.name,)
                case "protocol":
                    return (target.protocol,)
                case ("label", str() as key):
                    return (target.labels.get(key),)
            return None

        found = {
            order: entry
            for order, entry in self._entries.find(shown)
            if (entry.roles is None or not entry.roles.isdisjoint(roles))
            and (entry.targets is None or entry.targets.matches(target))
        }
        return tuple(found[order] for order in sorted(found))


def _needs(entry: Entry) -> Needs:
    found: dict[Hashable, Need] = {} if entry.roles is None else {"role": tuple(entry.roles)}
    targets = entry.targets
    if targets is not None:
        if targets.names and not any(glob.is_any for glob in targets.names):
            found["name"] = targets.names
        if targets.protocol is not None:
            found["protocol"] = (targets.protocol,)
        found.update((("label", key), tuple(values)) for key, values in targets.labels)
    return found


class RoleIndex:
    """Roles by the groups and claims that give them."""

    def __init__(self, roles: Mapping[str, Membership]) -> None:
        self._by_group: dict[str, list[str]] = {}
        self._by_claim: dict[str, dict[str, list[str]]] = {}
        for name, membership in roles.items():
            for group in membership.groups:
                self._by_group.setdefault(group, []).append(name)
            for key, values in membership.claims:
                for value in values:
                    self._by_claim.setdefault(key, {}).setdefault(value, []).append(name)

    def of(self, subject: Subject) -> frozenset[str]:
        found = {name for group in subject.groups for name in self._by_group.get(group, ())}
        for key in {"name", *subject.claims} & self._by_claim.keys():
            by_value = self._by_claim[key]
            found.update(name for value in claim_values(subject, key) for name in by_value.get(value, ()))
        return frozenset(found)
