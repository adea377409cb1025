"""`proxyd sessions`: list the live sessions of the daemon on this machine, watch one, end one.

Asks the daemon over its admin socket. Exit statuses: see `_EPILOG`.
"""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from proxyd.cli.options import DEFAULT_CONFIG, add_config

if TYPE_CHECKING:
    from proxyd.admin_protocol import SessionView

# Where the systemd unit's RuntimeDirectory= is.
DEFAULT_SOCKET = Path("/run/proxyd/admin.sock")

NOT_ENDED = 1
NOT_REACHED = 3
NO_SESSION = 4

_DESCRIPTION = """\
The live sessions of the daemon on this machine, over its admin socket (`admin: {socket: PATH}` in the
configuration). That socket is open to root, to the account that runs proxyd and to the members of `admin.group`.
SESSION is an id, as `ls` shows it, or the beginning of one. Every use is a line in the daemon's log."""

_EPILOG = """\
exit status: 0 done, 1 the session has not ended (end), its tape broke off (watch) or the request failed,
2 wrong command line, 3 the daemon is not there or does not let this account in, 4 no such session, or several"""

_WATCH = """\
Show a session as it happens, until it ends or Control-C. A statement is shown with the decision and the answer as
its user sees it, after masking; of an SSH session with a terminal, that terminal (`--lines`: as text); of HTTP, a line
for each exchange when it is over, server-sent events and messages of WebSockets as they come. That somebody watches is
recorded on the session's tape."""

_END = """\
End a session: a running statement is cancelled at the target, the user is told that an administrator has ended the
session, and the tape is closed. Says so when the session is gone, or that it is not yet after one second."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "sessions",
        help="list, watch and end live sessions",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listed = _action(actions, "ls", "list live sessions", "List the live sessions, oldest first.")
    listed.add_argument("--json", action="store_true", help="one JSON object for each session")
    listed.set_defaults(action=_list)

    watched = _action(actions, "watch", "show a session as it happens", _WATCH)
    _add_session(watched)
    watched.add_argument(
        "--from-start", action="store_true", help="show also what has happened so far, at once"
    )
    watched.add_argument(
        "--lines", action="store_true", help="SSH: text in place of the terminal's own picture"
    )
    watched.add_argument(
        "--channel", type=_number, metavar="N", help="SSH: this channel (default: the first terminal)"
    )
    watched.add_argument(
        "--rows", type=_number, default=100, metavar="N", help="rows shown of each result (default: 100)"
    )
    watched.add_argument("--json", action="store_true", help="one JSON object for each frame of the tape")
    watched.set_defaults(action=_watch)

    ended = _action(actions, "end", "end a session", _END)
    _add_session(ended)
    ended.add_argument("--reason", default="", metavar="TEXT", help="one line that the user is told")
    ended.add_argument("--json", action="store_true", help="the answer as a JSON object")
    ended.set_defaults(action=_end)

    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Results go to stdout, faults to stderr."""
    from policy.located_yaml import DocumentError
    from proxyd.admin_client import AdminFault, AdminRefusal

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has not every character still gets every line.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(options.action(options, _socket(options)))
    except AdminRefusal as refusal:
        _complain(str(refusal))
        match refusal.refused.reason:
            case "unknown" | "ambiguous":
                return NO_SESSION
            case "forbidden":
                return NOT_REACHED
            case _:
                return 1
    except AdminFault as fault:
        _complain(str(fault))
    except DocumentError as error:
        for found in error.faults:
            print(found, file=sys.stderr)
    return NOT_REACHED


def _list(options: argparse.Namespace, path: Path) -> int:
    from proxyd.admin_client import Conversation
    from proxyd.admin_protocol import Listed, ListSessions

    with Conversation(path, ListSessions()) as conversation:
        answer = conversation.expect(Listed)
        if not options.json:
            print(_LIST_HEAD)
        for view in conversation.views(answer.count):
            print(_json(view) if options.json else _list_line(view))
    return 0


