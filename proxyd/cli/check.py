"""`proxyd check`: read configuration and policy as the daemon would, and say everything that is wrong."""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from proxyd.cli.options import add_config

_DESCRIPTION = """\
Read the configuration, the policy and everything they refer to (certificates, keys, secrets, directories) as the
daemon would, and print every fault as FILE:LINE:COLUMN: what; remedy. Nothing is changed and no target is called;
issuers of tokens are asked for their keys, and one that does not give them is a warning.
Run it as the account that runs proxyd: what that account cannot read is a fault."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "check",
        help="check configuration and policy",
        description=_DESCRIPTION,
        epilog="exit status: 0 sound, 1 faults (with --strict: or warnings), 2 wrong command line",
    )
    add_config(parser)
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="check this policy in place of the configured one"
    )
    parser.add_argument(
        "--documents-only",
        action="store_true",
        help="look at the two documents alone, not at certificates, secrets and directories (for CI)",
    )
    parser.add_argument("--strict", action="store_true", help="warnings count as faults")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Faults and warnings go to stderr, the verdict to stdout."""
    from policy.located_yaml import DocumentError
    from proxyd.references import Material, issuers, read_documents

    try:
        if options.documents_only:
            policy, warnings = read_documents(options.config, options.policy)
        else:
            material = Material.read(options.config, time.time(), options.policy)
            asked = issuers.ask(material.config, material.loaded.located)
            policy, warnings = material.policy, (*material.warnings, *asked)
    except DocumentError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return _verdict(len(error.faults), 0, is_sound=False)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    is_sound = not (options.strict and warnings)
    if is_sound:
        print(f"{options.config}: sound; policy {policy.source}, version {policy.version}")
    return _verdict(0, len(warnings), is_sound=is_sound)


def _verdict(faults: int, warnings: int, *, is_sound: bool) -> int:
    counts = [
        f"{count} {what}{'s' if count != 1 else ''}"
        for count, what in ((faults, "fault"), (warnings, "warning"))
        if count
    ]
    if counts:
        print(", ".join(counts), file=sys.stderr)
    return 0 if is_sound else 1
