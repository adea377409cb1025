"""Options that several subcommands share."""

from __future__ import annotations

import argparse
from pathlib import Path

# The same as proxyd.config.DEFAULT_PATH, without the cost of importing the models for `--help`.
DEFAULT_CONFIG = Path("/etc/proxyd/proxyd.yaml")


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        "-c",
        type=Path,
        default=DEFAULT_CONFIG,
        metavar="FILE",
        help=f"the configuration (default: {DEFAULT_CONFIG})",
    )
