-- name: export_begin
begin isolation level repeatable read read only;

-- name: export_snapshot
select pg_current_snapshot()::text;

-- name: export_counts
-- The number of events of each UTC day, from the index by time.
select   (occurred_at at time zone 'UTC')::date as day, count(*)
from     events
group by day
order by day;

-- name: export_new_days
-- The UTC days of events that an earlier snapshot does not see, from the index by transaction and time.
select distinct (occurred_at at time zone 'UTC')::date
from   events
where  ingested_xid >= pg_snapshot_xmin(%(snapshot)s)
and    not pg_visible_in_snapshot(ingested_xid, %(snapshot)s);

-- name: export_declare
-- The events of a UTC day in their order; times in microseconds since 1970.
declare exported_events no scroll cursor for
select   event_id::text, nullif(user_id, ''), event_name,
         (extract(epoch from occurred_at) * 1000000)::bigint, properties::text
from     events
where    occurred_at >= %(start)s
and      occurred_at < %(end)s
order by occurred_at, event_id;

-- name: export_fetch
-- At most 64 MB, since properties are shorter than 64 kB.
fetch 1000 from exported_events;
