-- COPY in both directions and all formats.
create table c (a int, b text, d bytea);
copy c from stdin;
1	one	\\x00ff
2	two\ttab	\N
3	\N	\\x
\.
copy c from stdin (format csv, header);
a,b,d
4,"quoted, ""q""",\x01
5,,
\.
copy c to stdout;
copy c to stdout (format csv, header, quote '''', null 'NULL');
copy (select a, upper(b) from c order by a desc) to stdout (delimiter '|');
copy c (b) to stdout;
copy c from stdin;
x	bad	\N
\.
copy c from stdin;
1
\.
copy nothere from stdin;
copy c from stdin (format text, format csv);
begin;
copy c from stdin;
6	six	\N
\.
select count(*) from c;
rollback;
select count(*) from c;
\copy c to '/dev/stdout' csv
\copy (select 1 as x, 'y' as y) to pstdout csv header
copy (select 1/0) to stdout;
copy (select g, 1/(3 - g) from generate_series(1, 5) g) to stdout;
select 1; copy c to stdout; select 2;
copy c to '/nonexistent/file';
