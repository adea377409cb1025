"""What the commands about tapes share: which tape is meant, how it is opened, what is said of one that is not whole."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from proxyd.cli.options import DEFAULT_CONFIG

if TYPE_CHECKING:
    from proxyd.tape.reader import Tape

CANNOT_READ = 3
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--config",
        "-c",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration, which names the directory of the tapes (default: {DEFAULT_CONFIG})",
    )
    place.add_argument("--directory", "-d", type=Path, metavar="DIRECTORY", help="the directory of the tapes")


def add_tape(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tape", metavar="TAPE", help="a session id, the beginning of one, or a path")
    add_place(parser)


def add_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows",
        type=_count,
        default=100,
        metavar="N",
        help="rows shown of each result, lines of each body (default: 100)",
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows")
    return int(text)


def duration(text: str) -> float:
    """Seconds of "500ms", "1s", "2m"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 500ms, 1s or 2m")
    return float(match[1]) * _UNITS[match[2]]


def open_tape(options: argparse.Namespace) -> Tape:
    """The tape that `add_tape` asked for. Raises TapeError, or DocumentError for a bad configuration."""
    from proxyd.tape.reader import find_tape, read_tape  # noqa: PLC0415

    is_path = "/" in options.tape or options.tape.endswith(".tape")
    return read_tape(find_tape(None if is_path else directory(options), options.tape))


def directory(options: argparse.Namespace) -> Path:
    """Where the tapes are, by `add_place`."""
    if options.directory is not None:
        return Path(options.directory)
    from proxyd.config import LoadedConfig  # noqa: PLC0415

    return LoadedConfig.read(options.config).config.tapes.directory


def report(tape: Tape) -> int:
    """Say when what was shown is not a whole tape. Status 2 for a tape that was tampered with, else 0."""
    from proxyd.tape.format import Tampered, Whole  # noqa: PLC0415
    from proxyd.tape.wording import verdict_line  # noqa: PLC0415

    verdict = tape.verdict
    if not isinstance(verdict, Whole):
        sys.stdout.flush()
        print(f"proxyd: {tape.path}: {verdict_line(verdict, is_live=tape.is_live)}", file=sys.stderr)
    return 2 if isinstance(verdict, Tampered) else 0


def write_lines(out: TextIO, lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=out)
