-- name: daily_stats_enqueue
-- These days are to be counted.
insert into daily_stats_queue (zone, day)
select %(zone)s, unnest(%(days)s::date[])
on conflict do nothing;

-- name: daily_stats_last_complete
-- Days whose numbers change by events alone, and those that are due anyway.
select day from day_users where zone = %(zone)s and counted_at >= ends_at
union  all
select day from daily_stats_queue where zone = %(zone)s;

-- name: daily_stats_edges
-- From where to where days were counted.
select day, starts_at, ends_at from day_users where zone = %(zone)s;

-- name: daily_stats_forget
-- Zones that are not declared any more.
delete from day_events where zone <> all(%(zones)s);
delete from day_users where zone <> all(%(zones)s);
delete from daily_stats_queue where zone <> all(%(zones)s);

-- name: daily_stats_prune
-- Days of a zone that no event can be of yet, or could be of before the first one.
delete from day_events where zone = %(zone)s and (day < %(first)s or day > %(today)s);
delete from day_users where zone = %(zone)s and (day < %(first)s or day > %(today)s);
delete from daily_stats_queue where zone = %(zone)s and (day < %(first)s or day > %(today)s);

-- name: daily_stats_dequeue
-- The days of one zone that wait, from the first one on, without those that are postponed.
with postponed as (
    select * from unnest(%(zones)s::text[], %(days)s::date[]) as postponed (zone, day)
),
due as (
    select zone, day from daily_stats_queue
    except
    select zone, day from postponed
),
first as (
    select   zone, day
    from     due
    order by zone in (select zone from postponed), zone, day
    limit    1
)
delete from daily_stats_queue
using  first, due
where  daily_stats_queue.zone = first.zone
and    daily_stats_queue.day < first.day + %(most)s
and    due.zone = daily_stats_queue.zone
and    due.day = daily_stats_queue.day
returning daily_stats_queue.zone, daily_stats_queue.day;

-- name: daily_stats_count_due
select count(*)
from   daily_stats_queue
where  (zone, day) not in (select * from unnest(%(zones)s::text[], %(days)s::date[]));

-- name: daily_stats_zones
select distinct zone from day_users order by zone;

-- name: daily_stats_counted
-- Those of these days that have numbers.
select   day
from     day_users
where    zone = %(zone)s
and      day = any(%(days)s::date[])
order    by day;

-- name: daily_stats_written
delete from daily_stats_queue where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: daily_stats_clear_users
delete from day_users where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: daily_stats_clear
delete from day_events where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: daily_stats_events
insert into day_events (zone, day, event_name, events, users)
select %(zone)s, day, event_name, events, users
from   unnest(%(days)s::date[], %(names)s::text[], %(events)s::bigint[], %(users)s::int[])
       as counted (day, event_name, events, users);

-- name: daily_stats_users
insert into day_users (zone, day, starts_at, ends_at, events, dau, wau, mau, new_users, counted_at)
select %(zone)s, day, starts_at, ends_at, events, dau, wau, mau, new_users, %(counted_at)s
from   unnest(%(days)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[],
              %(events)s::bigint[], %(dau)s::int[], %(wau)s::int[], %(mau)s::int[], %(new)s::int[])
       as counted (day, starts_at, ends_at, events, dau, wau, mau, new_users)
on conflict (zone, day)
do update set starts_at = excluded.starts_at, ends_at = excluded.ends_at, events = excluded.events,
              dau = excluded.dau, wau = excluded.wau, mau = excluded.mau,
              new_users = excluded.new_users, counted_at = excluded.counted_at;
