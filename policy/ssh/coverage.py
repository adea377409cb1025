"""Is every command of an exec allowed by something? Silence is deny.

Owns cover of commands only: each must lie inside an allow rule, or inside a hold rule that holds the text anyway, with
its assignments and redirections; a command that is explained (`sh -c TEXT`, `env CMD`) also when everything that it
runs is allowed. Called by `policy.ssh.evaluate`. What deny rules say is decided there and beats all of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from policy.conditions.answers import Answers
from policy.conditions.bundles import Bundle
from policy.decision import Reason
from policy.facts import SimpleCommand
from policy.shown_text import shown
from policy.ssh.sight import Sight
from policy.ssh.wording import ASK, command_text, redirect_text
from policy.ssh_rules.commands import base_name
from policy.ssh_rules.index import SshRuleIndex
from policy.ssh_rules.rule import SshRule

# A wrapper found elsewhere may be another program of the same name, and what it does is not explained.
_KNOWN_DIRECTORIES = frozenset({"", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin"})
_ASK = f"{ASK[:1].upper()}{ASK[1:]}."


class CommandCoverage:
    """What covers the commands of one text. `used`: names of the rules that do; `gaps`: a reason for each part left."""

    def __init__(
        self,
        allows: SshRuleIndex,
        holds: SshRuleIndex,
        holding: Sequence[SshRule],
        commands: Iterable[SimpleCommand],
        sight: Sight,
        answers: Answers,
    ) -> None:
        self._answers = answers
        self._allows = allows
        self._holds = holds
        self._holding = holding
        self.used: dict[str, None] = {}
        self.gaps: list[Reason] = [*self._unseen_gaps(sight), *self._command_gaps(commands)]

    def _unseen_gaps(self, sight: Sight) -> Iterator[Reason]:
        if not sight.unseen:
            return
        rule = self._answers.covering(self._allows.for_every_text)
        if rule is None:
            rule = self._answers.covering_of([rule for rule in self._holding if rule.means_every_text])
        if rule is not None:
            self.used[rule.name] = None
            return
        for why in sight.unseen:
            yield Reason(
                "",
                f"no rule allows commands that cannot be seen: {why}",
                'Write the command in a simpler form, or ask the owners of the policy: only `exec: ["*"]` allows it.',
            )

    def _command_gaps(self, commands: Iterable[SimpleCommand]) -> Iterator[Reason]:
        pending = list(reversed(tuple(commands)))
        while pending:
            command = pending.pop()
            rule = self._covering(command)
            if rule is not None:
                self.used[rule.name] = None
            elif _is_explained(command):
                pending.extend(_within(inner, command) for inner in reversed(command.inner))
            else:
                yield self._gap(command)

    def _covering(self, command: SimpleCommand) -> SshRule | None:
        rule = self._answers.covering(self._allows.covering_command(command))
        if rule is None and self._holding:
            near = self._held(self._holds.covering_command(command))
            rule = self._answers.covering_of(near)
        return rule

    def _held(self, bundles: Iterable[Bundle[SshRule]]) -> list[SshRule]:
        meant = {rule.order for bundle in bundles for rule in bundle.not_false(self._answers)}
        return [rule for rule in self._holding if rule.order in meant]

    def _are_covered(self, command: SimpleCommand) -> bool:
        """Are the words of the command allowed, whatever stands around them?"""
        if any(True for _ in self._allows.covering_words(command)):
            return True
        return bool(self._holding) and bool(self._held(self._holds.covering_words(command)))

    @property
    def _has_every_command(self) -> bool:
        return self._allows.has_every_command or any(rule.has_every_command for rule in self._holding)

    def _gap(self, command: SimpleCommand) -> Reason:
        text = command_text(command)
        if self._are_covered(command) or not command.words:
            return _gap_around(command, text, has_every_command=self._has_every_command)
        name = command.words[0].text
        if "/" in name:
            bare = msgspec.structs.replace(command.words[0], text=base_name(name))
            by_name = msgspec.structs.replace(command, words=(bare, *command.words[1:]))
            if command.words[0].is_known and self._are_covered(by_name):
                return Reason("", f"no rule allows `{text}`", f"Call it as `{shown(bare.text)}`, or {ASK}.")
        unknown = next((word for word in command.words if not word.is_known), None)
        if unknown is not None:
            return Reason(
                "",
                f"no rule allows `{text}`",
                f"Write out what `{shown(unknown.text)}` stands for, or {ASK}.",
            )
        return Reason("", f"no rule allows `{text}`", _ASK)


def _gap_around(command: SimpleCommand, text: str, *, has_every_command: bool) -> Reason:
    """The command is allowed, but not with what stands around it."""
    with_what = f" with `{text}`" if command.words else ""
    if command.assignments and not has_every_command:
        name = shown(command.assignments[0])
        return Reason(
            "",
            f"no rule allows the assignment to `{name}`{with_what}",
            'Leave it out, or ask the owners of the policy: only `exec: ["*"]` allows assignments.',
        )
    if command.redirects:
        texts = ", ".join(f"`{redirect_text(redirect)}`" for redirect in command.redirects[:5])
        return Reason(
            "",
            f"no rule allows the redirection {texts}{with_what}",
            f"Leave it out, or {ASK} (`redirects`).",
        )
    return Reason("", f"no rule allows `{text}`", _ASK)


def _is_explained(command: SimpleCommand) -> bool:
    if not command.is_explained or not command.inner or command.reads_code or not command.words:
        return False
    first = command.words[0]
    return first.is_known and first.text.rpartition("/")[0] in _KNOWN_DIRECTORIES


def _within(inner: SimpleCommand, outer: SimpleCommand) -> SimpleCommand:
    """What an explained command runs has what stands around that command."""
    if not outer.assignments and not outer.redirects:
        return inner
    return msgspec.structs.replace(
        inner,
        assignments=(*outer.assignments, *inner.assignments),
        redirects=(*outer.redirects, *inner.redirects),
    )
