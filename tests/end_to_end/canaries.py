"""Two databases that differ only in masked values, and a nose for those values wherever they turn up.

Every masked value is a canary: made of letters and digits that stand nowhere else, so that a piece of it in any
byte that a client gets is a leak. And since `left` and `right` are alike in all that is not masked (the same object
identifiers, the same rows in the same order, values of the same lengths), whoever may not see the values must get
the same bytes from both, whatever is asked: a single bit that differs is a leak too.
"""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from policy.commands import MUST_BE_NAMED
from tests.end_to_end.gateway import TARGET, Gateway
from tests.end_to_end.policies import EVERYTHING
from tests.end_to_end.servers import PostgresServer
from tests.end_to_end.shop_server import ADMIN, CATALOG, READER
from tests.end_to_end.wire_client import Answer, WireClient, assert_denied

LEFT, RIGHT = "left_shop", "right_shop"
ROWS = 12
MODES = ("simple", "extended", "binary", "blind")

# What the canaries are made of. No word of SQL, of an error message or of the schema has four of these in a row.
_LETTERS = "qzxjkvw"  # as in _WORDS
_DIGITS = 6
# Five letters of a canary in a row, as they are or in hexadecimal, in any case, forwards or backwards.
_WORDS = re.compile(r"[qzxjkvw]{5,}|(?:71|7a|78|6a|6b|76|77){5,}|(?:17|a7|87|a6|b6|67){5,}", re.IGNORECASE)
_NUMBERS = re.compile(r"[0-9]{6,}")

