"""`proxyd tape export`: a tape in the format of another program."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from proxyd.cli.tape_options import add_tape, duration, open_tape, report

_DESCRIPTION = """\
Write the terminal of an SSH session as an asciicast, which asciinema and its players show. Typed input is in it as
far as it is on the tape; sequences that could harm a terminal are not."""


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("export", help="write a tape for asciinema", description=_DESCRIPTION)
    add_tape(parser)
    parser.add_argument(
        "--format", choices=("asciicast",), default="asciicast", help="the format (default: asciicast)"
    )
    parser.add_argument(
        "--asciicast-version", type=int, choices=(2, 3), default=2, help="its version (default: 2)"
    )
    parser.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="the channel, by its number in `tape show` (default: the first with a terminal)",
    )
    parser.add_argument(
        "--idle-limit", type=duration, metavar="TIME", help="tell players to wait at most so long at once"
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        metavar="FILE",
        help="a new file for the result (default: standard output)",
    )
    parser.set_defaults(action=_export)


def _export(options: argparse.Namespace) -> int:
    from proxyd.tape.asciicast import Asciicast  # noqa: PLC0415

    with open_tape(options) as tape:
        if tape.header is None:
            return report(tape)
        cast = Asciicast(
            tape.header,
            version=options.asciicast_version,
            channel=options.channel,
            idle_limit_s=options.idle_limit,
        )
        _write(options.output, cast.lines(tape.entries()))
        return report(tape)


def _write(output: Path | None, lines: Iterable[str]) -> None:
    """UTF-8, whatever the locale: the format says so. A file that exists is not touched, and a new one is private."""
    from proxyd.tape.errors import TapeError  # noqa: PLC0415

    data = (f"{line}\n".encode("utf-8", "replace") for line in lines)
    first = next(data, b"")  # a tape without a terminal leaves no empty file behind
    if output is None:
        sys.stdout.flush()
        for line in (first, *data):
            sys.stdout.buffer.write(line)
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(first)
            file.writelines(data)
    except OSError as error:
        raise TapeError(f"cannot write {output}: {error.strerror}") from error
