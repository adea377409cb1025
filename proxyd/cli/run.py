"""`proxyd run`: serve in the foreground until SIGTERM."""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proxyd.cli.options import add_config

# EX_CONFIG of sysexits(3): a service manager need not try again.
CONFIGURATION_FAULT = 78

_DESCRIPTION = """\
Serve in the foreground. Logs go to stderr, one JSON object a line. Made for a service manager: it tells systemd
when it is ready, takes sockets from it and feeds its watchdog."""

_EPILOG = (
    "exit status: 0 stopped in order, 1 a socket could not be opened, 2 wrong command line, 78 faulty files"
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "run", help="serve until SIGTERM", description=_DESCRIPTION, epilog=_EPILOG
    )
    add_config(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 after an orderly stop, CONFIGURATION_FAULT for faulty files, 1 when a socket could not be had."""
    import trio

    from policy.located_yaml import DocumentError
    from proxyd.daemon import run_daemon
    from proxyd.listeners import ListenError
    from proxyd.notify import ActivationError
    from proxyd.settings_files import SettingsError
    from proxyd.store.errors import StoreError

    path: Path = options.config
    try:
        trio.run(run_daemon, path)
    except DocumentError as error:
        print(error, file=sys.stderr)
        _not_started(f"faults in the configuration; see also `proxyd check --config {path}`")
        return CONFIGURATION_FAULT
    except SettingsError as error:
        _not_started(str(error))
        return CONFIGURATION_FAULT
    except (ListenError, ActivationError, StoreError) as error:
        _not_started(str(error))
        return 1
    return 0


def _not_started(why: str) -> None:
    print(f"proxyd: not started: {why}", file=sys.stderr)