SCHEMA = """
CREATE SCHEMA vault;
CREATE SCHEMA open;
CREATE TYPE vault.mood AS ENUM ('calm', 'glad', 'grim');
CREATE DOMAIN vault.address AS text CHECK (value <> '');
CREATE TABLE vault.people (
    id integer PRIMARY KEY,
    name text NOT NULL,
    city text NOT NULL,
    rating integer NOT NULL,
    email text NOT NULL UNIQUE,
    phone varchar(60) NOT NULL,
    home vault.address NOT NULL,
    short char(30) NOT NULL,
    nick name NOT NULL,
    salary numeric(20, 2) NOT NULL,
    pin bigint NOT NULL,
    score double precision NOT NULL,
    born date NOT NULL,
    seen timestamptz NOT NULL,
    token uuid NOT NULL,
    profile jsonb NOT NULL,
    notes json NOT NULL,
    secret bytea NOT NULL,
    tags text[] NOT NULL,
    feeling vault.mood,
    email_length integer GENERATED ALWAYS AS (length(email) + pin % 1000) STORED,
    email_upper text GENERATED ALWAYS AS (upper(email)) STORED
);
CREATE INDEX people_salary ON vault.people (salary);
CREATE TABLE vault.visits (
    id integer PRIMARY KEY, person integer NOT NULL REFERENCES vault.people, place text NOT NULL
);
CREATE TABLE vault.logins (email text PRIMARY KEY REFERENCES vault.people (email), at integer NOT NULL);
CREATE TABLE vault.mine (id integer PRIMARY KEY, note text, amount numeric);
CREATE TABLE vault.rules (id integer PRIMARY KEY, note text);
CREATE TABLE vault.triggered (id integer PRIMARY KEY, note text);
CREATE TABLE vault.holders (id integer PRIMARY KEY, who vault.people, many vault.people[]);
CREATE TABLE open.people (id integer, name text, email text, salary numeric);
INSERT INTO open.people SELECT n, 'open ' || n, 'public' || n || '@example.org', n FROM generate_series(1, 12) n;

CREATE TABLE vault.parted (id integer, region text, email text NOT NULL) PARTITION BY LIST (region);
CREATE TABLE vault.parted_north PARTITION OF vault.parted FOR VALUES IN ('north');
CREATE TABLE vault.parted_south PARTITION OF vault.parted FOR VALUES IN ('south');
CREATE TABLE vault.parent (id integer, email text);
CREATE TABLE vault.child (extra integer) INHERITS (vault.parent);

CREATE VIEW vault.plain_view AS SELECT id, name, email AS contact, salary AS pay FROM vault.people;
CREATE VIEW vault.view_of_view AS SELECT id, contact AS reach, pay AS wage FROM vault.plain_view WHERE id > 0;
CREATE VIEW vault.star_view AS SELECT * FROM vault.people;
CREATE VIEW vault.computed_view AS
    SELECT id, upper(email) AS loud, length(email) AS size, salary * 2 AS twice FROM vault.people;
CREATE VIEW vault.row_view AS SELECT id, p AS whole FROM vault.people p;
CREATE VIEW vault.json_view AS SELECT id, to_jsonb(p) AS doc FROM vault.people p;
CREATE VIEW vault.filtering_view AS SELECT id, name FROM vault.people WHERE salary > 5000000;
CREATE VIEW vault.sorting_view AS SELECT id, name FROM vault.people ORDER BY email;
CREATE VIEW vault.joined_view AS
    SELECT v.id, v.place, p.email AS visitor FROM vault.visits v JOIN vault.people p ON p.id = v.person;
CREATE VIEW vault.union_view AS SELECT id, name AS label FROM vault.people UNION ALL SELECT id, email FROM vault.people;
CREATE VIEW vault.xml_view AS
    SELECT 1 AS id, query_to_xml('select email from vault.people', true, false, '')::text AS doc;
CREATE MATERIALIZED VIEW vault.stored AS SELECT id, email AS kept, upper(email) AS shouted FROM vault.people;
CREATE FUNCTION vault.first_email() RETURNS text LANGUAGE sql STABLE AS
    'SELECT email FROM vault.people ORDER BY id LIMIT 1';
CREATE FUNCTION vault.all_people() RETURNS SETOF vault.people LANGUAGE sql STABLE AS 'SELECT * FROM vault.people';
CREATE FUNCTION vault.by_query(text) RETURNS SETOF text LANGUAGE plpgsql AS 'BEGIN RETURN QUERY EXECUTE $1; END';
CREATE FUNCTION vault.telling() RETURNS integer LANGUAGE plpgsql AS
    'BEGIN RAISE NOTICE ''%'', (SELECT email FROM vault.people LIMIT 1);
     RAISE WARNING ''%'', (SELECT email FROM vault.people LIMIT 1);
     PERFORM pg_notify(''news'', (SELECT email FROM vault.people LIMIT 1)); RETURN 1; END';
CREATE VIEW vault.function_view AS SELECT 1 AS id, vault.first_email() AS found;
CREATE VIEW vault.rows_function_view AS SELECT id, email AS found FROM vault.all_people();
CREATE FUNCTION vault.tell_on_write() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE NOTICE ''%'', (SELECT email FROM vault.people LIMIT 1);
     PERFORM pg_notify(''news'', (SELECT email FROM vault.people LIMIT 1));
     IF NEW.note = ''fail'' THEN RAISE EXCEPTION ''%'', (SELECT email FROM vault.people LIMIT 1)
         USING DETAIL = (SELECT email FROM vault.people LIMIT 1),
         HINT = (SELECT email FROM vault.people LIMIT 1); END IF;
     RETURN NEW; END';
CREATE TRIGGER tell BEFORE INSERT OR UPDATE ON vault.triggered FOR EACH ROW EXECUTE FUNCTION vault.tell_on_write();
CREATE RULE also AS ON INSERT TO vault.rules DO ALSO SELECT upper(email) FROM vault.people;
GRANT USAGE, CREATE ON SCHEMA vault, open TO {reader};
GRANT SELECT, INSERT, UPDATE, DELETE, REFERENCES ON ALL TABLES IN SCHEMA vault, open TO {reader};
GRANT CREATE, TEMPORARY ON DATABASE {database} TO {reader};
DO $$ DECLARE found record; BEGIN
    FOR found IN SELECT c.oid::regclass AS name FROM pg_class c
        WHERE relnamespace IN ('vault'::regnamespace, 'open'::regnamespace)
        AND relkind IN ('r', 'p', 'v', 'm') LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {reader}', found.name); END LOOP;
END $$;
ALTER TYPE vault.mood OWNER TO {reader};
ALTER DOMAIN vault.address OWNER TO {reader};
"""

MASKS = """
masks:
  - name: addresses
    columns: ["vault.people.email", "vault.people.phone", "vault.people.home", "vault.people.nick"]
    method: redact
    {more}
  - name: everywhere
    columns: ["*.*.ssn", "vault.logins.email", "vault.parted.email", "vault.parent.email"]
    method: redact
    {more}
  - name: numbers
    columns: ["vault.people.salary", "vault.people.pin", "vault.people.score"]
    method: {{fixed: {{value: "7"}}}}
    {more}
  - name: times
    columns: ["vault.people.born", "vault.people.seen", "vault.people.short"]
    method: "null"
    {more}
  - name: documents
    columns:
      ["vault.people.profile", "vault.people.notes", "vault.people.secret", "vault.people.tags", "vault.people.token"]
    method: redact
    {more}
  - name: feelings
    columns: ["vault.people.feeling"]
    method: "null"
    {more}
"""

