-- Errors of many classes, with everything psql can tell about each.
\set VERBOSITY verbose
selec 1;
select 1 frm;
select * from nowhere;
select nothing from pg_class;
select nofunction(1);
select 1/0;
select 'x'::int;
select 99999999999999999999::int;
select '2024-13-45'::date;
select array[1,2] || array['x'];
select (select 1 union all select 2);
create table c (id int primary key, u text unique, n text not null default 'n', k int check (k > 0), f int references c);
insert into c values (1, 'a', 'n', 1, null);
insert into c values (1, 'b', 'n', 1, null);
insert into c values (2, 'a', 'n', 1, null);
insert into c values (2, 'b', null, 1, null);
insert into c values (2, 'b', 'n', 0, null);
insert into c values (2, 'b', 'n', 1, 99);
select 'unterminated;
';
select "unterminated ident;
";
select $1;
select 1;;
;
-- only a comment
/* and a block comment */
select 1 as "Ünïcode", E'tab\there' as t, U&'\0041' as u, $$dollar$$ as d, $tag$x$tag$ as e;
select 1; select 2; select 3/0; select 4;
select 1; selec 2; select 3;
begin;
select 1;
select 1/0;
select 2;
savepoint s;
commit;
begin;
savepoint a;
select 1/0;
rollback to a;
select 'again';
release savepoint a;
release savepoint a;
rollback;
rollback;
commit;
begin;
begin;
selec 1;
select 1;
end;
start transaction isolation level serializable read only deferrable;
insert into c values (5);
rollback;
set transaction isolation level nonsense;
set nosuch.setting = 1;
set nosuchsetting = 1;
set work_mem = 'lots';
show nosuchsetting;
\set VERBOSITY terse
select 1/0;
\set VERBOSITY sqlstate
select 1/0;
\set VERBOSITY default
select 1/0;
\errverbose
do $$ begin perform 1/0; end $$;
create function f(a text) returns int language plpgsql as $$ begin return a::int; end $$;
select f('zzz');
select repeat('x', 100) as y where 'Ä' = 'é' or 1/0 = 1;
select * from c where id = 'x';
select pg_sleep('x');
execute nothere;
deallocate nothere;
fetch from nothere;
close nothere;
prepare twice as select 1;
prepare twice as select 2;
declare c cursor for select 1;
alter table c alter column u type int using u::int;
\set ON_ERROR_ROLLBACK on
begin;
select 1/0;
select 'still here';
commit;
\set ON_ERROR_ROLLBACK off
\set AUTOCOMMIT off
select 'implicit begin';
insert into c values (7, 'q');
rollback;
\set AUTOCOMMIT on
select count(*) from c;
