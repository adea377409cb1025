"""Threat list A: getting at a masked column. Every shape is asked in two databases that differ in masked values only.

Nothing of a masked value may come in any byte, and not even a bit by a difference between the two answers (see
`canaries`). Shapes that carry a masked column plainly must show it masked, all others must be denied.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import psycopg
import pytest

from protocols.postgres.messages import SYNC, Bind, Close, CopyData, CopyDone, Execute, Parse, Query
from tests.end_to_end.canaries import LEFT, MASKED_COLUMNS, MODES, RIGHT, ROWS, Pair, Twins, twins
from tests.end_to_end.gateway import TARGET
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.wire_client import Answer, assert_denied

PEOPLE = "vault.people"


@pytest.fixture(scope="module")
def both(shop18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    with twins(shop18, tmp_path_factory.mktemp("twins")) as made:
        yield made


@pytest.fixture(scope="module")
def permitting(shop18: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """Masks that permit to filter, join, group and sort: bits may be had there, values not."""
    with twins(shop18, tmp_path_factory.mktemp("permitting"), uses=True) as made:
        yield made


@pytest.fixture(scope="module")
def alice(both: Twins) -> Iterator[Pair]:
    with Pair(both, "alice") as pair:
        yield pair


@pytest.fixture(scope="module")
def wanda(both: Twins) -> Iterator[Pair]:
    with Pair(both, "wanda") as pair:
        yield pair


@pytest.fixture(scope="module")
def target(shop18: PostgresServer, both: Twins) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The target itself: what a shape would do without the gateway."""
    with psycopg.connect(shop18.dsn(LEFT)) as connection:
        yield connection


