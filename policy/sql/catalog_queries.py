"""The SQL by which a target's catalog is read; texts that PostgreSQL 12 to 18 understand.

Usage by the loader: run SETUP once on the connection; to load, run BEGIN_SNAPSHOT, every text of QUERIES,
END_SNAPSHOT and pass the results (text format) to `catalog_rows.rows_from_text`. To learn cheaply whether
anything changed, compare the value of FINGERPRINT with the one read (first, in the same snapshot) at loading.

Temporary relations of all sessions are left out: the analysis knows a session's own from its statements.
"""

from __future__ import annotations

# With an empty path pg_get_viewdef and pg_get_expr qualify every name outside pg_catalog.
SETUP = "SET search_path = ''"
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
END_SNAPSHOT = "COMMIT"

# Objects made by initdb have OIDs below 16384 (FirstNormalObjectId).

SERVER = """
SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.current_database()
"""

SCHEMAS = """
SELECT n.nspname FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_(temp|toast)' ORDER BY 1
"""

# Which login role may use which schema: the server passes over those of the search path that it may not. The empty
# role stands for everybody.
USAGE = """
SELECT '', n.nspname FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_(temp|toast)' AND pg_catalog.has_schema_privilege('public', n.oid, 'USAGE')
UNION ALL
SELECT r.rolname, n.nspname FROM pg_catalog.pg_roles r CROSS JOIN pg_catalog.pg_namespace n
WHERE r.rolcanlogin AND n.nspname !~ '^pg_(temp|toast)'
  AND NOT pg_catalog.has_schema_privilege('public', n.oid, 'USAGE')
  AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
ORDER BY 1, 2
"""

RELATIONS = """
SELECT c.oid, n.nspname, c.relname, c.relkind,
       EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c') AND n.nspname !~ '^pg_(temp|toast)'
ORDER BY c.oid
"""

COLUMNS = """
SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod,
       CASE WHEN a.attgenerated <> ''
            THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) ELSE '' END
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped
  AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c') AND n.nspname !~ '^pg_(temp|toast)'
ORDER BY a.attrelid, a.attnum
"""

INHERITANCE = """
SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE c.relkind IN ('r', 'p', 'f') ORDER BY 1, 2
"""

VIEWS = """
SELECT c.oid, pg_catalog.pg_get_viewdef(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^pg_(temp|toast)'
ORDER BY c.oid
"""