MASKED_COLUMNS = (
    "email",
    "phone",
    "home",
    "short",
    "nick",
    "salary",
    "pin",
    "score",
    "born",
    "seen",
    "token",
    "profile",
    "notes",
    "secret",
    "tags",
)
OPEN_COLUMNS = ("id", "name", "city", "rating")


def policy(*, uses: bool = False) -> str:
    """alice reads under masks; wanda may do everything but call unknown functions, under masks; dora everything.

    uses: the masks permit to filter, join, group and sort by the masked columns (so that bits may be had, not values).
    """
    more = "uses: [filter, join, group, order]" if uses else "uses: []"
    masks = MASKS.format(more=f"{more}\n    unless: {{roles: [dba]}}")
    if not uses:
        masks = masks.replace("    uses: []\n", "")
    return f"""\
version: 1
roles:
  analyst: {{groups: [data]}}
  writer: {{groups: [writers]}}
  dba: {{groups: [dba]}}
access:
  - name: people-read
    roles: [analyst, writer]
    targets: {{names: [{TARGET}]}}
    logins: [readonly]
  - name: dbas
    roles: [dba]
    targets: {{names: [{TARGET}]}}
    logins: [admin]
rules:
  - name: read-the-vault
    effect: allow
    roles: [analyst]
    postgres: {{commands: [select], relations: ["vault.*", "open.*"]}}
  - name: writers-do-nearly-everything
    effect: allow
    roles: [writer]
    postgres:
      commands: ["*", {", ".join(sorted(MUST_BE_NAMED))}]
  - name: writers-set-everything
    effect: allow
    roles: [writer]
    postgres: {{settings: ["*"]}}
{EVERYTHING}
{masks}"""


@dataclass(frozen=True)
class Canaries:
    """The masked values of one database, and what of them must never be seen."""

    words: tuple[str, ...]
    numbers: tuple[str, ...]

    def smelt_in(self, data: bytes) -> list[str]:
        """The pieces of canaries that are in `data`, in any of the disguises looked for."""
        text = data.decode("latin-1")
        found = [match[0] for match in _WORDS.finditer(text)]
        for match in _NUMBERS.finditer(text):
            found.extend(piece for piece in _windows(match[0]) if piece in _number_pieces(self))
        found.extend(piece for piece in _in_base64(self) if piece in text)
        return found


def _windows(digits: str) -> Iterator[str]:
    return (digits[start : start + _DIGITS] for start in range(len(digits) - _DIGITS + 1))


@cache
def _number_pieces(canaries: Canaries) -> frozenset[str]:
    """Of the numbers, forwards and backwards."""
    both = [digits for number in canaries.numbers for digits in (number, number[::-1])]
    return frozenset(piece for digits in both for piece in _windows(digits))


@cache
def _in_base64(canaries: Canaries) -> frozenset[str]:
    """The first words, in either case and at every offset that base64 knows."""
    encoded: set[str] = set()
    for word in canaries.words:
        for case in (word, word.upper()):
            for shift in range(3):
                encoded.add(base64.b64encode(case[shift : shift + 9].encode()).decode())
    return frozenset(encoded)


def make(seed: int) -> tuple[Canaries, list[dict[str, object]]]:
    """The canaries and the rows of vault.people that hold them; another seed changes masked values only."""
    dice = random.Random(seed)  # noqa: S311  (made-up values, not secrets)
    words: list[str] = []
    numbers: list[str] = []
    rows: list[dict[str, object]] = []

    def word() -> str:
        made = "".join(dice.choice(_LETTERS) for _ in range(12))
        words.append(made)
        return made

    def number(digits: int) -> str:
        made = str(dice.randint(3, 8)) + "".join(dice.choice("123456789") for _ in range(digits - 1))
        numbers.append(made)
        return made

    for row in range(1, ROWS + 1):
        token = word().encode().hex() + number(8)
        rows.append(
            {
                "id": row,
                "name": f"person {row}",
                "city": ("Ulm", "Bonn", "Kiel")[row % 3],
                "rating": row * 7 % 5,
                "email": word(),
                "phone": word(),
                "home": word(),
                "short": word(),
                "nick": word(),
                "salary": number(9) + "." + number(2),
                "pin": number(15),
                "score": number(12),
                "born": f"{dice.randint(1931, 1979)}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}",
                "seen": f"{dice.randint(1981, 1989)}-01-{dice.randint(1, 28):02} 10:11:{dice.randint(10, 59)}+00",
                "token": token[:32].ljust(32, "0"),
                "profile": f'{{"inner": "{word()}", "n": {number(9)}}}',
                "notes": f'{{"inner": "{word()}"}}',
                "secret": "\\x" + word().encode().hex(),
                "tags": f"{{{word()},{word()}}}",
                "feeling": dice.choice(("calm", "glad", "grim")),
            }
        )
    kept = tuple(found for found in numbers if len(found) >= _DIGITS)
    return Canaries(tuple(words), kept), rows


