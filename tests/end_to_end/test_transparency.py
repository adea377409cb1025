"""For somebody without masks whom the policy allows everything the gateway is not there: the same script gives
the same bytes as a direct connection, errors included.

Scripts for psql are in `scripts/`; each runs in a schema of its own, `t`, that is new at every run.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from demo import shop
from tests.end_to_end.gateway import Gateway, psql_env, psql_words

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.sql"))
# What a session needs first: the same on both ways, and nothing of it printed.
PRELUDE = b"\\set QUIET on\nset search_path = t, public;\n\\set QUIET off\n"


def output(
    gateway: Gateway, dsn: str, script: bytes, major: int, *arguments: str
) -> tuple[int, bytes, bytes]:
    """Exit status, stdout and stderr of psql on this script, in a new schema."""
    gateway.server.psql(
        "set client_min_messages = error; drop schema if exists t cascade; create schema t", shop.DATABASE
    )
    done = subprocess.run(
        psql_words(dsn, *arguments, major=major, stop=False),
        input=PRELUDE + script,
        env=psql_env(major),
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode, _without_process_ids(done.stdout), done.stderr


def _without_process_ids(out: bytes) -> bytes:
    return re.sub(rb"(?<=server process with PID )\d+", b"N", out)


def differences(direct: bytes, through: bytes) -> list[tuple[int, bytes, bytes]]:
    """The lines that differ, for a message that a person can read."""
    pairs = zip(direct.splitlines(), through.splitlines(), strict=False)
    found = [(number, one, other) for number, (one, other) in enumerate(pairs, 1) if one != other]
    if not found and direct != through:
        return [(0, direct[-200:], through[-200:])]
    return found[:10]


@pytest.mark.parametrize("major", [18, 15])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_same_script_gives_the_same_bytes(
    request: pytest.FixtureRequest, script: Path, major: int
) -> None:
    gateway: Gateway = request.getfixturevalue(f"gateway{major}")
    text = script.read_bytes()
    status, out, err = output(gateway, gateway.direct_dsn(), text, major)
    assert len(out) > 200
    through = output(gateway, gateway.dsn("dora"), text, major)
    assert differences(err, through[2]) == []
    assert differences(out, through[1]) == []
    assert through == (status, out, err)


@pytest.mark.parametrize("setting", ["client_encoding = 'LATIN1'", "standard_conforming_strings = off"])
def test_the_two_settings_by_which_sql_would_mean_something_else_are_pinned(
    either_gateway: Gateway, setting: str
) -> None:
    """The one thing that a gateway which reads SQL cannot pass on, for anybody."""
    done = either_gateway.psql("dora", f"set {setting};\nselect E'\\u00e4', 'a\\b';\n", "-At", check=False)
    assert "ERROR:" in done.stderr
    assert "HINT:" in done.stderr
    assert done.stdout == "ä|a\\b\n"