def would_run(target: psycopg.Connection[tuple[object, ...]], sql: str) -> None:
    """The target takes the statement: a shape with a slip in it would prove nothing."""
    try:
        target.pgconn.exec_(b"BEGIN")
        result = target.pgconn.exec_(b"EXPLAIN (VERBOSE) " + sql.encode())
        state = (result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode()
        assert not state.startswith("42"), f"{sql}: {target.pgconn.error_message!r}"
    finally:
        target.pgconn.exec_(b"ROLLBACK")


# A1: plain columns, however they are reached. {c} is the column.

PLAIN = (
    f"SELECT {{c}} FROM {PEOPLE}",
    f"SELECT {{c}} AS name FROM {PEOPLE}",
    f'SELECT p.{{c}} AS "id" FROM {PEOPLE} p',
    f"SELECT {PEOPLE}.{{c}} FROM {PEOPLE}",
    f"SELECT (p).{{c}} FROM {PEOPLE} p",
    f"SELECT ((p.{{c}})) FROM {PEOPLE} p ORDER BY id",
    f"SELECT {{c}} FROM {PEOPLE} WHERE id < 5 ORDER BY id DESC LIMIT 3 OFFSET 1",
    f"SELECT {{c}} FROM ONLY {PEOPLE}",
    f"SELECT {{c}} FROM (SELECT {{c}} FROM {PEOPLE}) s",
    f"SELECT x FROM (SELECT {{c}} FROM {PEOPLE}) s(x)",
    f"SELECT y FROM (SELECT x FROM (SELECT {{c}} AS x, id FROM {PEOPLE} OFFSET 0) s) t(y)",
    f"WITH a AS (SELECT id, {{c}} AS x FROM {PEOPLE}) SELECT x FROM a",
    f"WITH a AS MATERIALIZED (SELECT {{c}} FROM {PEOPLE}), b AS NOT MATERIALIZED (SELECT * FROM a) TABLE b",
    f"WITH a(q) AS (SELECT {{c}} FROM {PEOPLE}) SELECT a.q FROM a, open.people o WHERE o.id = 1",
    f"SELECT l.{{c}} FROM open.people o, LATERAL (SELECT {{c}} FROM {PEOPLE} p WHERE p.id = o.id) l",
    f"SELECT p.{{c}} FROM {PEOPLE} p JOIN vault.visits v ON v.person = p.id",
    f"SELECT p.{{c}} FROM vault.visits v LEFT JOIN {PEOPLE} p ON v.person = p.id",
    f"SELECT p.{{c}} FROM vault.visits v RIGHT JOIN {PEOPLE} p ON v.person = p.id",
    f"SELECT {{c}} FROM {PEOPLE} JOIN vault.visits USING (id)",
    f"SELECT j.{{c}} FROM ({PEOPLE} p JOIN vault.visits v USING (id)) AS j",
    f"SELECT a.{{c}}, b.{{c}} FROM {PEOPLE} a, {PEOPLE} b WHERE a.id = b.id",
    f"SELECT {{c}} FROM {PEOPLE} TABLESAMPLE BERNOULLI (100)",
    f"SELECT {{c}} FROM {PEOPLE} p(id, name, city) WHERE city <> ''",
    f"/* {{c}} */ SELECT /* /* nested */ */ {{c}} -- {{c}}\n FROM {PEOPLE}",
)


@pytest.mark.parametrize("shape", PLAIN)
def test_a_plain_column_comes_masked(
    alice: Pair, target: psycopg.Connection[tuple[object, ...]], shape: str
) -> None:
    for column in MASKED_COLUMNS:
        sql = shape.replace("{c}", column)
        if column == MASKED_COLUMNS[0]:
            would_run(target, sql)
        for mode in MODES:
            assert alice.is_shown(sql, mode).rows


VIEWS = (
    "SELECT contact, pay FROM vault.plain_view",
    "SELECT * FROM vault.plain_view",
    "SELECT reach, wage FROM vault.view_of_view",
    "SELECT v.reach AS name FROM vault.view_of_view v WHERE v.id = 3",
    "SELECT visitor FROM vault.joined_view",
    "SELECT email, phone FROM vault.star_view",
    "SELECT email FROM vault.parted_north",
    "SELECT email FROM vault.child",
    "SELECT * FROM vault.logins",
    "WITH a AS (SELECT * FROM vault.view_of_view) SELECT reach FROM a",
)


@pytest.mark.parametrize("sql", VIEWS)
def test_a_view_partition_or_child_hides_nothing_from_the_masks(alice: Pair, sql: str) -> None:
    for mode in MODES:
        answer = alice.ask(sql, mode)
        assert answer.rows or answer.error["C"] == "42501"


NOT_PLAIN = (
    "TABLE vault.computed_view",
    "SELECT loud FROM vault.computed_view",
    "SELECT size FROM vault.computed_view",
    "SELECT twice FROM vault.computed_view",
    "SELECT whole FROM vault.row_view",
    "SELECT (whole).email FROM vault.row_view",
    "SELECT doc FROM vault.json_view",
    "SELECT doc->>'email' FROM vault.json_view",
    "SELECT * FROM vault.filtering_view",
    "SELECT count(*) FROM vault.filtering_view",
    "SELECT * FROM vault.sorting_view",
    "SELECT label FROM vault.union_view",
    "SELECT doc FROM vault.xml_view",
    "SELECT shouted FROM vault.stored",
    "SELECT found FROM vault.function_view",
    "SELECT found FROM vault.rows_function_view",
    "SELECT who FROM vault.holders",
    "SELECT (who).email FROM vault.holders",
    "SELECT (who).* FROM vault.holders",
    "SELECT who::text FROM vault.holders",
    "SELECT to_jsonb(who) FROM vault.holders",
    "SELECT h FROM vault.holders h",
    "SELECT many FROM vault.holders",
    "SELECT many[1].email FROM vault.holders",
    "SELECT u.email FROM vault.holders h, unnest(h.many) u",
    "SELECT email_upper FROM vault.people",
    "SELECT email_length FROM vault.people",
    "SELECT * FROM vault.people",
    "TABLE vault.people",
)


@pytest.mark.parametrize("sql", NOT_PLAIN)
def test_what_is_computed_from_a_masked_column_behind_the_scenes_is_refused(
    alice: Pair, target: psycopg.Connection[tuple[object, ...]], sql: str
) -> None:
    would_run(target, sql)
    for mode in MODES:
        alice.is_refused(sql, mode)


# A2, A3, A4: anything computed.

COMPUTED = (
    "upper({c}::text)",
    "{c}::text || ''",
    "'' || {c}::text",
    "CAST({c} AS varchar(200))::text",
    '{c}::text COLLATE "C"',
    "CASE WHEN id > 0 THEN {c} END",
    "CASE {c} WHEN {c} THEN 1 ELSE 0 END",
    "COALESCE({c}, {c})",
    "NULLIF({c}::text, 'x')",
    "GREATEST({c}::text, 'a')",
    "LEAST({c}::text, 'zzz')",
    "min({c}::text)",
    "max({c}::text)",
    "string_agg({c}::text, ',')",
    "array_agg({c})",
    "count({c})",
    "count(DISTINCT {c}::text)",
    "json_agg({c})",
    "jsonb_object_agg(id, {c}::text)",
    "any_value({c})",
    "mode() WITHIN GROUP (ORDER BY {c}::text)",
    "percentile_disc(0.5) WITHIN GROUP (ORDER BY {c}::text)",
    "count(*) FILTER (WHERE {c} IS NOT NULL)",
    "string_agg(name, ',' ORDER BY {c}::text)",
    "array[{c}]",
    "array[{c}::text, 'a']",
    "ROW({c}, 1)",
    "ROW({c}, 1)::text",
    "to_json({c})",
    "jsonb_build_object('a', {c})",
    "json_build_array({c})",
    "JSON_OBJECT('a': {c}::text)",
    "JSON_ARRAY({c}::text)",
    "xmlelement(name a, {c}::text)",
    "xmlforest({c}::text AS a)",
    "concat({c})",
    "concat_ws('-', {c}, 'a')",
    "format('%s', {c})",
    "quote_literal({c}::text)",
    "md5({c}::text)",
    "sha256({c}::text::bytea)",
    "encode({c}::text::bytea, 'hex')",
    "encode({c}::text::bytea, 'base64')",
    "reverse({c}::text)",
    "left({c}::text, 3)",
    "substring({c}::text FROM 2 FOR 2)",
    "substring({c}::text, '.')",
    "overlay({c}::text PLACING 'x' FROM 1)",
    "position('q' IN {c}::text)",
    "length({c}::text)",
    "octet_length({c}::text)",
    "pg_column_size({c})",
    "ascii({c}::text)",
    "hashtext({c}::text)",
    "translate({c}::text, 'q', 'x')",
    "regexp_replace({c}::text, 'q', 'x')",
    "regexp_matches({c}::text, '.')",
    "regexp_split_to_table({c}::text, '')",
    "string_to_table({c}::text, NULL)",
    "unnest(string_to_array({c}::text, NULL))",
    "generate_series(1, length({c}::text))",
    "to_tsvector({c}::text)",
    "{c} IS NULL",
    "{c} IS DISTINCT FROM {c}",
    "{c}::text = 'x'",
    "{c}::text LIKE 'q%'",
    "{c}::text ~ '^q'",
    "{c}::text IN ('a', 'b')",
    "{c}::text = ANY (array['a'])",
    "{c}::text BETWEEN 'a' AND 'm'",
    "({c}::text, 1) < ('m', 2)",
    "1 / (CASE WHEN {c}::text < 'm' THEN 0 ELSE 1 END)",
    "row_number() OVER (ORDER BY {c}::text)",
    "rank() OVER (PARTITION BY {c}::text)",
    "lag({c}) OVER (ORDER BY id)",
    "first_value({c}) OVER ()",
    "sum(id) OVER (ORDER BY {c}::text ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
    "(SELECT i.{c} FROM vault.people i WHERE i.id = 1)",
    "(SELECT max(i.{c}::text) FROM vault.people i)",
    "ARRAY(SELECT i.{c} FROM vault.people i)",
    "EXISTS (SELECT 1 FROM vault.people i WHERE i.{c}::text < 'm')",
    "'a' IN (SELECT i.{c}::text FROM vault.people i)",
    "(SELECT s.x FROM (VALUES ((SELECT i.{c} FROM vault.people i LIMIT 1))) s(x))",
    "pg_typeof({c})",
    "num_nulls({c})",
    "set_config('application_name', {c}::text, false)",
    "current_setting({c}::text, true)",
    "to_regclass({c}::text)",
)


@pytest.mark.parametrize("expression", COMPUTED)
def test_anything_computed_from_a_masked_column_is_refused(
    alice: Pair, target: psycopg.Connection[tuple[object, ...]], expression: str
) -> None:
    for column in MASKED_COLUMNS:
        sql = f"SELECT {expression.replace('{c}', column)} FROM {PEOPLE}"
        if column == "email":
            would_run(target, sql)
        for mode in ("simple", "blind"):
            alice.is_refused(sql, mode)


@pytest.mark.parametrize("expression", COMPUTED)
@pytest.mark.parametrize(
    "shape",
    [
        "SELECT s.x FROM (SELECT {e} AS x FROM vault.people) s",
        "WITH a AS MATERIALIZED (SELECT {e} AS x FROM vault.people) SELECT x FROM a",
        "SELECT contact FROM vault.plain_view v, LATERAL (SELECT {e} AS y FROM vault.people LIMIT 1) s",
        "SELECT 1 FROM vault.people UNION ALL SELECT 2 FROM (SELECT {e} FROM vault.people) s",
        "EXPLAIN (ANALYZE, VERBOSE, COSTS OFF) SELECT {e} FROM vault.people",
        "COPY (SELECT {e} FROM vault.people) TO STDOUT",
    ],
)
def test_computing_inside_something_else_is_refused(alice: Pair, shape: str, expression: str) -> None:
    alice.is_refused(shape.replace("{e}", expression.replace("{c}", "email")))


ROWS_AND_SETS = (
    "SELECT p FROM vault.people p",
    "SELECT people FROM vault.people",
    "SELECT p::text FROM vault.people p",
    "SELECT (p.*)::text FROM vault.people p",
    "SELECT ROW(p.*) FROM vault.people p",
    "SELECT array_agg(p) FROM vault.people p",
    "SELECT row_to_json(p) FROM vault.people p",
    "SELECT to_jsonb(p) - 'email' FROM vault.people p",
    "SELECT to_jsonb(p)->>'email' FROM vault.people p",
    "SELECT jsonb_agg(p) FROM vault.people p",
    "SELECT count(p) FROM vault.people p",
    "SELECT p = p FROM vault.people p",
    "SELECT p IS NULL FROM vault.people p",
    "SELECT p IS DISTINCT FROM NULL FROM vault.people p",
    "SELECT hash_record(p) FROM vault.people p",
    "SELECT format('%s', p) FROM vault.people p",
    "SELECT xmlelement(name a, xmlforest(p AS b)) FROM vault.people p",
    "SELECT e.value FROM vault.people p, jsonb_each_text(to_jsonb(p)) e",
    "SELECT r.email FROM vault.people p, json_populate_record(NULL::vault.people, to_json(p)) r",
    "SELECT r.email FROM json_populate_recordset(NULL::vault.people, (SELECT json_agg(p) FROM vault.people p)) r",
    "SELECT (SELECT p) FROM vault.people p",
    "SELECT (SELECT s FROM (SELECT p.email) s) FROM vault.people p",
    "SELECT s FROM (SELECT email FROM vault.people) s",
    "SELECT s.* FROM (SELECT p FROM vault.people p) s",
    "SELECT (s.p).email FROM (SELECT p FROM vault.people p) s",
    "SELECT (a).email FROM (SELECT unnest(array_agg(p)) AS a FROM vault.people p) s",
    "SELECT x.email FROM (SELECT array_agg(p) AS many FROM vault.people p) s, unnest(s.many) x",
    "SELECT upper(p.email) FROM vault.people p, vault.visits v",
    "SELECT email FROM vault.people UNION SELECT 'a'",
    "SELECT email FROM vault.people UNION ALL SELECT name FROM vault.people",
    "SELECT name FROM vault.people UNION ALL SELECT email FROM vault.people",
    "SELECT 'a' UNION ALL (SELECT 'b' UNION ALL SELECT email FROM vault.people)",
    "SELECT email FROM vault.people EXCEPT SELECT 'a'",
    "SELECT email FROM vault.people INTERSECT ALL SELECT email FROM vault.people",
    "SELECT id FROM vault.people WHERE email IN (SELECT email FROM open.people)",
    "VALUES ((SELECT email FROM vault.people LIMIT 1))",
    "SELECT * FROM (VALUES (1, 'a'), (2, (SELECT email FROM vault.people LIMIT 1))) v(a, b)",
    "WITH RECURSIVE r(n, e) AS"
    " (SELECT 1, '' UNION ALL SELECT n + 1, p.email FROM r, vault.people p WHERE p.id = n) TABLE r",
    "WITH RECURSIVE r(e) AS (SELECT email FROM vault.people UNION SELECT e || 'a' FROM r WHERE length(e) < 14) TABLE r",
    "SELECT coalesce(a.email, b.email) FROM vault.people a FULL JOIN open.people b USING (id)",
    "SELECT email FROM vault.people a FULL JOIN open.people b USING (email)",
    "SELECT id FROM vault.people NATURAL JOIN vault.logins",
    "SELECT a.id FROM vault.people a JOIN open.people b USING (email)",
    "SELECT a.id FROM vault.people a JOIN open.people b ON a.email < b.email",
    "SELECT j.value FROM vault.people p, json_array_elements(p.notes) j",
    "SELECT t.* FROM vault.people p, JSON_TABLE(p.profile, '$' COLUMNS (x text PATH '$.inner')) t",
    "SELECT t.* FROM vault.people p, XMLTABLE('/a' PASSING xmlelement(name a, p.email) COLUMNS x text PATH '.') t",
    "SELECT * FROM ROWS FROM (unnest(ARRAY(SELECT email FROM vault.people)), generate_series(1, 3)) AS f(a, b)",
    "SELECT e.* FROM vault.people p, unnest(p.tags) e",
    "SELECT tags[1] FROM vault.people",
    "SELECT tags[1:1] FROM vault.people",
    "SELECT profile->'inner' FROM vault.people",
    "SELECT profile['inner'] FROM vault.people",
    "SELECT email(p) FROM vault.people p WHERE upper(p.email) <> ''",
    "SELECT p.upper FROM (SELECT email::text AS upper, email FROM vault.people) p WHERE p.upper < 'm'",
)


@pytest.mark.parametrize("sql", ROWS_AND_SETS)
def test_rows_sets_and_joins_are_followed(
    alice: Pair, target: psycopg.Connection[tuple[object, ...]], sql: str
) -> None:
    would_run(target, sql)
    for mode in MODES:
        answer = alice.ask(sql, mode)
        if answer.errors:
            assert_denied(answer)


# A11: what a masked column decides.

DECIDED = (
    "SELECT id FROM vault.people WHERE {c}::text < 'm'",
    "SELECT count(*) FROM vault.people WHERE {c}::text LIKE 'q%'",
    "SELECT id FROM vault.people WHERE NOT ({c} IS NULL)",
    "SELECT id FROM vault.people ORDER BY {c}::text",
    "SELECT id, {c} FROM vault.people ORDER BY 2",
    "SELECT id, {c} AS x FROM vault.people ORDER BY x DESC",
    "SELECT id FROM vault.people ORDER BY {c} USING <",
    "SELECT count(*) FROM vault.people GROUP BY {c}::text",
    "SELECT {c} FROM vault.people GROUP BY 1",
    "SELECT {c} FROM vault.people GROUP BY ROLLUP ({c})",
    "SELECT 1 FROM vault.people GROUP BY id HAVING min({c}::text) < 'm'",
    "SELECT DISTINCT {c} FROM vault.people",
    "SELECT DISTINCT ON ({c}) id FROM vault.people",
    "SELECT id FROM vault.people LIMIT (SELECT length({c}::text) % 5 FROM vault.people LIMIT 1)",
    "SELECT id FROM vault.people OFFSET (SELECT ascii({c}::text) % 5 FROM vault.people LIMIT 1)",
    "SELECT a.id FROM vault.people a JOIN vault.people b ON a.{c} = b.{c}",
    "SELECT a.id FROM vault.people a JOIN vault.people b USING ({c})",
    "SELECT id FROM vault.people p WHERE EXISTS (SELECT FROM open.people o WHERE o.email = p.{c}::text)",
    "SELECT id FROM vault.people WHERE ({c}::text, id) IN (SELECT email, id FROM open.people)",
    "SELECT id, sum(1) OVER w FROM vault.people WINDOW w AS (PARTITION BY {c}::text)",
    "SELECT id FROM vault.people TABLESAMPLE BERNOULLI ((SELECT ascii({c}::text) % 100 FROM vault.people LIMIT 1))",
    "EXPLAIN SELECT id FROM vault.people WHERE {c}::text < 'm'",
    "EXPLAIN (ANALYZE, TIMING OFF) SELECT id FROM vault.people WHERE {c}::text < 'm'",
    "SELECT id FROM vault.people FETCH FIRST (SELECT length({c}::text) % 3 FROM vault.people LIMIT 1) ROWS ONLY",
)


@pytest.mark.parametrize("shape", DECIDED)
def test_a_masked_column_decides_nothing(
    alice: Pair, target: psycopg.Connection[tuple[object, ...]], shape: str
) -> None:
    for column in MASKED_COLUMNS:
        sql = shape.replace("{c}", column)
        if column == "email" and not sql.startswith("EXPLAIN"):
            would_run(target, sql)
        for mode in ("simple", "extended"):
            alice.is_refused(sql, mode)


# A5: copying it away.

COPIED = (
    "CREATE TABLE open.taken AS SELECT email FROM vault.people",
    "CREATE TABLE open.taken AS TABLE vault.people",
    "CREATE TEMP TABLE taken AS SELECT email FROM vault.people WITH NO DATA",
    "SELECT email INTO open.taken FROM vault.people",
    "SELECT email INTO TEMP taken FROM vault.people",
    "CREATE VIEW open.taken AS SELECT email FROM vault.people",
    "CREATE TEMP VIEW taken AS SELECT upper(email) AS x FROM vault.people",
    "CREATE OR REPLACE VIEW vault.plain_view AS"
    " SELECT id, email AS name, name AS contact, salary AS pay FROM vault.people",
    "CREATE RECURSIVE VIEW open.taken(a) AS SELECT email FROM vault.people",
    "CREATE MATERIALIZED VIEW open.taken AS SELECT email FROM vault.people",
    "CREATE SCHEMA taken CREATE VIEW v AS SELECT email FROM vault.people",
    "INSERT INTO vault.mine (id, note) SELECT id, email FROM vault.people",
    "INSERT INTO vault.mine (id, note) VALUES (1, (SELECT email FROM vault.people LIMIT 1))",
    "INSERT INTO vault.mine VALUES (1, 'a') ON CONFLICT (id)"
    " DO UPDATE SET note = (SELECT email FROM vault.people LIMIT 1)",
    "WITH w AS (INSERT INTO vault.mine (id, note)"
    " SELECT id, email FROM vault.people RETURNING note) SELECT note FROM w",
    "UPDATE vault.mine SET note = p.email FROM vault.people p WHERE p.id = mine.id",
    "UPDATE vault.mine SET (note, amount) = (SELECT email, salary FROM vault.people LIMIT 1)",
    "UPDATE vault.people SET name = email",
    "UPDATE vault.people SET name = email WHERE id = 1 RETURNING name",
    "UPDATE vault.people SET email = email || 'a'",
    "MERGE INTO vault.mine m USING vault.people p ON m.id = p.id WHEN NOT MATCHED THEN INSERT VALUES (p.id, p.email)",
    "MERGE INTO vault.mine m USING vault.people p ON m.id = p.id WHEN MATCHED THEN UPDATE SET note = p.email",
    "MERGE INTO vault.people p USING vault.visits v ON p.id = v.person WHEN MATCHED AND p.salary > 5 THEN DELETE",
    "UPDATE vault.people SET rating = 1 WHERE email < 'm'",
    "DELETE FROM vault.people WHERE email < 'm' RETURNING id",
    "DELETE FROM vault.mine USING vault.people p WHERE p.email < 'm'",
    "UPDATE vault.people SET rating = rating WHERE id = 1 RETURNING upper(email)",
    "UPDATE vault.people SET rating = rating WHERE id = 1 RETURNING upper(new.email), old.email || ''",
    "UPDATE vault.people SET rating = rating WHERE id = 1 RETURNING old",
    "PREPARE taken AS INSERT INTO vault.mine (id, note) SELECT id, email FROM vault.people",
    "EXPLAIN ANALYZE CREATE TABLE open.taken AS SELECT email FROM vault.people",
    "COPY vault.people TO '/tmp/taken'",
    "COPY (SELECT email FROM vault.people) TO PROGRAM 'cat'",
    "CREATE INDEX ON vault.people (upper(email))",
    "CREATE INDEX ON vault.people ((1 / (CASE WHEN salary > 5 THEN 0 ELSE 1 END)))",
    "CREATE INDEX ON vault.people (id) WHERE 1 / (CASE WHEN salary > 5 THEN 0 ELSE 1 END) = 1",
    "CREATE UNIQUE INDEX ON vault.people (feeling)",
    "CREATE STATISTICS open.taken ON (upper(email)), id FROM vault.people",
    "CREATE PUBLICATION taken FOR TABLE vault.people WHERE (salary > 5)",
    "CLUSTER vault.people USING people_salary",
    "ALTER TABLE vault.people RENAME TO renamed",
    "ALTER TABLE vault.people RENAME COLUMN email TO renamed",
    "ALTER TABLE vault.people SET SCHEMA open",
    "ALTER TABLE vault.people ADD COLUMN copied text GENERATED ALWAYS AS (email) STORED",
    "ALTER TABLE vault.people ALTER COLUMN email TYPE text USING 1 / (CASE WHEN salary > 5 THEN 0 ELSE 1 END)",
    "ALTER TABLE vault.people ADD CHECK (email < 'm')",
    "ALTER TABLE vault.people DROP COLUMN name",
    "ALTER TABLE vault.parted DETACH PARTITION vault.parted_north",
    "CREATE TABLE open.taken () INHERITS (vault.people)",
    "CREATE TABLE open.taken PARTITION OF vault.parted FOR VALUES IN ('west')",
    "ALTER SCHEMA vault RENAME TO renamed",
    "ALTER VIEW vault.plain_view RENAME COLUMN contact TO open",
    "ALTER VIEW vault.plain_view SET SCHEMA open",
    "CREATE POLICY taken ON vault.people USING (email < 'm')",
    "CREATE TRIGGER taken BEFORE UPDATE ON vault.people FOR EACH ROW EXECUTE FUNCTION vault.tell_on_write()",
    "CREATE RULE taken AS ON INSERT TO vault.mine"
    " DO ALSO INSERT INTO open.people (name) SELECT email FROM vault.people",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM vault.people LIMIT 1); END $$",
    "CALL vault.nothing()",
    "INSERT INTO vault.rules VALUES (1, 'a')",
)