def fill(server: PostgresServer, database: str, rows: list[dict[str, object]]) -> None:
    with psycopg.connect(server.dsn(database)) as connection, connection.cursor() as cursor:
        for row in rows:
            names = ", ".join(row)
            marks = ", ".join(f"%({name})s" for name in row)
            cursor.execute(f"INSERT INTO vault.people ({names}) VALUES ({marks})", row)
            cursor.execute("INSERT INTO vault.visits VALUES (%s, %s, 'hall')", (row["id"], row["id"]))
            cursor.execute("INSERT INTO vault.logins VALUES (%s, 1)", (row["email"],))
            region = "north" if int(str(row["id"])) % 2 else "south"
            cursor.execute("INSERT INTO vault.parted VALUES (%s, %s, %s)", (row["id"], region, row["email"]))
            cursor.execute("INSERT INTO vault.child VALUES (%s, %s, 1)", (row["id"], row["email"]))
        cursor.execute("INSERT INTO vault.holders SELECT id, p, array[p] FROM vault.people p")
        cursor.execute("REFRESH MATERIALIZED VIEW vault.stored")
    server.psql("ANALYZE", database)


@dataclass(frozen=True)
class Twins:
    """A gateway before both databases. `canaries`: of both."""

    gateway: Gateway
    canaries: Canaries

    def connect(self, person: str, database: str = LEFT) -> WireClient:
        return WireClient.connect(self.gateway, person, database=f"{TARGET}/{database}")


@contextmanager
def twins(server: PostgresServer, directory: Path, *, uses: bool = False) -> Iterator[Twins]:
    """Make the two databases (once a server) and start a gateway before them."""
    seen: list[Canaries] = []
    template = "template_shop"
    exists = server.psql(f"SELECT count(*) FROM pg_database WHERE datname = '{LEFT}'") != "0"
    if not exists:
        server.psql(f"CREATE DATABASE {template}")
        server.psql(SCHEMA.format(reader=READER, database=template), template)
        for login in (ADMIN, CATALOG):
            server.psql(f"GRANT CONNECT ON DATABASE {template} TO {login}", template)
    for database, seed in ((LEFT, 7), (RIGHT, 8)):
        canaries, rows = make(seed)
        seen.append(canaries)
        if not exists:
            server.psql(f"CREATE DATABASE {database} TEMPLATE {template}")
            server.psql(f"GRANT CREATE, TEMPORARY ON DATABASE {database} TO {READER}")
            fill(server, database, rows)
    both = Canaries(seen[0].words + seen[1].words, seen[0].numbers + seen[1].numbers)
    gateway = Gateway(server, directory, policy=policy(uses=uses), database=LEFT)
    gateway.issue("wanda", "writers", "readonly")
    with gateway:
        yield Twins(gateway, both)


class Pair:
    """The same person in both databases, asking the same. What comes is smelt and compared; see `ask`."""

    def __init__(self, twins: Twins, person: str) -> None:
        self.twins = twins
        self.person = person
        self.left = twins.connect(person, LEFT)
        self.right = twins.connect(person, RIGHT)

    def close(self) -> None:
        self.left.close()
        self.right.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, sql: str, mode: str = "simple") -> Answer:
        """The answer, after making sure that nothing masked is in it and that both databases gave the same.

        The sessions are ready for the next statement, whatever became of this one.
        """
        starts = len(self.left.received), len(self.right.received)
        answers = self.left.run(sql, mode), self.right.run(sql, mode)
        what = f"{mode}: {sql}"
        for client, start in zip((self.left, self.right), starts, strict=True):
            smelt = self.twins.canaries.smelt_in(bytes(client.received[start:]))
            assert not smelt, f"{what} leaked {smelt[:5]}"
        assert answers[0].raw == answers[1].raw, f"{what} told a difference between masked values"
        assert answers[0].bodies(b"Z"), f"{what} ended the session: {answers[0].errors}"
        return answers[0]

    def is_refused(self, sql: str, mode: str = "simple", status: str = "I") -> None:
        """`sql` is denied in the way a denial has to look."""
        answer = self.ask(sql, mode)
        assert answer.errors, f"{mode}: {sql} was not refused: {answer.rows[:2]} {answer.tags}"
        assert_denied(answer, status=status)

    def is_shown(self, sql: str, mode: str = "simple") -> Answer:
        answer = self.ask(sql, mode)
        assert not answer.errors, f"{mode}: {sql} was refused: {answer.errors}"
        return answer
