"""One rule about SSH, compiled: does it touch this operation, does it cover it?

A rule is about an operation when it has the key for it; with several keys it is about each of them. `paths` and
`files` are one key in two halves, and so are `exec` and `redirects`. The two questions are those of `policy.rules`.
What follows from the rules together is `policy.ssh.evaluate`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from policy.decision import Effect
from policy.facts import Redirect, SimpleCommand, SshFacts, Target
from policy.patterns import Glob
from policy.rules import Condition, Selector
from policy.ssh_rules.addresses import AddressPattern
from policy.ssh_rules.commands import CommandPattern
from policy.ssh_rules.paths import FILE_VERBS, TWO_NAMES, WHOLE_VERBS, Parts, PathPattern, Reach, normal_parts


@dataclass(frozen=True, slots=True, eq=False)
class SshRule:
    """One rule about SSH.

    commands, redirects, subsystems, forward, listen: None where the rule has no such key. verbs: the file operations
    that it is about, empty for none. paths: None for every path. shape: equal for rules that say the same but for their
    condition.
    """

    order: int
    name: str
    effect: Effect
    roles: frozenset[str] | None
    targets: Selector | None
    shell: bool
    commands: tuple[CommandPattern, ...] | None
    redirects: tuple[PathPattern, ...] | None
    subsystems: tuple[Glob, ...] | None
    verbs: frozenset[str]
    paths: tuple[PathPattern, ...] | None
    forward: tuple[AddressPattern, ...] | None
    listen: tuple[AddressPattern, ...] | None
    agent: bool
    x11: bool
    message: str
    approvers: tuple[str, ...]
    approvals: int
    condition: Condition | None = None
    shape: Hashable = ()

    def applies(self, roles: frozenset[str], target: Target) -> bool:
        return (self.roles is None or not self.roles.isdisjoint(roles)) and (
            self.targets is None or self.targets.matches(target)
        )

    # --- exec ---

    @property
    def has_every_command(self) -> bool:
        return any(pattern.is_any for pattern in self.commands or ())

    @property
    def means_every_text(self) -> bool:
        """Every exec is meant, also one that could not be taken apart or that has no command in it."""
        return self.has_every_command and self.redirects is None

    @property
    def depends_on_words(self) -> bool:
        """Must commands be seen to know whether the rule means them?"""
        return self.redirects is not None or any(not pattern.is_any for pattern in self.commands or ())

    def touches_redirects(self, redirects: Iterable[Redirect]) -> bool:
        """Whichever command of the text they belong to: a pipe or a group has what one of its commands has."""
        if self.redirects is None:
            return True
        return any(
            pattern.may_match(redirected(redirect)) for redirect in redirects for pattern in self.redirects
        )

    def covers_around(self, command: SimpleCommand) -> bool:
        """The command's words aside: does the rule allow its assignments and its redirections?"""
        if command.assignments and not self.has_every_command:
            return False
        if self.redirects is None:
            return not command.redirects or self.has_every_command
        return all(
            any(pattern.covers(redirected(redirect)) for pattern in self.redirects)
            for redirect in command.redirects
        )

    # --- files ---

    @property
    def is_about_files(self) -> bool:
        return bool(self.verbs)

    @property
    def depends_on_paths(self) -> bool:
        if self.condition is not None and any("path" in name for name in self.condition.names):
            return True
        return any(not pattern.is_any for pattern in self.paths or ())

    def touches_file(self, facts: SshFacts) -> bool:
        """A rule with `paths` is about every rename and link to and from them, whatever verbs it lists: these bring
        a file out of them, or another in."""
        if not self.verbs:
            return False
        is_named = facts.verb in self.verbs or facts.verb not in FILE_VERBS
        if self.paths is None or not (is_named or facts.verb in TWO_NAMES):
            return is_named
        paths = paths_of(facts)
        return any(_touches(pattern, facts.verb, paths) for pattern in self.paths)

    def covers_file(self, facts: SshFacts) -> bool:
        if facts.verb not in self.verbs:
            return False
        return self.paths is None or all(
            any(pattern.covers(path) for pattern in self.paths) for path in paths_of(facts)
        )

    # --- subsystems ---

    def means_subsystem(self, name: str) -> bool:
        return any(glob.matches(name) for glob in self.subsystems or ())


def _touches(pattern: PathPattern, verb: str, paths: Sequence[Parts | None]) -> bool:
    reached = [Reach.MATCH if path is None else pattern.reach(path) for path in paths]
    if Reach.MATCH in reached:
        return True
    if verb in TWO_NAMES:
        # What `**` finds below one name it finds below the other, when both are where it stands for anything.
        return Reach.BELOW in reached or (Reach.ANYWHERE in reached and Reach.NOTHING in reached)
    return verb in WHOLE_VERBS and Reach.BELOW in reached


def paths_of(facts: SshFacts) -> tuple[Parts | None, ...]:
    """The paths of a file operation, in parts; None for one that could be any."""
    if facts.verb in TWO_NAMES or facts.other_path:
        return normal_parts(facts.path), normal_parts(facts.other_path)
    return (normal_parts(facts.path),)


def redirected(redirect: Redirect) -> Parts | None:
    """The file of a redirection, in parts; None for one that could be any."""
    return normal_parts(redirect.word.text) if redirect.word.is_known else None