@pytest.mark.parametrize("sql", COPIED)
def test_a_masked_column_is_not_copied_renamed_or_put_to_work(wanda: Pair, sql: str) -> None:
    """In a transaction that is rolled back, so that what slips through spoils nothing else."""
    wanda.left.simple("BEGIN")
    wanda.right.simple("BEGIN")
    try:
        wanda.is_refused(sql, status="T")
        wanda.is_refused(sql, "extended", status="T")
        assert wanda.is_shown("SELECT 1").rows == [(b"1",)]
    finally:
        wanda.left.simple("ROLLBACK")
        wanda.right.simple("ROLLBACK")


RETURNED = (
    "UPDATE vault.people SET rating = rating WHERE id = 1 RETURNING email, phone, salary",
    "UPDATE vault.people SET rating = rating WHERE id = 1 RETURNING old.email, new.salary",
    "UPDATE vault.people SET rating = rating WHERE id = 1 RETURNING WITH (OLD AS o, NEW AS n) o.email, n.email",
    "WITH w AS (UPDATE vault.people SET rating = rating WHERE id < 3 RETURNING id, email AS x) SELECT x FROM w",
    "MERGE INTO vault.people p USING vault.visits v ON p.id = v.person WHEN MATCHED THEN UPDATE SET rating = rating"
    " RETURNING p.email, merge_action()",
)


