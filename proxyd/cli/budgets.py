"""`proxyd budgets`: what has been spent of the budgets for models.

Reads the store and the policy, changes nothing, and needs no daemon. Exit status 3: the store cannot be read.
"""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from datetime import date
from typing import TYPE_CHECKING

from proxyd.cli.options import add_config

if TYPE_CHECKING:
    from policy.llm.budget import Limits
    from proxyd.store.budgets import Spending

CANNOT_READ = 3

_DESCRIPTION = """\
What subjects have spent of their budgets for language models: calls, tokens and USD on one day (UTC), beside what the
policy gives them. Calls that are under way count with the most that they may come to."""

_COLUMNS = ("SUBJECT", "BUDGET", "REQUESTS", "INPUT TOKENS", "OUTPUT TOKENS", "USD")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "budgets",
        help="show what has been spent on models",
        description=_DESCRIPTION,
        epilog="exit status: 0 done, 1 faults in the documents, 2 wrong command line, 3 the store cannot be read",
    )
    actions = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = actions.add_parser("ls", help="list what has been spent", description=_DESCRIPTION)
    add_config(listed)
    listed.add_argument(
        "--day", type=_day, metavar="DATE", help="of this day, as 2026-11-21 (default: today, UTC)"
    )
    listed.add_argument("--subject", metavar="NAME", help="only of this subject")
    listed.add_argument("--json", action="store_true", help="one JSON object for each subject and budget")
    listed.set_defaults(action=_list)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Results go to stdout, faults to stderr."""
    from policy.located_yaml import DocumentError
    from proxyd.store.errors import StoreError

    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that has not every character still gets every line.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return int(options.action(options))
    except DocumentError as error:
        for fault in error.faults:
            print(fault, file=sys.stderr)
        return 1
    except StoreError as error:
        print(f"proxyd: {error}", file=sys.stderr)
        return CANNOT_READ


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day, such as 2026-11-21") from None


def _list(options: argparse.Namespace) -> int:
    from policy.document import load_document
    from policy.llm.budget import Limits, day_of
    from proxyd.config import LoadedConfig, read_text
    from proxyd.store.budgets import BudgetStore
    from proxyd.store.database import Database
    from proxyd.store.errors import StoreError

    config = LoadedConfig.read(options.config).config
    if config.store is None:
        raise StoreError(
            f"{options.config}: there is no `store`, so no budgets are kept: add `store: {{path: ...}}`"
        )
    document = load_document(read_text(config.policy), str(config.policy))
    limits = {budget.name: budget.day for budget in document.budgets}
    unlimited = Limits()  # a budget that the policy has no more
    database = Database.open_to_read(config.store.path)
    try:
        spending = BudgetStore(database).spending(options.day or day_of(time.time()))
    finally:
        database.close()
    found = [each for each in spending if options.subject in {None, each.subject}]
    if options.json:
        for each in found:
            print(_json(each, limits.get(each.budget, unlimited)))
    else:
        for line in _table([_COLUMNS, *(_row(each, limits.get(each.budget, unlimited)) for each in found)]):
            print(line)
    return 0


def _row(spending: Spending, limits: Limits) -> tuple[str, ...]:
    amounts = spending.amounts
    return (
        _shown(spending.subject),
        _shown(spending.budget),
        _of(f"{amounts.requests}", limits.requests),
        _of(f"{amounts.input_tokens}", limits.input_tokens),
        _of(f"{amounts.output_tokens}", limits.output_tokens),
        _of(f"{amounts.cost_usd:.4f}", limits.cost_usd),
    )


def _of(spent: str, limit: float | None) -> str:
    return (
        spent if limit is None else f"{spent} of {limit:g}" if limit < 100_000 else f"{spent} of {limit:.0f}"
    )


def _shown(name: str) -> str:
    """A name may be a stranger's: nothing in it steers the terminal."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _json(spending: Spending, limits: Limits) -> str:
    names = ("cost_usd", "input_tokens", "output_tokens", "requests")
    return json.dumps(
        {
            "day": spending.day,
            "budget": spending.budget,
            "subject": spending.subject,
            "spent": {name: getattr(spending.amounts, name) for name in names},
            "limits": {name: getattr(limits, name) for name in names},
        }
    )
