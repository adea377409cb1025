"""`proxyd budgets ls`: what has been spent, beside what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy.llm.budget import Amounts, Budget, Limits, day_of
from proxyd.cli.main import main
from proxyd.store.budgets import BudgetStore
from proxyd.store.database import Database
from tests.proxyd.documents import POLICY, write_setup

DAY = "2026-11-21"
BUDGETS = """\
budgets:
  - {name: agents, per: subject, day: {cost_usd: 20.0, requests: 1000}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = write_setup(tmp_path)
    path.write_text(path.read_text() + "store: {path: proxyd.db}\n")
    (tmp_path / "policy.yaml").write_text(POLICY + BUDGETS)
    return path


def spend(config: Path, subject: str, budget: str = "agents", day: str = DAY) -> None:
    database = Database.open(config.parent / "proxyd.db")
    named = Budget(budget, None, None, Limits())
    BudgetStore(database).reserve(subject, day, [named], Amounts(1.5, 12_000, 800, 3))
    database.close()


def listed(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    status = main(["budgets", "ls", "--config", str(config), *options])
    out, complaint = capsys.readouterr()
    return status, out, complaint


def test_what_has_been_spent(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for subject, budget in (("bob", "agents"), ("alice", "agents"), ("alice", "gone")):
        spend(config, subject, budget)
    status, out, _ = listed(config, capsys, "--day", DAY)
    assert status == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == ["SUBJECT", "alice", "alice", "bob"]
    assert out.splitlines()[1].split() == [
        "alice",
        "agents",
        "3",
        "of",
        "1000",
        "12000",
        "800",
        "1.5000",
        "of",
        "20",
    ]
    assert out.splitlines()[2].split() == ["alice", "gone", "3", "12000", "800", "1.5000"]


def test_of_one_subject_as_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spend(config, "bob")
    spend(config, "alice")
    _, out, _ = listed(config, capsys, "--day", DAY, "--subject", "alice", "--json")
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "day": DAY,
            "budget": "agents",
            "subject": "alice",
            "spent": {"cost_usd": 1.5, "input_tokens": 12000, "output_tokens": 800, "requests": 3},
            "limits": {"cost_usd": 20.0, "input_tokens": None, "output_tokens": None, "requests": 1000},
        }
    ]


def test_today_unless_another_day_is_named(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    spend(config, "alice", day=day_of(1_800_000_000.0))
    spend(config, "bob", day=DAY)
    _, out, _ = listed(config, capsys)
    assert "alice" in out and "bob" not in out


def test_a_name_steers_no_terminal(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spend(config, "eve\x1b[2J\nroot")
    _, out, _ = listed(config, capsys, "--day", DAY)
    assert "\x1b" not in out and len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("break_it", "status", "words"),
    [
        ("no file", 3, "no such file"),
        ("no store", 3, "there is no `store`"),
        ("another version", 3, "of version 7"),
        ("a bad policy", 1, "policy.yaml"),
        ("no configuration", 1, "proxyd.yaml"),
    ],
)
def test_what_cannot_be_read(
    config: Path, capsys: pytest.CaptureFixture[str], break_it: str, status: int, words: str
) -> None:
    if break_it != "no file":
        spend(config, "alice")
    match break_it:
        case "no store":
            config.write_text(config.read_text().replace("store:", "# store:"))
        case "another version":
            database = Database.open(config.parent / "proxyd.db")
            database.rows("PRAGMA user_version = 7")
            database.close()
        case "a bad policy":
            (config.parent / "policy.yaml").write_text("version: 2")
        case "no configuration":
            config.unlink()
    found, out, complaint = listed(config, capsys, "--day", DAY)
    assert (found, out) == (status, "")
    assert words in complaint


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "21.11.2026"])
def test_a_day_that_is_none(config: Path, capsys: pytest.CaptureFixture[str], day: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["budgets", "ls", "--config", str(config), "--day", day])
    assert caught.value.code == 2
    assert "is not a day" in capsys.readouterr().err