@pytest.mark.parametrize("sql", RETURNED)
def test_returning_is_masked(wanda: Pair, sql: str) -> None:
    for mode in MODES:
        assert wanda.is_shown(sql, mode).rows


# A6: COPY.

COPY_SOURCES = (
    "vault.people (email)",
    "vault.people (id, email, salary, tags, secret, profile, born)",
    "(SELECT id, email FROM vault.people)",
    "(SELECT contact, pay FROM vault.plain_view)",
    "(WITH a AS (SELECT phone FROM vault.people) TABLE a)",
    "vault.logins",
    "vault.parted_north",
)
COPY_OPTIONS = (
    "",
    "(FORMAT csv)",
    "(FORMAT csv, HEADER, FORCE_QUOTE *)",
    "(FORMAT csv, QUOTE '$', ESCAPE '\\', DELIMITER ';')",
    "(FORMAT csv, NULL 'q')",
    "(DELIMITER 'q')",
    "(DELIMITER '|', NULL '')",
    "(FORMAT binary)",
    "(ENCODING 'UTF16')",
    "(ENCODING 'SQL_ASCII')",
    "(ENCODING 'LATIN1')",
    "WITH BINARY",
    "WITH DELIMITER 'x' CSV HEADER",
)


@pytest.mark.parametrize("options", COPY_OPTIONS)
@pytest.mark.parametrize("source", COPY_SOURCES)
def test_copy_to_stdout_is_masked(alice: Pair, source: str, options: str) -> None:
    for mode in ("simple", "blind"):
        answer = alice.ask(f"COPY {source} TO STDOUT {options}", mode)
        assert answer.bodies(b"d") or answer.errors


