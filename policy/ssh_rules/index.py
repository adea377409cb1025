"""Rules of one effect, found by what an operation does, so that the others need not be looked at.

Finds candidates by the words, paths and addresses of their patterns and asks each of them; the answers are those of the
patterns. Built once for each set of roles at a target (`policy.view`), asked by `policy.ssh.evaluate` and
`policy.ssh.coverage`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cached_property

from policy.conditions.bundles import Bundle, bundled, in_order
from policy.facts import Redirect, SimpleCommand, SshFacts, SshOperation, Word
from policy.narrowing import Narrowing, Need, Needs
from policy.ssh_rules.addresses import AddressPattern, Endpoint
from policy.ssh_rules.paths import FILE_VERBS, TWO_NAMES, WHOLE_VERBS
from policy.ssh_rules.rule import SshRule, paths_of, redirected
from policy.ssh_rules.shown import ANYTHING, REDIRECT, AddressShown, CommandShown, NameShown, PathShown

Rules = tuple[Bundle[SshRule], ...]

_ANY = (Word("", is_known=False),)


class SshRuleIndex:
    """Rules of one effect for one set of roles at one target, in the document's order."""

    def __init__(self, rules: Iterable[SshRule]) -> None:
        self.rules = tuple(rules)
        self.bundles = bundled(self.rules)
        self.shell = self._those(lambda rule: rule.shell)
        self.agent = self._those(lambda rule: rule.agent)
        self.x11 = self._those(lambda rule: rule.x11)
        self.about_files = self._those(lambda rule: rule.is_about_files)
        self.for_every_text = self._those(lambda rule: rule.means_every_text)
        self.has_every_command = any(rule.has_every_command for rule in self.rules)
        self.depends_on_words = any(rule.depends_on_words for rule in self.rules)
        self.depends_on_paths = any(rule.depends_on_paths for rule in self.rules)
        self._forward = _Addresses(self.bundles, lambda rule: rule.forward)
        self._listen = _Addresses(self.bundles, lambda rule: rule.listen)

    def _those(self, is_meant: Callable[[SshRule], bool]) -> Rules:
        return tuple(bundle for bundle in self.bundles if is_meant(bundle.first))

    def prepare(self) -> None:
        """Makes what is otherwise made when it is first needed."""
        _ = (self._touching, self._covering, self._files, self._subsystems)
        self._forward.prepare()
        self._listen.prepare()

    # --- exec ---

    def touching_commands(
        self, commands: Iterable[SimpleCommand], redirects: Sequence[Redirect]
    ) -> list[tuple[Bundle[SshRule], SimpleCommand]]:
        """Those that touch one of the commands, each with the first that it touches."""
        found: dict[int, tuple[Bundle[SshRule], SimpleCommand]] = {}
        seen: set[tuple[Word, ...]] = set()
        written = [redirected(redirect) for redirect in redirects]
        for command in commands:
            # Words decide, and one command that may be any touches what all such commands touch.
            words = command.words if not command.words or command.words[0].is_known else _ANY
            if words in seen:
                continue
            seen.add(words)
            for bundle in self._touching.find(CommandShown(command, written, is_touched=True)):
                rule = bundle.first
                if rule.order in found or not any(
                    pattern.touches(command) for pattern in rule.commands or ()
                ):
                    continue
                if rule.touches_redirects(redirects):
                    found[rule.order] = (bundle, command)
        return [found[order] for order in sorted(found)]

    @cached_property
    def _touching(self) -> Narrowing[Bundle[SshRule]]:
        return Narrowing(
            ({**pattern.needs_to_touch(), **_redirects(bundle.first)}, bundle)
            for bundle in self.bundles
            for pattern in bundle.first.commands or ()
        )

    def covering_words(self, command: SimpleCommand) -> Iterator[Bundle[SshRule]]:
        """Those that cover the command's words, whatever stands around them; in no order."""
        return self._near(CommandShown(command, ANYTHING, is_touched=False), command)

    def covering_command(self, command: SimpleCommand) -> Rules:
        """Those that cover the command with what stands around it."""
        written = [redirected(redirect) for redirect in command.redirects[:1]]
        near = self._near(CommandShown(command, written or ANYTHING, is_touched=False), command)
        return in_order(bundle for bundle in near if bundle.first.covers_around(command))

    def _near(self, shown: CommandShown, command: SimpleCommand) -> Iterator[Bundle[SshRule]]:
        for bundle in self._covering.find(shown):
            if any(pattern.covers(command) for pattern in bundle.first.commands or ()):
                yield bundle

    @cached_property
    def _covering(self) -> Narrowing[Bundle[SshRule]]:
        return Narrowing(
            ({**pattern.needs_to_cover(), **_redirects(bundle.first)}, bundle)
            for bundle in self.bundles
            for pattern in bundle.first.commands or ()
        )

    # --- files ---

    def touching_file(self, facts: SshFacts) -> Rules:
        reaches_down = facts.verb in TWO_NAMES or facts.verb in WHOLE_VERBS or facts.verb not in FILE_VERBS
        near = [
            bundle
            for path in paths_of(facts)
            for bundle in self._files.find(PathShown(path, reaches_down=reaches_down))
        ]
        return tuple(bundle for bundle in in_order(near) if bundle.first.touches_file(facts))

    def covering_file(self, facts: SshFacts) -> Rules:
        near = self._files.find(PathShown(paths_of(facts)[0], reaches_down=False))
        return tuple(bundle for bundle in in_order(near) if bundle.first.covers_file(facts))

    @cached_property
    def _files(self) -> Narrowing[Bundle[SshRule]]:
        return Narrowing(
            ({} if pattern is None else pattern.needs(), bundle)
            for bundle in self.about_files
            for pattern in bundle.first.paths or (None,)
        )

    # --- the rest ---

    def by_subsystem(self, name: str) -> Rules:
        near = in_order(self._subsystems.find(NameShown(name)))
        return tuple(bundle for bundle in near if bundle.first.means_subsystem(name))

    @cached_property
    def _subsystems(self) -> Narrowing[Bundle[SshRule]]:
        about = (bundle for bundle in self.bundles if bundle.first.subsystems is not None)
        return Narrowing(({NameShown.NAME: bundle.first.subsystems or ()}, bundle) for bundle in about)

    def touching_address(self, operation: SshOperation, where: Endpoint) -> Rules:
        return self._addresses(operation).touching(where)

    def covering_address(self, operation: SshOperation, where: Endpoint) -> Rules:
        return self._addresses(operation).covering(where)

    def _addresses(self, operation: SshOperation) -> _Addresses:
        return self._listen if operation is SshOperation.LISTEN else self._forward


