-- Values of unusual types, odd texts, encodings, and results that are big.
select 'NaN'::float8, 'infinity'::float4, '-infinity'::timestamptz, 'infinity'::date, 'NaN'::numeric,
       1e-300::float8, 12345678901234567890.123456789::numeric, '-0'::float8;
select '\x0001020304ff00'::bytea, decode('AAEC', 'base64'), ''::bytea;
select '{{1,2},{3,null}}'::int[], '{}'::text[], array['a,b', 'c"d', 'e\f', null, 'NULL', ''], '[0:1]={a,b}'::text[];
select '{"a": {"b": [1, 2]}}'::json, '{"b": 1, "a": 1.50}'::jsonb, '$.a[*] ? (@ > 1)'::jsonpath;
select '192.168.0.1/24'::inet, '10/8'::cidr, '08:00:2b:01:02:03'::macaddr, '08:00:2b:01:02:03:04:05'::macaddr8;
select '(1,2)'::point, '[(0,0),(1,1)]'::lseg, '((0,0),(1,1))'::box, '((0,0),(1,1),(2,0))'::polygon, '<(0,0),2>'::circle;
select b'10101', varbit '110', '1 day 02:03'::interval, '12:34:56+05'::timetz, 'f47ac10b-58cc-4372-a567-0e02b2c3d479'::uuid;
select 'a fat cat'::tsvector, 'fat & (cat | rat)'::tsquery, '[1,10)'::int4range, '{[1,2),[5,6)}'::int4multirange;
select '<a b="c">d</a>'::xml;
select row(1, 'a', null, row(2)), (select c from (values (1, 'x,y')) c), 'pg_class'::regclass, 'int4'::regtype, '16/B374D848'::pg_lsn;
select 1::oid, 'x'::"char", 'abc'::char(5), 'n'::name, '10:20:'::txid_snapshot, '1.23'::money;
select null, '', ' ', E'a\nb\nc', E'tab\t', E'cr\r', E'\u00e4\U0001F600', E'bell\x07';
select;
select from generate_series(1, 3);
select 1 as a, 2 as a, 3 as "A B", 4;
select g, md5(g::text), repeat(md5(g::text), 20) from generate_series(1, 3000) g;
select repeat('0123456789', 300000);
select string_agg(g::text, ',') from generate_series(1, 50000) g;
select array_agg(g) from generate_series(1, 1000) g;
with recursive t(n) as (values (1) union all select n + 1 from t where n < 10) select sum(n), avg(n) from t;
select g, sum(g) over (order by g), rank() over (order by g % 3) from generate_series(1, 6) g order by g;
select grouping(a), a, count(*) from (values (1), (1), (2)) v(a) group by rollup (a) order by 1, 2;
select * from json_to_recordset('[{"a":1,"b":"x"}]') as x(a int, b text);
select * from unnest(array[1,2], array['a','b','c']) with ordinality;
values (1, 'one'), (2, 'two');
table pg_am order by amname;
set client_encoding = 'UTF8';
set names 'utf8';
select E'\u00e4';
\encoding
\pset format csv
select 1 as a, 'x"y' as b;
\pset format html
select '<b>' as a;
\pset format aligned
\set FETCH_COUNT 7
select g, g * g from generate_series(1, 40) g;
select g, 1 / (20 - g) from generate_series(1, 40) g;
\unset FETCH_COUNT
select 1 as x, 'two' as y \gset
\echo :x :y
select 'select ' || g from generate_series(1, 3) g \gexec
select 1 \gdesc
select $1::int + $2::int as s \bind 3 4 \g
select v, h, sum(n) as n from (values ('a','x',1),('a','y',2),('b','x',3)) t(v,h,n) group by 1,2 order by 1,2 \crosstabview
select 1 \; select 2 \; select 3;
begin \; select 1/0 \; commit;
rollback;