def test_copying_whole_people_shows_them_masked(alice: Pair) -> None:
    answer = alice.is_shown("COPY vault.people TO STDOUT")
    assert len(answer.bodies(b"d")) == ROWS
    assert b"[redacted]" in answer.bodies(b"d")[0]


# A7: cursors, prepared statements and portals, in one name space for both protocols.


def _converse(pair: Pair, *steps: str) -> list[Answer]:
    return [pair.ask(step) for step in steps]


def test_cursors_and_prepared_statements_are_masked(alice: Pair) -> None:
    for kind in ("", "BINARY", "SCROLL", "INSENSITIVE"):
        _converse(
            alice,
            "BEGIN",
            f"DECLARE c {kind} CURSOR FOR SELECT id, email, salary, tags FROM vault.people",
            "FETCH 2 FROM c",
            "FETCH FORWARD ALL FROM c",
        )
        assert alice.ask("FETCH c", "binary").kinds.endswith("Z")
        _converse(alice, "MOVE ABSOLUTE 0 IN c", "COMMIT")
    _converse(
        alice,
        "DECLARE h CURSOR WITH HOLD FOR SELECT email FROM vault.people ORDER BY id",
        "FETCH ALL FROM h",
        "CLOSE h",
    )
    _converse(alice, "PREPARE s AS SELECT email, pin FROM vault.people WHERE id = $1")
    for mode in MODES:
        assert alice.is_shown("EXECUTE s (1)", mode).rows
    alice.is_refused("DECLARE c CURSOR WITH HOLD FOR SELECT upper(email) FROM vault.people")
    alice.is_refused("PREPARE t AS SELECT upper(email) FROM vault.people")
    _converse(alice, "DEALLOCATE s")


