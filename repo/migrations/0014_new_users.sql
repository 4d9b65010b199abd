-- More for SQL readers: who is new on a day, and what takes how much of the disk.

alter table day_users add column new_users integer;

insert into numbers_due (zone, day)
select zone, day from day_users
on conflict do nothing;

create or replace view daily_users as
select zone, day, starts_at, events, dau, wau, mau, dau::float8 / nullif(mau, 0) as stickiness,
       ends_at > counted_at as partial, counted_at,
       new_users, dau - new_users as returning_users
from   day_users;

comment on column day_users.new_users is 'Null until the folder has counted them';
comment on column daily_users.new_users is
    'Active on the day and on none of the 29 days before';
comment on column daily_users.returning_users is
    'Active on the day and on one of the 29 days before';

create view storage as
select part, relname as name, pg_table_size(oid) as table_bytes, pg_indexes_size(oid) as index_bytes
from   (values ('events', 'events'),
               ('users', 'rollups'), ('event_names', 'rollups'), ('slots', 'rollups'),
               ('spans', 'rollups'), ('sealed_spans', 'rollups'), ('ahead', 'rollups'),
               ('day_events', 'numbers'), ('day_users', 'numbers')) as held (name, part)
join   pg_class on relname = name
where  relnamespace = (select relnamespace from pg_class where oid = 'events'::regclass);

comment on view storage is 'Bytes of the tables and of their indexes';
