"""Rules of one effect, found by what an operation does, so that the others need not be looked at.

Finds candidates by the fixed words of their patterns and asks each of them; the answers are those of the patterns.
Built once for each set of roles at a target (`policy.view`), asked by `policy.ssh.evaluate` and `policy.ssh.coverage`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from policy.facts import Redirect, SimpleCommand, SshFacts, SshOperation, Word
from policy.patterns import NamePattern, PatternIndex
from policy.ssh_rules.addresses import OWN, AddressPattern, Endpoint
from policy.ssh_rules.commands import CommandPattern, base_name
from policy.ssh_rules.paths import FILE_VERBS, TWO_NAMES, WHOLE_VERBS
from policy.ssh_rules.prefixes import PrefixIndex
from policy.ssh_rules.rule import SshRule, paths_of

Rules = Iterable[SshRule]

LONGEST_NAME = 255
_ANY = (Word("", is_known=False),)


class SshRuleIndex:
    """Rules of one effect for one set of roles at one target, in the document's order."""

    def __init__(self, rules: Rules) -> None:
        self.rules = tuple(rules)
        commands = [(pattern, rule) for rule in self.rules for pattern in rule.commands or ()]
        self._touching = PrefixIndex(
            (pattern.fixed_for_touching(), (pattern, rule)) for pattern, rule in commands
        )
        self._covering = PrefixIndex(
            (pattern.fixed_for_covering(), (pattern, rule)) for pattern, rule in commands
        )
        self._subsystems = PatternIndex(
            (NamePattern(glob.text, (glob,)), rule) for rule in self.rules for glob in rule.subsystems or ()
        )
        about_files = [rule for rule in self.rules if rule.is_about_files]
        self._files = PrefixIndex(
            (fixed, rule)
            for rule in about_files
            for fixed in ([()] if rule.paths is None else [pattern.fixed for pattern in rule.paths])
        )
        self._forward = _Addresses((pattern, rule) for rule in self.rules for pattern in rule.forward or ())
        self._listen = _Addresses((pattern, rule) for rule in self.rules for pattern in rule.listen or ())
        self.shell = tuple(rule for rule in self.rules if rule.shell)
        self.agent = tuple(rule for rule in self.rules if rule.agent)
        self.x11 = tuple(rule for rule in self.rules if rule.x11)
        self.about_files = tuple(about_files)
        self.for_every_text = tuple(rule for rule in self.rules if rule.means_every_text)
        self.depends_on_words = any(rule.depends_on_words for rule in self.rules)
        self.depends_on_paths = any(rule.depends_on_paths for rule in self.rules)

    # --- exec ---

    def touching_commands(
        self, commands: Iterable[SimpleCommand], redirects: Sequence[Redirect]
    ) -> list[tuple[SshRule, SimpleCommand]]:
        """Each rule that touches one of the commands, with the first that it touches."""
        found: dict[int, tuple[SshRule, SimpleCommand]] = {}
        seen: set[tuple[Word, ...]] = set()
        for command in commands:
            # Words decide, and one command that may be any touches what all such commands touch.
            words = command.words if not command.words or command.words[0].is_known else _ANY
            if words in seen:
                continue
            seen.add(words)
            for pattern, rule in self._near(command):
                if rule.order in found or not pattern.touches(command):
                    continue
                if rule.touches_redirects(redirects):
                    found[rule.order] = (rule, command)
        return [found[order] for order in sorted(found)]

    def _near(self, command: SimpleCommand) -> Iterator[tuple[CommandPattern, SshRule]]:
        known: list[str] = []
        for word in command.words:
            if not word.is_known:
                return self._touching.around(known)
            known.append(word.text if known else base_name(word.text))
        return self._touching.along(known)

    def covering_command(self, command: SimpleCommand) -> Iterator[SshRule]:
        """The rules that cover the command's words; the rest of it is for `SshRule.covers_around`."""
        known: list[str] = []
        for word in command.words:
            if not word.is_known:
                break
            known.append(word.text)
        return (rule for pattern, rule in self._covering.along(known) if pattern.covers(command))

    # --- files ---

    def touching_file(self, facts: SshFacts) -> list[SshRule]:
        return _in_order(rule for rule in self._about_paths(facts) if rule.touches_file(facts))

    def covering_file(self, facts: SshFacts) -> Iterator[SshRule]:
        return (rule for rule in self._about_paths(facts) if rule.covers_file(facts))

    def _about_paths(self, facts: SshFacts) -> Iterable[SshRule]:
        paths = paths_of(facts)
        reaches_down = facts.verb in TWO_NAMES or facts.verb in WHOLE_VERBS or facts.verb not in FILE_VERBS
        find = self._files.around if reaches_down else self._files.along
        return chain.from_iterable(self._files.around(()) if path is None else find(path) for path in paths)

    # --- the rest ---

    def by_subsystem(self, name: str) -> list[SshRule]:
        if len(name) > LONGEST_NAME:  # not worth remembering
            return [rule for rule in self.rules if rule.means_subsystem(name)]
        return _in_order(self._subsystems.find(name))

    def touching_address(self, operation: SshOperation, where: Endpoint) -> list[SshRule]:
        return _in_order(self._addresses(operation).touching(where))

    def covering_address(self, operation: SshOperation, where: Endpoint) -> Iterator[SshRule]:
        return self._addresses(operation).covering(where)

    def _addresses(self, operation: SshOperation) -> _Addresses:
        return self._listen if operation is SshOperation.LISTEN else self._forward


class _Addresses:
    """Rules by the addresses that they list."""

    def __init__(self, entries: Iterable[tuple[AddressPattern, SshRule]]) -> None:
        self._all = tuple(entries)
        self._hosts = PatternIndex(
            (key, (pattern, rule))
            for pattern, rule in self._all
            if pattern.socket is None
            for key in pattern.index_keys()
        )
        self._sockets = PrefixIndex(
            (pattern.socket.fixed, (pattern, rule))
            for pattern, rule in self._all
            if pattern.socket is not None
        )

    def touching(self, where: Endpoint) -> Iterator[SshRule]:
        return (rule for pattern, rule in self._near(where) if pattern.touches(where))

    def covering(self, where: Endpoint) -> Iterator[SshRule]:
        return (rule for pattern, rule in self._near(where) if pattern.covers(where))

    def _near(self, where: Endpoint) -> Iterable[tuple[AddressPattern, SshRule]]:
        if where.is_socket:
            return self._sockets.around(()) if where.socket is None else self._sockets.along(where.socket)
        if where.may_be_any or where.may_be_any_port:
            return self._all
        found = self._hosts.find(where.host, str(where.port))
        return (*found, *self._hosts.find(OWN, str(where.port))) if where.is_own else found


def _in_order(rules: Rules) -> list[SshRule]:
    found = {rule.order: rule for rule in rules}
    return [found[order] for order in sorted(found)]
