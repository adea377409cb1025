"""The vocabulary of commands and the names that the SQL analysis gives agree."""

from __future__ import annotations

import pytest

from policy.commands import COMMANDS, MUST_BE_NAMED, SESSION_COMMANDS, commands_matching
from policy.sql.classify import DEFINITIONS, KINDS_OF_OBJECT, TRANSACTIONS
from policy.sql.settings import SPECIAL_COMMANDS


def test_every_command_of_the_analysis_has_a_name() -> None:
    told = {
        *DEFINITIONS.values(),
        *SPECIAL_COMMANDS.values(),
        *(command for command, _ in TRANSACTIONS.values()),
    }
    told |= {f"alter_{kind}" for kind in KINDS_OF_OBJECT.values()}
    without_drop = {"default_privileges", "large_object"}
    told |= {f"drop_{kind}" for kind in set(KINDS_OF_OBJECT.values()) - without_drop}
    assert told - COMMANDS == set()


def test_what_the_session_may_do_needs_no_name() -> None:
    assert SESSION_COMMANDS.isdisjoint(MUST_BE_NAMED)
    assert SESSION_COMMANDS <= COMMANDS
    assert MUST_BE_NAMED <= COMMANDS


@pytest.mark.parametrize(
    "name", ["select", "insert", "copy_to", "set_role", "create_table_as", "do", "drop_table"]
)
def test_a_name_means_itself(name: str) -> None:
    assert commands_matching(name) == {name}


def test_globs() -> None:
    assert commands_matching("*") == COMMANDS
    assert commands_matching("copy_*") == {"copy_to", "copy_from", "copy_program", "copy_file"}
    assert commands_matching("frob*") == frozenset()