class _Addresses:
    """Rules by the addresses that they list."""

    def __init__(self, bundles: Rules, listed: Callable[[SshRule], Sequence[AddressPattern] | None]) -> None:
        self._listed = listed
        self._bundles = tuple(bundle for bundle in bundles if listed(bundle.first) is not None)

    def prepare(self) -> None:
        _ = (self._hosts, self._sockets)

    def touching(self, where: Endpoint) -> Rules:
        return self._meaning(where, lambda pattern: pattern.touches(where), is_touched=True)

    def covering(self, where: Endpoint) -> Rules:
        return self._meaning(where, lambda pattern: pattern.covers(where), is_touched=False)

    def _meaning(
        self, where: Endpoint, means: Callable[[AddressPattern], bool], *, is_touched: bool
    ) -> Rules:
        if where.is_socket:
            near = self._sockets.find(PathShown(where.socket, reaches_down=False))
        else:
            near = self._hosts.find(AddressShown(where, is_touched=is_touched))
        return tuple(bundle for bundle in in_order(near) if any(map(means, self._listed(bundle.first) or ())))

    @cached_property
    def _hosts(self) -> Narrowing[Bundle[SshRule]]:
        return Narrowing(
            (pattern.needs(), bundle) for pattern, bundle in self._pairs() if pattern.socket is None
        )

    @cached_property
    def _sockets(self) -> Narrowing[Bundle[SshRule]]:
        return Narrowing(
            (pattern.socket.needs(), bundle)
            for pattern, bundle in self._pairs()
            if pattern.socket is not None
        )

    def _pairs(self) -> Iterator[tuple[AddressPattern, Bundle[SshRule]]]:
        return ((pattern, bundle) for bundle in self._bundles for pattern in self._listed(bundle.first) or ())


def _redirects(rule: SshRule) -> Needs:
    """Part by part: one of the patterns, as far as all of them say something."""
    patterns = rule.redirects
    if not patterns:
        return {}
    first, *others = (pattern.needs(REDIRECT) for pattern in patterns)
    return {
        dimension: _together(need, [needs[dimension] for needs in others])
        for dimension, need in first.items()
        if all(dimension in needs for needs in others)
    }


def _together(need: Need, others: Iterable[Need]) -> Need:
    found: list[Hashable] = []
    for each in (need, *others):
        found.extend(each if isinstance(each, Sequence) else ())
    return tuple(found)
