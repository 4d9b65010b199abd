-- name: daily_stats_enqueue
-- Days whose statistics must be computed.
insert into daily_stats_queue (zone, day)
select %(zone)s, unnest(%(days)s::date[])
on conflict do nothing;

-- name: daily_stats_up_to_date
-- Days that were computed after they had ended, which only new events change, and days in the queue.
select day from day_users where zone = %(zone)s and counted_at >= ends_at
union  all
select day from daily_stats_queue where zone = %(zone)s;

-- name: daily_stats_day_limits
-- The limits of days at the time when they were computed.
select day, starts_at, ends_at from day_users where zone = %(zone)s;

-- name: daily_stats_delete_other_zones
-- Deletes the statistics of zones that are not declared any more.
delete from day_events where zone <> all(%(zones)s);
delete from day_users where zone <> all(%(zones)s);
delete from daily_stats_queue where zone <> all(%(zones)s);

-- name: daily_stats_prune
-- Deletes the days of a zone before its first event and after today.
delete from day_events where zone = %(zone)s and (day < %(first_day)s or day > %(today)s);
delete from day_users where zone = %(zone)s and (day < %(first_day)s or day > %(today)s);
delete from daily_stats_queue where zone = %(zone)s and (day < %(first_day)s or day > %(today)s);

-- name: daily_stats_dequeue
-- Takes the first queued days of one zone off the queue, except those that are postponed.
with postponed as (
    select * from unnest(%(zones)s::text[], %(days)s::date[]) as postponed (zone, day)
),
due as (
    select zone, day from daily_stats_queue
    except
    select zone, day from postponed
),
first_due as (
    select   zone, day
    from     due
    order by zone in (select zone from postponed), zone, day
    limit    1
)
delete from daily_stats_queue
using  first_due, due
where  daily_stats_queue.zone = first_due.zone
and    daily_stats_queue.day < first_due.day + %(limit)s
and    due.zone = daily_stats_queue.zone
and    due.day = daily_stats_queue.day
returning daily_stats_queue.zone, daily_stats_queue.day;

-- name: daily_stats_count_due
select count(*)
from   daily_stats_queue
where  (zone, day) not in (select * from unnest(%(zones)s::text[], %(days)s::date[]));

-- name: daily_stats_zones
select distinct zone from day_users order by zone;

-- name: daily_stats_existing
-- The days, of those in the parameter, that have statistics.
select   day
from     day_users
where    zone = %(zone)s
and      day = any(%(days)s::date[])
order    by day;

-- name: daily_stats_dequeue_days
delete from daily_stats_queue where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: daily_stats_delete_users
delete from day_users where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: daily_stats_delete_events
delete from day_events where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: daily_stats_write_events
insert into day_events (zone, day, event_name, events, users)
select %(zone)s, day, event_name, events, users
from   unnest(%(days)s::date[], %(names)s::text[], %(events)s::bigint[], %(users)s::int[])
       as computed (day, event_name, events, users);

-- name: daily_stats_write_users
insert into day_users (zone, day, starts_at, ends_at, events, dau, wau, mau, new_users, counted_at)
select %(zone)s, day, starts_at, ends_at, events, dau, wau, mau, new_users, %(counted_at)s
from   unnest(%(days)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[],
              %(events)s::bigint[], %(dau)s::int[], %(wau)s::int[], %(mau)s::int[], %(new_users)s::int[])
       as computed (day, starts_at, ends_at, events, dau, wau, mau, new_users)
on conflict (zone, day)
do update set starts_at = excluded.starts_at, ends_at = excluded.ends_at, events = excluded.events,
              dau = excluded.dau, wau = excluded.wau, mau = excluded.mau,
              new_users = excluded.new_users, counted_at = excluded.counted_at;