def _watch(options: argparse.Namespace, path: Path) -> int:
    from proxyd.admin_client import Conversation
    from proxyd.admin_protocol import Watching, WatchSession
    from proxyd.cli.watching import chosen_show, unechoed, watch
    from proxyd.tape.errors import TapeError

    with Conversation(path, WatchSession(options.session)) as conversation:
        answer = conversation.expect(Watching)
        show = chosen_show(
            answer.session.protocol,
            is_json=options.json,
            as_lines=options.lines,
            max_rows=options.rows,
            channel=options.channel,
        )
        new_from = 0 if options.from_start else answer.tape_bytes
        try:
            with unechoed():
                end = watch(conversation.tape(), show, new_from=new_from)
        except KeyboardInterrupt:
            return 0
        except TapeError as error:
            _complain(str(error))
            return 1
    if end is None:
        _complain(
            f"session {answer.session.id}: the tape broke off: the daemon has gone, or its disk is full"
        )
        return 1
    return 0


def _end(options: argparse.Namespace, path: Path) -> int:
    from proxyd.admin_client import Conversation
    from proxyd.admin_protocol import Ended, EndSession

    with Conversation(path, EndSession(options.session, options.reason)) as conversation:
        answer = conversation.expect(Ended)
    if options.json:
        print(_json(answer))
    elif answer.is_gone:
        print(f"ended: {_told(answer.session)}")
    else:
        print(f"told to end, and not gone yet: {_told(answer.session)}")
    return 0 if answer.is_gone else NOT_ENDED


# Session, where, how long: everything that a client may have chosen passes `plain`.
_COLUMNS = (
    ("SESSION", 16),
    ("PROTOCOL", 8),
    ("SUBJECT", 20),
    ("TARGET", 16),
    ("LOGIN", 12),
    ("CLIENT", 21),
    ("LASTED", 9),
    ("IDLE", 8),
    ("OPERATIONS", 10),
)
_LIST_HEAD = "  ".join(title.ljust(width) for title, width in _COLUMNS).rstrip()


def _list_line(view: SessionView) -> str:
    from proxyd.tape.screen import plain

    values = (
        view.id,
        view.protocol,
        view.subject,
        _place(view),
        view.login,
        view.client,
        _lasted(time.time() - view.started_at),
        _lasted(view.idle_s),
        str(view.operations),
    )
    cells = (plain(value).ljust(width) for value, (_, width) in zip(values, _COLUMNS, strict=True))
    return "  ".join(cells).rstrip()


def _told(view: SessionView) -> str:
    from proxyd.tape.screen import plain

    return plain(f"session {view.id} of {view.subject} to {_place(view)} as {view.login}")


def _place(view: SessionView) -> str:
    return f"{view.target}/{view.detail}" if view.detail else view.target


def _lasted(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0.0, seconds):.0f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def _json(value: object) -> str:
    import msgspec

    from proxyd.tape.json_lines import to_json

    return to_json(msgspec.to_builtins(value))


def _socket(options: argparse.Namespace) -> Path:
    """--socket, else what the configuration says. Who may use the socket need not be able to read the configuration."""
    if options.socket is not None:
        return Path(options.socket)
    config: Path = options.config
    if config == DEFAULT_CONFIG and not os.access(config, os.R_OK):
        return DEFAULT_SOCKET
    from proxyd.admin_client import AdminFault
    from proxyd.config import LoadedConfig

    admin = LoadedConfig.read(config).config.admin
    if admin is None:
        raise AdminFault(
            f"{config} has no `admin`: add `admin: {{socket: {DEFAULT_SOCKET}}}` and restart proxyd, "
            "or name the socket by --socket"
        )
    return admin.socket


def _complain(why: str) -> None:
    sys.stdout.flush()
    print(f"proxyd: {why}", file=sys.stderr)


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(
        name,
        help=summary,
        description=description,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument(
        "--socket",
        "-s",
        type=Path,
        metavar="PATH",
        help=f"the admin socket (default: what the configuration says; {DEFAULT_SOCKET} if {DEFAULT_CONFIG} "
        "cannot be read)",
    )
    return parser


def _add_session(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("session", metavar="SESSION", help="the id of a session, or the beginning of one")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)
