"""What must hold across a policy document: names that exist and are one thing, rules that can match.

Gives faults (the document is refused) and warnings (it says something that has no effect here, or less than it
seems to). Called by `policy.document.load_document` after every section has been found sound by itself. Rules that
make each other void are found in `policy.shadowing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from policy.detectors.section import unknown_detector
from policy.located_yaml import Fault, Located, Path, closest
from policy.patterns import NamePattern, column_pattern
from policy.sections import MaskSection, PolicySections, Targets
from policy.shadowing import shadowed
from policy.ssh_rules.commands import CommandPattern

Faults = list[Fault]


def check_document(document: PolicySections, located: Located) -> tuple[Faults, Faults]:
    """(faults, warnings) of a document whose sections are sound."""
    faults: Faults = []
    warnings: Faults = []
    for section, names in (
        ("access", [entry.name for entry in document.access]),
        ("rules", [rule.name for rule in document.rules]),
        ("masks", [mask.name for mask in document.masks]),
        ("budgets", [budget.name for budget in document.budgets]),
    ):
        faults.extend(_repeated(section, names, located))
    faults.extend(_unknown_roles(document, located))
    faults.extend(_roles_without_access(document, located))
    faults.extend(_unknown_detectors(document, located))
    faults.extend(shadowed(document.rules, located))
    warnings.extend(_without_a_door(document, located))
    warnings.extend(_commands_without_arguments(document, located))
    warnings.extend(_one_segment(document, located))
    warnings.extend(_misspelt_methods(document, located))
    warnings.extend(_unused_detectors(document, located))
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
    for index, budget in enumerate(document.budgets):
        for position, role in enumerate(budget.roles or ()):
            yield ("budgets", index, "roles", position), role


def _unknown_roles(document: PolicySections, located: Located) -> Iterable[Fault]:
    for path, role in _role_references(document):
        if role not in document.roles:
            known = ", ".join(f"`{name}`" for name in list(document.roles)[:20])
            yield located.fault(
                path, f"there is no role `{role}`", f"{closest(role, document.roles)}roles are {known}"
            )


def _unknown_detectors(document: PolicySections, located: Located) -> Iterable[Fault]:
    own = document.detectors or {}
    for index, mask in enumerate(document.masks):
        for position, name in enumerate(mask.detect or ()):
            unknown = unknown_detector(name, own)
            if unknown is not None:
                yield located.fault(("masks", index, "detect", position), *unknown)


def _unused_detectors(document: PolicySections, located: Located) -> Iterable[Fault]:
    used = {name for mask in document.masks for name in mask.detect or ()}
    for name in document.detectors or {}:
        if name not in used:
            yield located.fault(
                ("detectors", name), "no mask uses it", "name it in the `detect` of a mask, or remove it"
            )


def _roles_without_access(document: PolicySections, located: Located) -> Iterable[Fault]:
    given = {role for entry in document.access for role in entry.roles}
    for index, rule in enumerate(document.rules):
        if rule.postgres is None and rule.ssh is None and not rule.is_about_http:
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
        if rule.mcp is not None:
            yield located.fault(
                ("rules", index, "mcp"),
                "has no effect: this version has no door for mcp",
                "keep it for later, or remove it",
            )


def _commands_without_arguments(document: PolicySections, located: Located) -> Iterable[Fault]:
    """`deny exec: [reboot]` leaves `reboot -f` alone, which is seldom what somebody means."""
    for index, rule in enumerate(document.rules):
        if rule.effect == "allow" or rule.ssh is None:
            continue
        for position, text in enumerate(rule.ssh.exec or ()):
            if CommandPattern(text).has_one_word:
                yield located.fault(
                    ("rules", index, "ssh", "exec", position),
                    f"means `{text}` without arguments only",
                    f"write `{text} *` for the command with any arguments, also none",
                )


def _one_segment(document: PolicySections, located: Located) -> Iterable[Fault]:
    """`deny paths: ["/admin/*"]` leaves `/admin/users/1` alone, which is seldom what somebody means."""
    for index, rule in enumerate(document.rules):
        if rule.effect == "allow" or rule.http is None:
            continue
        paths = rule.http.paths or ()
        for position, text in enumerate(paths):
            if text.endswith("/*") and f"{text}*" not in paths:
                yield located.fault(
                    ("rules", index, "http", "paths", position),
                    f"means one segment behind `{text[:-2]}/`, and nothing below that",
                    f"write `{text}*` for all that is below",
                )


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _misspelt_methods(document: PolicySections, located: Located) -> Iterable[Fault]:
    for index, rule in enumerate(document.rules):
        for position, text in enumerate(rule.http.methods or () if rule.http is not None else ()):
            near = closest(text, _METHODS)
            if text not in _METHODS and near:
                yield located.fault(
                    ("rules", index, "http", "methods", position),
                    f"`{text}` is a method that few servers have",
                    f"{near}keep it if it is meant",
                )


# --- masks that name the same column ------------------------------------------------------------------------


def _overlapping_masks(masks: Sequence[MaskSection], located: Located) -> Iterable[Fault]:
    """One warning for each pair of masks that can name one column, at the later of the two."""
    known = _KnownColumns()
    for index, mask in enumerate(masks):
        reported: set[int] = set()
        for position, text in enumerate(mask.columns or ()):
            pattern = column_pattern(text)
            for other, its in known.near(pattern):
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
            known.add(index, pattern)


class _KnownColumns:
    """Patterns of columns, each with a number, found by what their relation or their column begins with.

    Two can name one column only if, of both parts, what one begins with begins the other.
    """

    def __init__(self) -> None:
        self._parts = (_ByHead(), _ByHead())

    def add(self, number: int, pattern: NamePattern) -> None:
        for part, glob in zip(self._parts, pattern.parts[1:], strict=True):
            part.add(glob.head, (number, pattern))

    def near(self, pattern: NamePattern) -> Iterable[tuple[int, NamePattern]]:
        near = [part.near(glob.head) for part, glob in zip(self._parts, pattern.parts[1:], strict=True)]
        rows = min(near, key=lambda rows: sum(map(len, rows)))
        return sorted((entry for row in rows for entry in row), key=lambda entry: entry[0])


class _ByHead:
    def __init__(self) -> None:
        self._at: dict[str, list[tuple[int, NamePattern]]] = {}
        self._below: dict[str, list[tuple[int, NamePattern]]] = {}  # what begins with it, itself too

    def add(self, head: str, entry: tuple[int, NamePattern]) -> None:
        self._at.setdefault(head, []).append(entry)
        for end in range(len(head) + 1):
            self._below.setdefault(head[:end], []).append(entry)

    def near(self, head: str) -> list[list[tuple[int, NamePattern]]]:
        shorter = [self._at.get(head[:end], []) for end in range(len(head))]
        return [*shorter, self._below.get(head, [])]


def _selectors_meet(one: Targets | None, other: Targets | None) -> bool:
    if one is None or other is None or one.protocol is None or other.protocol is None:
        return True
    return one.protocol == other.protocol
