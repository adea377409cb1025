"""`proxyd tape`: list, show and verify the tapes of sessions. Replaying and exporting are in `tape_play` and
`tape_export`.

Reads only. Exit status of `verify`: 0 whole, 1 torn, 2 tampered with, 3 it could not be read. `show` and
`play` show what is good and say on stderr when that is not the whole tape.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from proxyd.cli import tape_export, tape_play
from proxyd.cli.tape_options import (
    CANNOT_READ,
    add_place,
    add_rows,
    add_tape,
    directory,
    duration,
    open_tape,
    report,
    write_lines,
)

if TYPE_CHECKING:
    from proxyd.tape.reader import TapeSummary

_DESCRIPTION = """\
Every session is recorded on a tape: who and what, each statement, command and file operation, the
decision and its reasons, and the replies as the client saw them, after masking. TAPE is a session id, the
beginning of one, or a path."""

_VERIFY = """\
Read a whole tape and check every frame. The hash printed last proves the whole tape: compared with the one
that the daemon logged when the session ended (--chain), it also finds a tape that was written anew."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "tape", help="list, show, replay, export and verify tapes", description=_DESCRIPTION
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listed = actions.add_parser("ls", help="list tapes", description="List tapes, oldest first.")
    add_place(listed)
    listed.add_argument("--subject", metavar="NAME", help="only sessions of this subject")
    listed.add_argument("--target", metavar="NAME", help="only sessions to this target")
    listed.add_argument(
        "--since",
        type=_since,
        metavar="WHEN",
        help="only sessions begun since: 2025-07-20, 2025-07-20T08:00, or how long ago: 30m, 8h, 7d (UTC)",
    )
    listed.add_argument("--json", action="store_true", help="one JSON object for each tape")
    listed.set_defaults(action=_list)

    shown = actions.add_parser(
        "show", help="print a tape", description="Print a whole tape with its details."
    )
    add_tape(shown)
    add_rows(shown)
    shown.add_argument("--json", action="store_true", help="one JSON object for each frame")
    shown.set_defaults(action=_show)

    tape_play.add_parser(actions)
    tape_export.add_parser(actions)

    verified = actions.add_parser(
        "verify",
        help="prove that a tape is whole and untouched",
        description=_VERIFY,
        epilog="exit status: 0 whole, 1 torn at its end (or still being written), 2 tampered with, 3 unreadable",
    )
    add_tape(verified)
    verified.add_argument("--chain", metavar="HASH", help="the final hash that the tape must have")
    verified.set_defaults(action=_verify)

    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Results go to stdout, faults to stderr."""
    from policy.located_yaml import DocumentError  # noqa: PLC0415
    from proxyd.tape.errors import TapeError  # noqa: PLC0415

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has not every character still gets every line.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(options.action(options))
    except TapeError as error:
        print(f"proxyd: {error}", file=sys.stderr)
    except DocumentError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
    return CANNOT_READ


def _list(options: argparse.Namespace) -> int:
    from proxyd.tape.errors import TapeError  # noqa: PLC0415
    from proxyd.tape.reader import summarise, tape_paths  # noqa: PLC0415

    if not options.json:
        print(_LIST_HEAD)
    status = 0
    for path in tape_paths(directory(options)):
        try:
            summary = summarise(path)
        except TapeError as error:
            print(f"proxyd: {error}", file=sys.stderr)
            status = CANNOT_READ
            continue
        if _is_wanted(summary, options):
            print(_list_json(summary) if options.json else _list_line(summary))
    return status


def _show(options: argparse.Namespace) -> int:
    from proxyd.tape import json_lines  # noqa: PLC0415
    from proxyd.tape.render import Renderer  # noqa: PLC0415
    from proxyd.tape.wording import header_lines  # noqa: PLC0415

    with open_tape(options) as tape:
        if options.json:
            if tape.header is not None:
                print(json_lines.header_json(tape.header))
            for entry in tape.entries():
                print(json_lines.entry_json(entry))
            print(json_lines.verdict_json(tape.verdict, is_live=tape.is_live))
            return report(tape)
        if tape.header is not None:
            write_lines(sys.stdout, header_lines(tape.header))
            renderer = Renderer(tape.header, max_rows=options.rows, detailed=True)
            for entry in tape.entries():
                write_lines(sys.stdout, renderer.lines(entry))
            write_lines(sys.stdout, renderer.finish())
        return report(tape)


def _verify(options: argparse.Namespace) -> int:
    from proxyd.tape.format import Tampered, Whole  # noqa: PLC0415
    from proxyd.tape.wording import verdict_line  # noqa: PLC0415

    with open_tape(options) as tape:
        verdict = tape.verdict
        print(f"{tape.path}: {verdict_line(verdict, is_live=tape.is_live)}")
        if isinstance(verdict, Tampered):
            return 2
        if options.chain is not None and verdict.chain.hex() != options.chain.strip().lower():
            print(f"{tape.path}: TAMPERED WITH: the final hash is not {options.chain}")
            return 2
        return 0 if isinstance(verdict, Whole) else 1


_COLUMNS = (
    ("SESSION", 16),
    ("STARTED (UTC)", 19),
    ("LASTED", 9),
    ("SUBJECT", 20),
    ("TARGET", 12),
    ("LOGIN", 12),
    ("OPERATIONS", 10),
    ("DENIED", 6),
    ("STATE", 7),
)
_LIST_HEAD = "  ".join(title.ljust(width) for title, width in _COLUMNS).rstrip()


def _list_line(summary: TapeSummary) -> str:
    from proxyd.tape.reader import session_of  # noqa: PLC0415
    from proxyd.tape.screen import plain  # noqa: PLC0415
    from proxyd.tape.wording import stamp  # noqa: PLC0415

    header = summary.header
    values = (
        header.session if header is not None else session_of(summary.path),
        stamp(header.started_at).removesuffix(" UTC") if header is not None else "?",
        _lasted(summary.duration_us / 1_000_000),
        header.subject.name if header is not None else "?",
        header.target if header is not None else "?",
        header.login if header is not None else "?",
        str(summary.operations),
        str(summary.denials),
        summary.state.value,
    )
    cells = (plain(value).ljust(width) for value, (_, width) in zip(values, _COLUMNS, strict=True))
    return "  ".join(cells).rstrip()


def _list_json(summary: TapeSummary) -> str:
    import msgspec  # noqa: PLC0415

    from proxyd.tape.json_lines import to_json  # noqa: PLC0415

    fields = {key: getattr(summary, key) for key in summary.__struct_fields__}
    header = summary.header
    return to_json(
        {
            **fields,
            "header": msgspec.to_builtins(header) if header is not None else None,
            "state": summary.state.value,
        }
    )


def _is_wanted(summary: TapeSummary, options: argparse.Namespace) -> bool:
    """A tape whose header cannot be read is kept by every filter: nobody's sessions may hide behind
    damage.
    """
    header = summary.header
    if header is None:
        return True
    return (
        (options.subject is None or header.subject.name == options.subject)
        and (options.target is None or header.target == options.target)
        and (options.since is None or header.started_at >= options.since)
    )


def _since(text: str) -> float:
    """Unix seconds."""
    if re.fullmatch(r"\d+(\.\d+)?(ms|s|m|h|d)", text):
        return time.time() - duration(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is neither a date such as 2025-07-20 nor a time such as 8h"
        raise argparse.ArgumentTypeError(message) from None
    return when.replace(tzinfo=when.tzinfo or UTC).timestamp()


def _lasted(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
