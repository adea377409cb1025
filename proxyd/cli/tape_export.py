"""`proxyd tape export`: a tape in the format of another program."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from proxyd.cli.tape_options import add_tape, duration, open_tape, report

if TYPE_CHECKING:
    from proxyd.tape.entries import TapeHeader
    from proxyd.tape.reader import Tape

_ASCIICAST = "asciicast"
_HAR = "har"
_DESCRIPTION = """\
Write the terminal of an SSH session as an asciicast, which asciinema and its players show, or an HTTP session as a HAR
file, which the developer tools of browsers show. Typed input is in an asciicast as far as it is on the tape; sequences
that could harm a terminal are not."""


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = actions.add_parser("export", help="write a tape for another program", description=_DESCRIPTION)
    add_tape(parser)
    parser.add_argument(
        "--format",
        choices=(_ASCIICAST, _HAR),
        help="the format (default: har for HTTP, asciicast for everything else)",
    )
    parser.add_argument(
        "--asciicast-version", type=int, choices=(2, 3), default=2, help="its version (default: 2)"
    )
    parser.add_argument(
        "--channel",
        type=int,
        metavar="N",
        help="asciicast: the channel, by its number in `tape show` (default: the first with a terminal)",
    )
    parser.add_argument(
        "--idle-limit",
        type=duration,
        metavar="TIME",
        help="asciicast: tell players to wait at most so long at once",
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
    from proxyd.tape.entries import HTTP  # noqa: PLC0415

    with open_tape(options) as tape:
        if tape.header is None:
            return report(tape)
        default = _HAR if tape.header.protocol == HTTP else _ASCIICAST
        write = _write_har if (options.format or default) == _HAR else _write_asciicast
        write(tape, tape.header, options)
        return report(tape)


def _write_asciicast(tape: Tape, header: TapeHeader, options: argparse.Namespace) -> None:
    from proxyd.tape.asciicast import Asciicast  # noqa: PLC0415

    cast = Asciicast(
        header,
        version=options.asciicast_version,
        channel=options.channel,
        idle_limit_s=options.idle_limit,
    )
    _write(options.output, (f"{line}\n".encode("utf-8", "replace") for line in cast.lines(tape.entries())))


def _write_har(tape: Tape, header: TapeHeader, options: argparse.Namespace) -> None:
    from proxyd.tape.har import HarExport  # noqa: PLC0415
    from proxyd.tape.wording import verdict_line  # noqa: PLC0415

    with HarExport(header) as har:
        pieces = har.pieces(tape.entries(), lambda: verdict_line(tape.verdict, is_live=tape.is_live))
        _write(options.output, (piece.encode("ascii") for piece in pieces))


def _write(output: Path | None, data: Iterator[bytes]) -> None:
    """A file that exists is not touched, and a new one is private."""
    from proxyd.tape.errors import TapeError  # noqa: PLC0415

    first = next(data, b"")  # a tape without a terminal leaves no empty file behind
    if output is None:
        sys.stdout.flush()
        for piece in itertools.chain((first,), data):
            sys.stdout.buffer.write(piece)
        return
    try:
        fd = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(first)
            file.writelines(data)
    except OSError as error:
        raise TapeError(f"cannot write {output}: {error.strerror}") from error
