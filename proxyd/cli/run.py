"""`proxyd run`: serve in the foreground until SIGTERM."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from proxyd.cli.options import add_config

_DESCRIPTION = """\
Serve in the foreground. Logs go to stderr, one JSON object a line. Made for a service manager: it tells systemd
when it is ready, takes sockets from it and feeds its watchdog."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("run", help="serve until SIGTERM", description=_DESCRIPTION)
    add_config(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """0 after an orderly stop, 1 when the daemon could not start."""
    import trio  # noqa: PLC0415

    from policy.located_yaml import DocumentError  # noqa: PLC0415
    from proxyd.daemon import run_daemon  # noqa: PLC0415
    from proxyd.listeners import ListenError  # noqa: PLC0415
    from proxyd.notify import ActivationError  # noqa: PLC0415

    path: Path = options.config
    try:
        trio.run(run_daemon, path)
    except DocumentError as error:
        print(error, file=sys.stderr)
        return _not_started(f"{len(error.faults)} faults, see `proxyd check --config {path}`")
    except (ListenError, ActivationError) as error:
        return _not_started(str(error))
    return 0


def _not_started(why: str) -> int:
    print(f"proxyd: not started: {why}", file=sys.stderr)
    return 1