@pytest.mark.parametrize("result_format", [0, 1])
def test_portals_are_read_by_fetch_and_cursors_by_execute(alice: Pair, result_format: int) -> None:
    for client in (alice.left, alice.right):
        start = len(client.received)
        client.simple("BEGIN")
        client.send(
            [
                Parse(b"s", "SELECT id, email, salary, secret FROM vault.people").encode(),
                Bind(b"p", b"s", (), (), (result_format,)).encode(),
                Execute(b"p", 2).encode(),
                Execute(b"p", 2).encode(),
                SYNC,
            ]
        )
        assert client.until_ready().kinds == "12DDsDDsZ"
        assert len(client.simple("FETCH 2 FROM p").rows) == 2
        client.simple("DECLARE d BINARY CURSOR FOR SELECT id, email, salary FROM vault.people")
        client.send([Execute(b"d", 3).encode(), Execute(b"d", 0).encode(), SYNC])
        assert client.until_ready().kinds.startswith("DDD")
        client.send([Close("S", b"s").encode(), SYNC])
        client.until_ready()
        client.simple("ROLLBACK")
        assert not alice.twins.canaries.smelt_in(bytes(client.received[start:]))


# A8: formats and types are in every mode above; here many formats in one row.


def test_formats_may_differ_from_column_to_column(alice: Pair) -> None:
    for client in (alice.left, alice.right):
        start = len(client.received)
        for formats in ((0, 1, 0), (1, 0, 1), (1,), ()):
            client.send(
                [
                    Parse(b"", "SELECT email, pin, profile FROM vault.people").encode(),
                    Bind(b"", b"", (), (), formats).encode(),
                    Execute(b"").encode(),
                    SYNC,
                ]
            )
            assert len(client.until_ready().rows) == ROWS
        assert not alice.twins.canaries.smelt_in(bytes(client.received[start:]))