FUNCTIONS = """
SELECT DISTINCT n.nspname, p.proname,
       n.nspname = 'pg_catalog' AND p.oid < 16384,
       t.typrelid,
       COALESCE((SELECT pg_catalog.json_agg(COALESCE(p.proargnames[m.place], '')
                                            ORDER BY m.place)::pg_catalog.text
                 FROM pg_catalog.unnest(p.proargmodes) WITH ORDINALITY AS m(mode, place)
                 WHERE m.mode IN ('o', 'b', 't')), ''),
       p.prorettype = 'pg_catalog.record'::pg_catalog.regtype AND p.proargmodes IS NULL,
       l.lanname IN ('internal', 'c') AND NOT EXISTS (
         SELECT 1 FROM pg_catalog.pg_aggregate g
         JOIN pg_catalog.pg_proc s ON s.oid IN (g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggserialfn,
           g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn)
         JOIN pg_catalog.pg_language sl ON sl.oid = s.prolang
         WHERE g.aggfnoid = p.oid AND sl.lanname NOT IN ('internal', 'c')),
       t.typtype = 'p' AND t.typname ~ '^any'
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_type t ON t.oid = p.prorettype
WHERE n.nspname !~ '^pg_(temp|toast)'
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""

# Only a superuser makes functions in C, so an operator or cast behind which such a one stands (citext,
# hstore, pg_trgm...) counts as the system's own; one that is written in SQL or another language is reported.
OPERATORS = """
SELECT DISTINCT n.nspname, o.oprname
FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE o.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') ORDER BY 1, 2
"""

# Before PostgreSQL 14 pg_range has no rngmultitypid, so it is asked for by name.
TYPES = """
SELECT t.oid, n.nspname, t.typname, t.typtype, t.typbasetype,
       CASE WHEN t.typelem <> 0 AND t.typlen = -1 AND t.typcategory = 'A' THEN t.typelem
            WHEN t.typtype IN ('r', 'm')
            THEN (SELECT g.rngsubtype FROM pg_catalog.pg_range g
                  WHERE t.oid IN (g.rngtypid, (pg_catalog.to_jsonb(g) ->> 'rngmultitypid')::pg_catalog.oid))
            ELSE 0 END,
       t.typrelid,
       EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'),
       t.oid < 16384 AND n.nspname IN ('pg_catalog', 'information_schema')
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname !~ '^pg_(temp|toast)' ORDER BY t.oid
"""

CASTS = """
SELECT k.castsource, k.casttarget FROM pg_catalog.pg_cast k
JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE k.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') ORDER BY 1, 2
"""

QUERIES: dict[str, str] = {
    "server": SERVER,
    "schemas": SCHEMAS,
    "usage": USAGE,
    "relations": RELATIONS,
    "columns": COLUMNS,
    "inheritance": INHERITANCE,
    "views": VIEWS,
    "functions": FUNCTIONS,
    "operators": OPERATORS,
    "types": TYPES,
    "casts": CASTS,
}

# xmin changes with every new version of a row; statistics are written in place and do not disturb it.
FINGERPRINT = """
SELECT pg_catalog.sum(
  pg_catalog.hashtextextended(kind || ' ' || item || ' ' || version, 0)::pg_catalog.numeric)
FROM (
  SELECT 'c' AS kind, c.oid::pg_catalog.text AS item, c.xmin::pg_catalog.text AS version
    FROM pg_catalog.pg_class c WHERE c.relpersistence <> 't'
  UNION ALL
  SELECT 'a', a.attrelid || ' ' || a.attnum, a.xmin::pg_catalog.text
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE c.relpersistence <> 't' AND a.attnum > 0
  UNION ALL
  SELECT 'd', d.oid::pg_catalog.text, d.xmin::pg_catalog.text
    FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
    WHERE c.relpersistence <> 't'
  UNION ALL
  SELECT 'r', r.oid::pg_catalog.text, r.xmin::pg_catalog.text
    FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
    WHERE c.relpersistence <> 't'
  UNION ALL
  SELECT 'i', i.inhrelid || ' ' || i.inhparent, i.xmin::pg_catalog.text
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE c.relpersistence <> 't'
  UNION ALL
  SELECT 't', t.oid::pg_catalog.text, t.xmin::pg_catalog.text
    FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname !~ '^pg_(temp|toast)'
  UNION ALL
  SELECT 'n', n.oid::pg_catalog.text, n.xmin::pg_catalog.text
    FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(temp|toast)'
  UNION ALL
  SELECT 'm', m.roleid || ' ' || m.member, m.xmin::pg_catalog.text FROM pg_catalog.pg_auth_members m
  UNION ALL
  SELECT 'l', r.oid::pg_catalog.text, r.rolname || ' ' || r.rolsuper || ' ' || r.rolinherit || ' ' || r.rolcanlogin
    FROM pg_catalog.pg_roles r
  UNION ALL SELECT 'p', p.oid::pg_catalog.text, p.xmin::pg_catalog.text FROM pg_catalog.pg_proc p
  UNION ALL SELECT 'o', o.oid::pg_catalog.text, o.xmin::pg_catalog.text FROM pg_catalog.pg_operator o
  UNION ALL SELECT 'k', k.oid::pg_catalog.text, k.xmin::pg_catalog.text FROM pg_catalog.pg_cast k
  UNION ALL SELECT 'x', x.oid::pg_catalog.text, x.xmin::pg_catalog.text FROM pg_catalog.pg_constraint x
    WHERE x.contypid <> 0
) AS everything
"""
