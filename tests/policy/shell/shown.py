"""Commands written as short lines, so that tests read as tables."""

from __future__ import annotations

from policy.facts import SimpleCommand
from policy.shell.analyze import analyze_command


def shown(command: SimpleCommand) -> str:
    """`x= rm a ?$b >f`: assignments, words with "?" before those that are not known, redirections; what it runs itself
    in brackets: round where that explains it, square where not; "reads code" where it takes commands from its input."""
    parts = [f"{name}=" for name in command.assignments]
    for word in command.words:
        text = word.text if word.text and " " not in word.text else f"'{word.text}'"
        parts.append(text if word.is_known else f"?{word.text}")
    parts += [f"{redirect.operator}{redirect.word.text}" for redirect in command.redirects]
    if command.inner:
        inner = ", ".join(shown(other) for other in command.inner)
        parts.append(f"({inner})" if command.is_explained else f"[{inner}]")
    if command.reads_code:
        parts.append("reads code")
    return " ".join(parts)


def commands_of(text: str | bytes) -> list[str]:
    return [shown(command) for command in analyze_command(text).commands]


def resolved(text: str) -> list[str]:
    """The commands of a text that must be resolved."""
    analysis = analyze_command(text)
    assert analysis.unresolved == (), text[:200]
    return [shown(command) for command in analysis.commands]


def inner_of(text: str) -> list[str]:
    """What the only command of a text runs itself."""
    (command,) = analyze_command(text).commands
    return [shown(other) for other in command.inner]


def is_unresolved(text: str | bytes) -> bool:
    return bool(analyze_command(text).unresolved)