# A9, A15: errors, notices and notifications.


def test_texts_of_the_target_are_withheld_but_their_codes_kept(both: Twins) -> None:
    with both.connect("wanda") as client:
        client.simple("LISTEN news")
        notice = client.simple("INSERT INTO vault.triggered VALUES (1, 'fine')")
        assert notice.tags == ["INSERT 0 1"]
        assert b"withheld" in notice.bodies(b"N")[0]
        assert [body[4:] for body in notice.bodies(b"A")] == [b"news\0\0"]
        failed = client.simple("INSERT INTO vault.triggered VALUES (2, 'fail')").error
        assert (failed["C"], failed.keys() & {"D", "H", "W"}) == ("P0001", set())
        client.simple("DELETE FROM vault.triggered")
        duplicate = client.simple("INSERT INTO vault.logins VALUES ('a', 1)").error
        assert (duplicate["C"], duplicate["n"]) == ("23503", "logins_email_fkey")
        taken = client.simple("UPDATE vault.people SET id = 2 WHERE id = 1").error
        assert (taken["C"], taken["n"]) == ("23505", "people_pkey")
        assert "D" not in taken
        assert not both.canaries.smelt_in(bytes(client.received))


CASTS = (
    "{c}::regclass IS NULL",
    "{c}::regproc IS NULL",
    "{c}::regtype IS NULL",
    "{c}::regrole IS NULL",
    "{c}::regnamespace IS NULL",
    "{c}::regconfig IS NULL",
    "{c}::regcollation IS NULL",
    "{c}::regoper IS NULL",
    "({c} || '(int)')::regprocedure IS NULL",
    "({c} || '.a.b')::regclass IS NULL",
    "('a.b.c.' || {c})::regclass IS NULL",
    "({c} || repeat('x', 70))::regclass IS NULL",
    "to_tsquery({c} || ' ' || {c}) IS NULL",
    "to_tsquery({c} || ' & ') IS NULL",
    "{c}::tsquery IS NULL",
    "{c}::int = 1",
    "{c}::numeric = 1",
    "{c}::date IS NULL",
    "{c}::timestamptz IS NULL",
    "{c}::interval IS NULL",
    "{c}::json IS NULL",
    "{c}::jsonb IS NULL",
    "{c}::xml IS NULL",
    "{c}::uuid IS NULL",
    "{c}::inet IS NULL",
    "{c}::point IS NULL",
    "{c}::int4range IS NULL",
    "{c}::text[] IS NULL",
    "{c}::bytea IS NULL",
    "{c}::bit(3) IS NULL",
    "{c}::vault.mood IS NULL",
    "{c}::vault.people IS NULL",
    "{c}::jsonpath IS NULL",
    "'a' ~ ({c} || '(')",
    "'a' LIKE ({c} || chr(92))",
    "to_date({c}, 'YYYY') IS NULL",
    "to_number({c}, '9') IS NULL",
    "decode({c}, 'hex') IS NULL",
    "decode('aa', {c}) IS NULL",
    "timezone({c}, now()) IS NULL",
    "date_trunc({c}, now()) IS NULL",
    "has_table_privilege({c}, 'select')",
    "has_column_privilege('vault.people', {c}, 'select')",
    "has_schema_privilege({c}, 'usage')",
    "has_database_privilege({c}, 'connect')",
    "pg_has_role({c}, 'usage')",
    "current_setting({c}) IS NULL",
    "pg_get_serial_sequence('vault.people', {c}) IS NULL",
    "pg_input_is_valid('a', {c})",
    "pg_size_bytes({c}) = 1",
    "parse_ident({c} || '\"') IS NULL",
    "format('%' || {c}) IS NULL",
    "regexp_replace('a', 'a', 'b', {c}) IS NULL",
    "repeat({c}, pin::int) IS NULL",
    "make_date(pin::int, 1, 1) IS NULL",
    "pin::smallint = 1",
    "10 ^ salary = 1",
    "sqrt(-salary) = 1",
    "get_byte(secret, pin::int) = 1",
)


@pytest.mark.parametrize("condition", CASTS)
def test_an_error_never_quotes_a_value_even_where_filters_are_permitted(
    permitting: Twins, condition: str
) -> None:
    with permitting.connect("alice") as client:
        for column in ("email", "nick", "phone"):
            for mode in ("simple", "extended"):
                sql = f"SELECT id FROM vault.people WHERE {condition.replace('{c}', column + '::text')}"
                answer = client.run(sql, mode)
                assert answer.status == "I"
        assert not permitting.canaries.smelt_in(bytes(client.received))


def test_permitted_uses_are_permitted(permitting: Twins) -> None:
    """So that the test above speaks of statements that run."""
    with permitting.connect("alice") as client:
        assert client.simple("SELECT id FROM vault.people WHERE email > ''").rows
        assert client.simple("SELECT email FROM vault.people ORDER BY email").rows
        assert_denied(client.simple("SELECT upper(email) FROM vault.people"))


# A12 to A14: statistics, functions that run text, files.

