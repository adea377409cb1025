-- DDL and DML, with psql's own printing of it.
create table item (id int generated always as identity primary key, name text not null unique,
                   price numeric(8,2) check (price > 0), tags text[] default '{}', doc jsonb);
insert into item (name, price, tags, doc) values
    ('lamp', 12.50, '{a,b}', '{"k": [1, 2.5, null, "ä"]}'), ('rug', 80, null, null), ('mug', 0.01, '{}', '[]')
    returning *;
select * from item order by id;
\x
select * from item order by id;
\x
\pset null '(null)'
table item;
update item set price = price * 2 where name like 'l%' returning id, price;
delete from item where name = 'mug' returning name;
merge into item using (values ('rug', 1.0), ('new', 2.0)) v(n, p) on item.name = v.n
    when matched then update set price = v.p when not matched then insert (name, price) values (v.n, v.p);
truncate item restart identity;
alter table item add column more int default 7;
alter table item rename column more to less;
create index on item (price);
create view v as select name, price from item;
create materialized view mv as select count(*) from item;
refresh materialized view mv;
create type mood as enum ('sad', 'ok', 'happy');
create domain small as int check (value < 10);
create function twice(i int) returns int language sql as 'select i * 2';
select twice(21), 'ok'::mood, 3::small;
comment on table item is 'things';
create table child () inherits (item);
create table part (a int) partition by range (a);
create table part1 partition of part for values from (0) to (10);
insert into part values (5);
select tableoid::regclass, * from part;
create sequence s start 5;
select nextval('s'), currval('s'), setval('s', 100), nextval('s');
drop sequence s;
create table if not exists item (x int);
drop table if exists nothing;
drop table item;
drop table item cascade;
create rule r as on insert to part do also notify hello;
create table copied as select generate_series(1, 5) as n;
select n into copied2 from copied where n > 2;
explain (costs off) select * from copied where n = 1;
analyze copied;
vacuum copied;
lock table copied;
begin; lock table copied in share mode; commit;
do $$ begin raise notice 'from a block: %', 42; raise warning 'careful'; end $$;
do $$ begin raise exception 'stop' using errcode = 'P0042', detail = 'why', hint = 'what'; end $$;
create procedure p(inout x int) language plpgsql as $$ begin x := x + 1; raise info 'in p'; end $$;
call p(1);
grant select on copied to public;
revoke all on copied from public;
\d copied
\dt
\dn t
