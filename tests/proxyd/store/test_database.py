"""The SQLite file: made for proxyd alone, of one version, and never half written."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from proxyd.store.database import APPLICATION_ID, VERSION, Database
from proxyd.store.errors import StoreError

INSERT = "INSERT INTO spending (day, budget, subject, requests) VALUES (?, 'b', 's', 1)"
COUNT = "SELECT count(*) FROM spending"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "proxyd.db"
    before = os.umask(0)
    try:
        database = Database.open(path)
        with database.transaction() as connection:
            connection.execute(INSERT, ("2026-01-01",))
        assert {mode_of(each) for each in tmp_path.iterdir()} == {0o600}
        assert {each.name for each in tmp_path.iterdir()} == {"proxyd.db", "proxyd.db-wal", "proxyd.db-shm"}
        database.close()
    finally:
        os.umask(before)


def test_a_file_that_is_open_to_others_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "proxyd.db"
    Database.open(path).close()
    path.chmod(0o644)
    Database.open(path).close()
    assert mode_of(path) == 0o600


def test_what_is_written_is_there_again(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "proxyd.db")
    with database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-01",))
    database.close()
    again = Database.open(tmp_path / "proxyd.db")
    assert again.rows(COUNT) == [(1,)]
    again.close()


def test_what_is_committed_is_brought_to_the_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database.open(tmp_path / "proxyd.db")
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    assert not database.has_news
    with database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-01",))
    assert database.has_news
    database.sync()
    assert synced == [(tmp_path / "proxyd.db-wal").stat().st_ino]
    assert not database.has_news
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    assert not database.has_news
    database.close()


def test_a_log_of_writes_is_all_that_a_crash_needs(tmp_path: Path) -> None:
    """What `sync` brings to the disk is enough: the file itself has nothing of it yet."""
    database = Database.open(tmp_path / "proxyd.db")
    before = (tmp_path / "proxyd.db").read_bytes()
    with database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-01",))
    database.sync()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    (crashed / "proxyd.db").write_bytes(before)
    (crashed / "proxyd.db-wal").write_bytes((tmp_path / "proxyd.db-wal").read_bytes())
    again = Database.open(crashed / "proxyd.db")
    assert again.rows(COUNT) == [(1,)]
    for each in (again, database):
        each.close()


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.open(tmp_path / "proxyd.db")
    with database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-01",))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StoreError, match="cannot be written to the disk"):
        database.sync()
    assert database.has_news
    database.close()


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "proxyd.db")
    with pytest.raises(RuntimeError), database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-01",))
        raise RuntimeError
    with pytest.raises(StoreError, match="NOT NULL"), database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-02",))
        connection.execute(INSERT, (None,))
    assert database.rows(COUNT) == [(0,)]
    with database.transaction() as connection:
        connection.execute(INSERT, ("2026-01-03",))
    assert database.rows(COUNT) == [(1,)]
    database.close()


def test_what_a_killed_process_had_committed_stays(tmp_path: Path) -> None:
    """And what it had begun does not."""
    path = tmp_path / "proxyd.db"
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from proxyd.store.database import Database
        database = Database.open(Path({str(path)!r}))
        with database.transaction() as connection:
            connection.execute({INSERT!r}, ("2026-01-01",))
        with database.transaction() as connection:
            connection.execute({INSERT!r}, ("2026-01-02",))
            print("ready", flush=True)
            sys.stdin.read()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    database = Database.open(path)
    assert database.rows("SELECT day FROM spending") == [("2026-01-01",)]
    database.close()


@pytest.mark.parametrize(
    ("pragma", "value", "words"),
    [
        ("user_version", VERSION + 1, f"of version {VERSION + 1}"),
        ("user_version", 0, "of version 0"),
        ("application_id", 5, "another program's"),
    ],
)
def test_a_file_of_another_kind_is_left_alone(tmp_path: Path, pragma: str, value: int, words: str) -> None:
    path = tmp_path / "proxyd.db"
    Database.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA {pragma} = {value}")
    connection.close()
    for opened in (Database.open, Database.open_to_read):
        with pytest.raises(StoreError, match=words):
            opened(path)


def test_another_program_s_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreError, match="another program's"):
        Database.open(path)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    assert connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,)
    connection.close()


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "proxyd.db"
    path.write_bytes(b"not a database at all, however long it is looked at" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Database.open(path)


def test_a_damaged_file_is_an_error_and_no_accident(tmp_path: Path) -> None:
    path = tmp_path / "proxyd.db"
    database = Database.open(path)
    for day in range(400):
        with database.transaction() as connection:
            connection.execute(INSERT, (f"{day:010}",))
    database.close()
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))
    broken = Database.open(path)
    with pytest.raises(StoreError):
        broken.rows("SELECT * FROM spending")
    broken.close()


@pytest.mark.parametrize("kind", ["directory", "missing directory", "link", "pipe"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "proxyd.db"
    match kind:
        case "directory":
            path.mkdir()
        case "missing directory":
            path = tmp_path / "nowhere" / "proxyd.db"
        case "link":
            (tmp_path / "elsewhere.db").touch()
            path.symlink_to(tmp_path / "elsewhere.db")
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(StoreError):
        Database.open(path)


def test_reading_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file"):
        Database.open_to_read(tmp_path / "proxyd.db")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_sees_what_is_written_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "proxyd.db"
    writer = Database.open(path)
    reader = Database.open_to_read(path)
    with writer.transaction() as connection:
        connection.execute(INSERT, ("2026-01-01",))
    assert reader.rows(COUNT) == [(1,)]
    with pytest.raises(StoreError, match="readonly"), reader.transaction() as connection:
        connection.execute(INSERT, ("2026-01-02",))
    writer.close()
    reader.close()


def test_two_that_start_at_once_make_one_schema(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from proxyd.store.database import Database; " + (
        "sys.stdin.readline(); Database.open(Path(sys.argv[1])).close()"
    )
    path = str(tmp_path / "proxyd.db")
    started = [
        subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    statuses = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        with process:
            statuses.append(process.wait(timeout=60))
    assert statuses == [0, 0, 0]
