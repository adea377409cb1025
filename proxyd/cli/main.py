"""The `proxyd` command: finds the subcommand and runs it.

Owns the top of the argument parser and the exit statuses: 0 done, 1 faults were found or the work failed, 2
the command line is wrong. Each subcommand is a module with `add_parser` and `run`; what is heavy is imported
inside `run`, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from proxyd.cli import budgets, check, explain, run, sessions, tape

_DESCRIPTION = """\
proxyd is the door between people (or agents) and the systems they may touch, over PostgreSQL, SSH and HTTP.
Clients keep their own tools and change only the address; proxyd knows who calls, judges every operation by the
policy, masks what must not be seen, keeps the target's credentials to itself and records each session on a tape."""

_EPILOG = """\
files:
  /etc/proxyd/proxyd.yaml   listeners, identity, targets, credentials, tapes (--config names another)
  policy.yaml               who may do what; named by `policy:` in the configuration
  /run/proxyd/admin.sock    where `proxyd sessions` asks the daemon; named by `admin:` in the configuration

signals to `proxyd run`:
  SIGHUP    read configuration, policy and certificates anew; a faulty file changes nothing
  SIGTERM   stop accepting, let running statements end (drain_timeout), then exit; again: exit now

exit status: 0 done, 1 faults or failure, 2 wrong command line; some commands have more, see their --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status. `arguments` without the program's name."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`proxyd tape show ... | head`): nobody is left to complain to.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="proxyd",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"proxyd {version('proxyd')}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run.add_parser(subparsers)
    check.add_parser(subparsers)
    explain.add_parser(subparsers)
    sessions.add_parser(subparsers)
    budgets.add_parser(subparsers)
    tape.add_parser(subparsers)
    shown = subparsers.add_parser("version", help="print the version", description="Print the version.")
    shown.set_defaults(run=_print_version)
    return parser


def _print_version(options: argparse.Namespace) -> int:
    print(f"proxyd {version('proxyd')}")
    return 0
