"""What real clients and a real server say to each other, recorded and shown."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psycopg
import pytest

from proxyd.tape.format import Whole
from proxyd.tape.reader import read_tape
from proxyd.tape.render import Renderer
from tests.end_to_end.servers import PostgresServer, client_env, psql_command
from tests.proxyd.tape.hop import RecordingHop

SCRIPT = r"""
create temporary table people (id int, name text);
insert into people values (1, 'Ann'), (22, 'Bob' || chr(27) || '[31m');
select * from people;
select * from nothing;
begin;
select 1/0;
rollback;
\copy people to stdout
\copy people from stdin
3	Zoe
\.
select count(*) as many from people \bind \g
do $$begin raise notice 'hello';end$$;
"""


def shown(path: Path) -> str:
    with read_tape(path) as tape:
        assert tape.header is not None
        renderer = Renderer(tape.header)
        lines = [line for entry in tape.entries() for line in renderer.lines(entry)]
        assert isinstance(tape.verdict, Whole)
    return "\n".join(line for line in lines if not line.endswith(" ms"))


def test_psql(tmp_path: Path, pg18: PostgresServer) -> None:
    with RecordingHop(tmp_path, pg18.port) as hop:
        dsn = (
            f"host=127.0.0.1 port={hop.port} user=by_trust dbname=postgres sslmode=disable gssencmode=disable"
        )
        command = psql_command(dsn, "-v", "ON_ERROR_STOP=0")
        subprocess.run(
            command, input=SCRIPT, text=True, env=client_env(), check=True, capture_output=True, timeout=60
        )
    assert shown(hop.tape) == "\n".join(
        [
            "shop=> create temporary table people (id int, name text);",
            "CREATE TABLE",
            "shop=> insert into people values (1, 'Ann'), (22, 'Bob' || chr(27) || '[31m');",
            "INSERT 0 2",
            "shop=> select * from people;",
            " id |    name",
            "----+-------------",
            "  1 | Ann",
            " 22 | Bob\\x1b[31m",
            "(2 rows)",
            "shop=> select * from nothing;",
            'ERROR:  42P01: relation "nothing" does not exist',
            "shop=> begin;",
            "BEGIN",
            "shop=*> select 1/0;",
            "ERROR:  22012: division by zero",
            "shop=!> rollback;",
            "ROLLBACK",
            "shop=> COPY  people TO STDOUT",
            "-- COPY out",
            "1\\tAnn",
            "22\\tBob\\x1b[31m",
            "-- 18 bytes copied out",
            "COPY 2",
            "shop=> COPY  people FROM STDIN",
            "-- COPY in",
            ">> 3\\tZoe",
            "-- 1 pieces, 6 bytes sent",
            "COPY 1",
            "shop=> select count(*) as many from people",
            " many",
            "------",
            "    3",
            "(1 row)",
            "shop=> do $$begin raise notice 'hello';end$$;",
            "NOTICE:  00000: hello",
            "CONTEXT:  PL/pgSQL function inline_code_block line 1 at RAISE",
            "DO",
            "-- the client says good-bye",
            "-- session ended: client left",
        ]
    )


def test_psycopg_prepares_pipelines_and_asks_for_binary(tmp_path: Path, pg18: PostgresServer) -> None:
    with RecordingHop(tmp_path, pg18.port) as hop:
        dsn = (
            f"host=127.0.0.1 port={hop.port} user=by_trust dbname=postgres sslmode=disable gssencmode=disable"
        )
        with psycopg.connect(dsn, autocommit=True) as connection:
            for number in range(7):
                connection.execute("select %s::int as n, 'x' as s", (number,)).fetchall()
            with connection.cursor(binary=True) as cursor:
                cursor.execute("select 42 as i, date '2024-02-29' as d, 1.50::numeric as c, array[1,2] as a")
            with pytest.raises(psycopg.errors.UndefinedColumn), connection.pipeline():
                connection.execute("select 'first' as a")
                connection.execute("select nothing")
                connection.execute("select 'third' as a")
    text = shown(hop.tape)
    for number in range(7):
        result = f"-- parameters: $1 = '{number}'\n n | s\n---+---\n {number} | x\n(1 row)"
        assert result in text
    assert "-- prepared as _pg3_0" in text
    assert (
        " i  |     d      |  c   |   a\n----+------------+------+-------\n 42 | 2024-02-29 | 1.50 | {1,2}"
        in text
    )
    assert " a\n-------\n first\n(1 row)\nERROR:  42703:" in text
    assert text.count("third") == 1