REVEALING = (
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'people'",
    "SELECT * FROM pg_stats_ext",
    "SELECT histogram_bounds FROM pg_catalog.pg_stats",
    "SELECT stavalues1 FROM pg_statistic",
    "SELECT * FROM pg_statistic_ext_data",
    "SELECT query FROM pg_stat_activity",
    "SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_cursors",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_largeobject",
    "SELECT query_to_xml('select email from vault.people', true, false, '')",
    "SELECT table_to_xml('vault.people', true, false, '')",
    "SELECT schema_to_xml('vault', true, false, '')",
    "SELECT database_to_xml(true, false, '')",
    "SELECT query_to_xml_and_xmlschema('select email from vault.people', true, false, '')",
    "SELECT cursor_to_xml('c', 1, true, false, '')",
    "SELECT * FROM ts_stat('select to_tsvector(email) from vault.people')",
    "SELECT ts_rewrite('a'::tsquery, 'select a, b from t')",
    "SELECT vault.first_email()",
    "SELECT * FROM vault.all_people()",
    "SELECT * FROM vault.by_query('select email from vault.people')",
    "SELECT vault.telling()",
    "SELECT (vault.first_email())",
    "SELECT id FROM vault.people WHERE name = vault.first_email()",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('.')",
    "SELECT pg_stat_file('base')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_get(1)",
    "SELECT lo_from_bytea(0, 'a')",
    "SELECT loread(1, 1)",
    "SELECT pg_logical_slot_peek_changes('a', NULL, NULL)",
    "SELECT pg_create_logical_replication_slot('a', 'test_decoding')",
    "SELECT pg_sleep(0)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_cancel_backend(1)",
    "SELECT pg_reload_conf()",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT nextval('a')",
    "SELECT txid_current(), pg_export_snapshot()",
    "SELECT set_config('role', 'gateway_admin', false)",
    "SELECT pg_stat_get_activity(NULL)",
    "SELECT * FROM pg_stat_get_activity(NULL)",
    "SELECT * FROM pg_mcv_list_items('a')",
    "SELECT pg_relation_filepath('vault.people')",
    "SELECT \"query_to_xml\"('select 1', true, false, '')",
    "SELECT pg_catalog.query_to_xml('select 1', true, false, '')",
    "SELECT U&\"\\0071uery_to_xml\"('select 1', true, false, '')",
)


@pytest.mark.parametrize("sql", REVEALING)
def test_statistics_dynamic_sql_and_files_are_out_of_reach(alice: Pair, sql: str) -> None:
    for mode in ("simple", "extended"):
        alice.is_refused(sql, mode)


def test_psql_describes_everything_and_shows_no_value(both: Twins) -> None:
    commands = "\\d vault.*\n"
    commands += "\\d+ vault.people\n\\d+ vault.plain_view\n\\dt+ *.*\n\\df+ vault.*\n\\dx\n\\l+\n\\dn+\n\\dp vault.*\n"
    done = both.gateway.psql("alice", commands, database=f"{TARGET}/{LEFT}", check=False)
    assert "email_length" in done.stdout
    assert not done.stderr
    assert not both.canaries.smelt_in((done.stdout + done.stderr).encode())


def test_psycopg_gets_masked_values_in_every_format(both: Twins) -> None:
    for binary in (False, True):
        with both.gateway.connect("alice", database=f"{TARGET}/{RIGHT}", autocommit=True) as connection:
            for prepare in (None, True):
                with connection.cursor(binary=binary) as cursor:
                    cursor.execute(
                        "SELECT email, phone, salary, pin, token, secret, tags FROM vault.people WHERE id > %s",
                        (0,),
                        prepare=prepare,
                    )
                    rows = cursor.fetchall()
                    assert len(rows) == ROWS
                    assert {row[0] for row in rows} == {"[redacted]"}
                    assert not both.canaries.smelt_in(repr(rows).encode())
                    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
                        cursor.execute("SELECT upper(email) FROM vault.people WHERE id > %s", (0,))
                        pytest.fail("a computed column was shown")


# A17: what stays behind.


def test_tapes_log_and_metrics_hold_what_the_client_saw(both: Twins) -> None:
    with both.connect("alice") as client:
        client.simple("SELECT email, salary, tags FROM vault.people")
        client.extended("SELECT email FROM vault.people", binary=True)
        client.simple("COPY vault.people (email) TO STDOUT")
        client.simple("SELECT upper(email) FROM vault.people")
    session = both.gateway.last_session("alice")
    tape = both.gateway.tape(session)
    assert b"[redacted]" in tape.read_bytes()
    for verb in ("show", "play"):
        told = both.gateway.proxyd("tape", verb, str(tape), check=False)
        assert not both.canaries.smelt_in((told.stdout + told.stderr).encode())
    assert not both.canaries.smelt_in(tape.read_bytes())
    # Hashes and random ids hold any six digits now and then.
    log = re.sub(rb'"(chain|session|version)": "[0-9a-f]+"', b"", both.gateway.daemon.log_path.read_bytes())
    assert not both.canaries.smelt_in(re.sub(rb"[0-9]{6}-[0-9a-f]{16}\.tape", b"", log))
    assert not both.canaries.smelt_in(both.gateway.http("/metrics").encode())


def test_dora_sees_the_values(both: Twins) -> None:
    """The nose works: without masks there is plenty to smell."""
    with both.connect("dora") as client:
        client.simple("SELECT email, reverse(phone), encode(secret, 'hex'), salary FROM vault.people")
        client.simple("SELECT encode(email::bytea, 'base64'), upper(nick) FROM vault.people")
        assert len(both.canaries.smelt_in(bytes(client.received))) > ROWS


def test_copy_in_tells_nothing_of_what_is_there(wanda: Pair) -> None:
    """A COPY that meets a masked value in a unique column fails without quoting it."""
    for client in (wanda.left, wanda.right):
        start = len(client.received)
        client.send(Query("COPY vault.mine (id, note) FROM STDIN").encode())
        assert client.until(b"G", b"Z").kinds == "G"
        client.send([CopyData(b"1\tx\n1\ty\n").encode(), CopyDone().encode()])
        answer = client.until_ready()
        assert answer.error["C"] == "23505"
        assert not wanda.twins.canaries.smelt_in(bytes(client.received[start:]))
