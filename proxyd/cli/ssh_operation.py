"""Options of `proxyd explain` that name an SSH operation, and the facts that they stand for.

Called by `proxyd.cli.explain`. The facts are those that a session would judge, but for what only the target knows.
"""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import posixpath
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policy.facts import SshFacts, SshOperation


def add_operations(parser: argparse._MutuallyExclusiveGroup) -> None:
    parser.add_argument("--shell", action="store_true", help="an interactive shell")
    parser.add_argument("--exec", type=_text, metavar="TEXT", help="a command, as the client would send it")
    parser.add_argument("--subsystem", metavar="NAME", help="a subsystem, as in sftp")
    parser.add_argument(
        "--file",
        nargs="+",
        action=_FileAction,
        metavar=("VERB", "PATH"),
        help="an operation inside sftp; rename and link take two paths",
    )
    parser.add_argument(
        "--forward", type=_address, metavar="HOST:PORT", help="a connection from the target, or unix:/PATH"
    )
    parser.add_argument(
        "--listen", type=_address, metavar="HOST:PORT", help="a listener on the target, or unix:/PATH"
    )
    parser.add_argument("--agent", action="store_true", help="forwarding of the key agent")
    parser.add_argument("--x11", action="store_true", help="forwarding of the display")


def operation_of(options: argparse.Namespace) -> SshFacts:
    """The facts of the one operation that the options name."""
    from policy.facts import SshFacts, SshOperation

    if options.exec is not None:
        from proxyd.gates.ssh.judge import exec_facts

        return exec_facts(options.exec.encode(), has_pty=False)
    if options.subsystem is not None:
        return SshFacts(SshOperation.SUBSYSTEM, options.subsystem)
    if options.file is not None:
        verb, path, *other = options.file
        paths = ["/" + posixpath.normpath(each).lstrip("/") for each in (path, *other)]
        return SshFacts(SshOperation.FILE, verb=verb, path=paths[0], other_path=paths[1] if other else "")
    if options.forward is not None:
        return _endpoint(SshOperation.FORWARD, options.forward)
    if options.listen is not None:
        return _endpoint(SshOperation.LISTEN, options.listen)
    if options.agent:
        return SshFacts(SshOperation.AGENT)
    return SshFacts(SshOperation.X11 if options.x11 else SshOperation.SHELL, has_pty=bool(options.shell))


def _endpoint(operation: SshOperation, address: tuple[str, int]) -> SshFacts:
    from policy.facts import SshFacts

    host, port = address
    if port < 0:
        return SshFacts(operation, path=host)
    return SshFacts(operation, host=host, port=port)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("not UTF-8") from None
    return text


def _address(text: str) -> tuple[str, int]:
    """Host and port; a path and -1 for a socket."""
    if text.startswith("unix:/"):
        return text.removeprefix("unix:"), -1
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT or unix:/PATH")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return host, int(port)


class _FileAction(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        from policy.ssh_rules.paths import FILE_VERBS, TWO_NAMES

        words = [str(value) for value in values] if isinstance(values, (list, tuple)) else []
        if words[:1] and words[0] not in FILE_VERBS:
            parser.error(f"argument --file: {words[0]!r} is not one of {', '.join(sorted(FILE_VERBS))}")
        wanted = 3 if words[:1] and words[0] in TWO_NAMES else 2
        if len(words) != wanted:
            parser.error(f"argument --file: {words[0]} takes {'two paths' if wanted == 3 else 'one path'}")
        if not all(path.startswith("/") for path in words[1:]):
            parser.error("argument --file: give absolute paths")
        setattr(namespace, self.dest, words)
