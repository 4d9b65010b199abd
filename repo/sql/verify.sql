-- name: verify_begin
-- One snapshot for everything that is compared. Sorts get memory, since each is of a limited size.
begin isolation level repeatable read read only;
set local work_mem = '64MB';
set local jit = off;

-- name: verify_background_priority
-- No parallel workers, which leaves the processors to questions.
set local max_parallel_workers_per_gather = 0;

-- name: verify_state
select generation,
       cluster = (select system_identifier from pg_control_system()),
       snapshot::text,
       sweeping_to::text,
       swept_until::text,
       swept_id::text,
       folded_at::text,
       -- The slot of the horizon; without one, the lowest possible slot.
       coalesce((select extract(epoch from horizon) / 900 from retention), -2147483648)::int,
       first_slot
from   fold_state
where  is_current;

-- name: verify_edges
-- The first slots of the UTC months from the first event to after the last one, including dropped events.
select   (extract(epoch from month at time zone 'UTC') / 900)::int
from     (select least(min(occurred_at),
                       (select timestamptz 'epoch' + first_slot * interval '15 minutes'
                        from   fold_state, retention
                        where  generation = %(generation)s
                        and    horizon is not null)) at time zone 'UTC' as first,
                 greatest(max(occurred_at), (select horizon from retention))
                 at time zone 'UTC' as last
          from   events) as events
cross    join generate_series(date_trunc('month', first), last + interval '1 month',
                              interval '1 month') as month
order    by 1;

-- name: verify_name
select event_name from event_names where name_id = %(name_id)s;

-- name: verify_names
select name_id, event_name from event_names;

-- name: verify_retained_slots
-- The number of events in each slot of a range, folded or not; before the horizon, the stored number.
copy (
    select   date_bin('15 minutes', occurred_at, timestamptz 'epoch'), count(*)
    from     events
    where    occurred_at >= timestamptz 'epoch' + %(start)s * interval '15 minutes'
    and      occurred_at <  timestamptz 'epoch' + %(end)s * interval '15 minutes'
    and      %(start)s >= %(horizon)s
    group    by 1
    union    all
    select   timestamptz 'epoch' + slot * interval '15 minutes', events
    from     slots
    where    generation = %(generation)s
    and      name_id = 0
    and      slot >= %(start)s
    and      slot < %(end)s
    and      %(end)s <= %(horizon)s
    order    by 1
) to stdout (format binary);

-- name: verify_recount
-- The folded events of a range of slots by slot, name and user: 0 is no user, -1 is not in a dictionary.
copy (
    select   date_bin('15 minutes', occurred_at, timestamptz 'epoch'),
             coalesce(name_id, -1),
             case when user_id = '' then 0 else coalesce(ordinal, -1) end,
             count(*)
    from     events
    left     join event_names using (event_name)
    left     join users using (user_id)
    where    occurred_at >= timestamptz 'epoch' + %(start)s * interval '15 minutes'
    and      occurred_at <  timestamptz 'epoch' + %(end)s * interval '15 minutes'
    and      occurred_at <  %(folded_at)s
    and      (pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
              or (pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s)
                  and (occurred_at, event_id) <= (%(swept_until)s, %(swept_id)s)))
    group    by 1, 2, 3
    order    by 1, 2, 3
) to stdout (format binary);

-- name: verify_slots
copy (
    select slot, slot + 1, name_id, events, users
    from   slots
    where  generation = %(generation)s
    and    slot >= %(start)s
    and    slot < %(end)s
) to stdout (format binary);

-- name: verify_spans
copy (
    select span_rows.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as requested (start_slot, end_slot)
    cross  join lateral (
        select start_slot, end_slot, name_id, events, users
        from   spans
        where  generation = %(generation)s
        and    spans.start_slot = requested.start_slot
        and    spans.end_slot = requested.end_slot
        offset 0  -- makes the planner look up each span in the index
    ) as span_rows
) to stdout (format binary);

-- name: verify_sealed
-- The spans that start in a range and are sealed, or are not and have rows.
select   start_slot, end_slot, bool_or(is_sealed)
from     (select start_slot, end_slot, true as is_sealed
          from   sealed_spans
          where  generation = %(generation)s
          and    start_slot >= %(start)s
          and    start_slot < %(end)s
          union  all
          select start_slot, end_slot, false
          from   spans
          where  generation = %(generation)s
          and    start_slot >= %(start)s
          and    start_slot < %(end)s) as listed_spans
group    by 1, 2
order    by 1, 2;

-- name: verify_future_events
-- Rows of future_events that differ from the folded events that occur later than the last fold.
select   occurred_at::text, event_name, sum(stored)::bigint, sum(recounted)::bigint
from     (select occurred_at, event_name, user_id, 1 as stored, 0 as recounted
          from   future_events
          where  generation = %(generation)s
          union  all
          select occurred_at, event_name, user_id, 0, 1
          from   events
          where  occurred_at >= %(folded_at)s
          and    (pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
                  or (pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s)
                      and (occurred_at, event_id) <= (%(swept_until)s, %(swept_id)s)))) as compared
group    by occurred_at, event_name, user_id
having   sum(stored) <> sum(recounted)
order    by occurred_at, event_name, user_id;

-- name: verify_future_event_rows
select count(*) from future_events where generation = %(generation)s;

-- name: verify_users
-- Each id must have one ordinal of its own. Counted without relying on the unique indexes.
select count(*), count(distinct user_id), count(distinct ordinal), count(*) filter (where ordinal <= 0)
from   users;

-- name: verify_event_names
select count(*), count(distinct event_name), count(distinct name_id), count(*) filter (where name_id <= 0)
from   event_names;

-- name: verify_fold_state
-- Two values that readers rely on, the first slot and the version of the last change of a span, each with the
-- true value.
select first_slot,
       (select min(slot) from slots where slots.generation = fold_state.generation),
       sealed,
       (select max(version) from sealed_spans where sealed_spans.generation = fold_state.generation)
from   fold_state
where  generation = %(generation)s;

-- name: verify_random_hour
-- The first slot of the hour of the first event after a random time, and its number of events up to a limit.
with range as (
    select min(occurred_at) as first, max(occurred_at) as last
    from   events
    where  occurred_at >= coalesce((select horizon from retention), '-infinity')
),
hour as (
    select   date_bin('1 hour', occurred_at, timestamptz 'epoch') as start
    from     events
    where    occurred_at >= (select first + (last - first) * random() from range)
    order    by occurred_at
    limit    1
)
select (extract(epoch from start) / 900)::int,
       (select count(*)
        from   (select
                from   events
                where  occurred_at >= start
                and    occurred_at < start + interval '1 hour'
                limit  %(limit)s) as counted)
from   hour;

-- name: verify_random_span
-- A random sealed span that contains a slot and is longer than an hour.
select   start_slot, end_slot
from     sealed_spans
where    generation = %(generation)s
and      start_slot <= %(slot)s
and      start_slot > %(slot)s - 31 * 96
and      end_slot > %(slot)s
and      end_slot - start_slot > 4
order    by random()
limit    1;

-- name: verify_random_name
-- All names together (0) in half of the cases, and otherwise a random name.
select   name_id
from     (select 0 as name_id, random() < 0.5 as is_first
          union  all
          (select name_id, random() < 0.5 from event_names order by random() limit 1)) as candidates
order    by is_first desc, name_id
limit    1;

-- name: verify_slots_of_name
copy (
    select slot, slot + 1, name_id, events, users
    from   slots
    where  generation = %(generation)s
    and    name_id = %(name_id)s
    and    slot >= %(start)s
    and    slot < %(end)s
) to stdout (format binary);

-- name: verify_zones
-- The zones that have statistics or should have them, with their first and last day.
select   zone, min(day), max(day)
from     (select zone, day from day_users
          union  all
          select zone, day from day_events
          union  all
          select zone, day from daily_stats_queue
          union  all
          select unnest(%(declared_zones)s::text[]), null) as days
group    by zone
order    by zone;

-- name: verify_daily_stats_queue
-- Days whose statistics may be out of date: queued ones, and those that unfolded events will change. These are
-- UTC days, which are at most one day from the day in the zone.
select day
from   daily_stats_queue
where  zone = %(zone)s
union
select day + distance
from   (select distinct (occurred_at at time zone 'UTC')::date as day
        from   events
        where  ingested_xid >= pg_snapshot_xmin(%(snapshot)s)
        and    not pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
        union
        select distinct (occurred_at at time zone 'UTC')::date
        from   events
        where  occurred_at >= %(folded_at)s
        and    occurred_at < now()) as changed
cross  join generate_series(-2, 31) as distance;

-- name: verify_daily_stats_rows
select count(*) from day_users where zone = %(zone)s and day >= %(first)s and day < %(end)s
union  all
select count(*) from day_events where zone = %(zone)s and day >= %(first)s and day < %(end)s;

-- name: verify_days
select day, starts_at, ends_at, counted_at
from   day_users
where  zone = %(zone)s
and    day >= %(first)s
and    day < %(end)s;

-- name: verify_retained_days
-- Days and their limits as slots, from 29 days earlier on: the users of these days count in mau.
select   day,
         (extract(epoch from starts_at) / 900)::int,
         (extract(epoch from ends_at) / 900)::int,
         events, dau, wau, mau, new_users
from     day_users
where    zone = %(zone)s
and      day >= %(first)s::date - 29
and      day < %(end)s
order    by day;

-- name: verify_retained_names
select day, event_name, events, users
from   day_events
where  zone = %(zone)s
and    day >= %(first)s
and    day < %(end)s;

-- name: verify_day_events
with limits as (
    select array_agg(day order by day) as days,
           array_agg(starts_at order by day) as starts,
           array_agg(ends_at order by day) as ends
    from   day_users
    where  zone = %(zone)s
    and    day >= %(first)s
    and    day < %(end)s
),
located as (
    select width_bucket(occurred_at, starts) as day_number, occurred_at, event_name, user_id
    from   limits
    join   events on occurred_at >= starts[1] and occurred_at < ends[array_upper(ends, 1)]
    where  occurred_at < %(folded_at)s
    and    (pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
            or (pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s)
                and (occurred_at, event_id) <= (%(swept_until)s, %(swept_id)s)))
),
counted as (
    select   days[day_number] as day,
             event_name,
             count(*) as events,
             count(distinct nullif(user_id, '')) as users
    from     located, limits
    where    occurred_at < ends[day_number]
    group    by 1, 2
),
stored as (
    select day, event_name, events, users
    from   day_events
    where  zone = %(zone)s
    and    day >= %(first)s
    and    day < %(end)s
)
select   'day_events',
         day || ' ' || quote_literal(event_name),
         coalesce(stored.events || case stored.events when 1 then ' event, ' else ' events, ' end
                  || stored.users || case stored.users when 1 then ' user' else ' users' end, 'no row'),
         coalesce(counted.events || case counted.events when 1 then ' event, ' else ' events, ' end
                  || counted.users || case counted.users when 1 then ' user' else ' users' end, 'no row')
from     stored
full     join counted using (day, event_name)
where    (stored.events, stored.users) is distinct from (counted.events, counted.users)
and      day <> all(%(queued_days)s::date[])
order    by day, event_name;

-- name: verify_day_users
-- A user counts from a day of activity until the window has passed, or until the next day of activity.
with limits as (
    select array_agg(day order by day) as days,
           array_agg(starts_at order by day) as starts,
           array_agg(ends_at order by day) as ends
    from   day_users
    where  zone = %(zone)s
    and    day >= %(first)s::date - 29
    and    day < %(end)s
),
located as (
    select width_bucket(occurred_at, starts) as day_number, occurred_at, user_id
    from   limits
    join   events on occurred_at >= starts[1] and occurred_at < ends[array_upper(ends, 1)]
    where  occurred_at < %(folded_at)s
    and    (pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
            or (pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s)
                and (occurred_at, event_id) <= (%(swept_until)s, %(swept_id)s)))
),
active as (
    select   days[day_number] as day, user_id, count(*) as events
    from     located, limits
    where    occurred_at < ends[day_number]
    group    by 1, 2
),
with_next as (
    select day,
           lead(day) over days as next_day,
           (day - lag(day) over days < 30) is not true as is_new
    from   active
    where  user_id <> ''
    window days as (partition by user_id order by day)
),
changes as (
    select day, events, 0 as dau, 0 as wau, 0 as mau, 0 as new from active
    union  all
    select day, 0, 1, 1, 1, is_new::int from with_next
    union  all
    select day + 1, 0, -1, 0, 0, 0 from with_next
    union  all
    select least(day + 7, next_day), 0, 0, -1, 0, 0 from with_next
    union  all
    select least(day + 30, next_day), 0, 0, 0, -1, 0 from with_next
    union  all
    select unnest(days), 0, 0, 0, 0, 0 from limits
),
counted as (
    select   day,
             sum(events) as events,
             sum(sum(dau)) over by_day as dau,
             sum(sum(wau)) over by_day as wau,
             sum(sum(mau)) over by_day as mau,
             sum(new) as new_users
    from     changes
    group    by day
    window   by_day as (order by day)
)
select   'day_users',
         day::text,
         format('%%s events, %%s, %%s and %%s users, %%s new or resurrected', stored.events, stored.dau,
                stored.wau, stored.mau, coalesce(stored.new_users::text, 'uncounted')),
         format('%%s events, %%s, %%s and %%s users, %%s new or resurrected', counted.events, counted.dau,
                counted.wau, counted.mau, counted.new_users)
from     day_users as stored
join     counted using (day)
where    zone = %(zone)s
and      day >= %(first)s
and      day < %(end)s
and      (stored.events, stored.dau, stored.wau, stored.mau, stored.new_users)
         is distinct from
         (counted.events, counted.dau, counted.wau, counted.mau, counted.new_users)
and      day <> all(%(queued_days)s::date[])
order    by day;

-- name: verify_column_state
-- The progress of columns, with times in microseconds since 2000, and whether rollups count dropped events of
-- erased users.
select snapshot::text,
       backfill_since::text,
       backfill_to::text,
       backfilled_from::text,
       backfilled_id::text,
       case when isfinite(columns_from)
            then (extract(epoch from columns_from) * 1000000)::bigint - 946684800000000
       end,
       -- The slot of the first event that can be in columns; without one, the lowest possible slot.
       case when isfinite(events_from) then extract(epoch from events_from) / 900 else -2147483648 end::int,
       left_out,
       exists (select from erasures where unknown_before is not null)
from   column_state
where  generation = %(generation)s;

-- name: verify_column_paths
select path_id,
       path,
       case when isfinite(since) then (extract(epoch from since) * 1000000)::bigint - 946684800000000 end
from   column_paths
where  generation = %(generation)s;

-- name: verify_column_erasures
select ordinal from columns_erasures;

-- name: verify_column_chunks
select   chunk_id,
         has_properties,
         events,
         bytes,
         (extract(epoch from first) * 1000000)::bigint - 946684800000000,
         (extract(epoch from last) * 1000000)::bigint - 946684800000000
from     column_chunks
where    generation = %(generation)s
order    by first, chunk_id;

-- name: verify_column_data
copy (
    select path_id, kind, data
    from   column_data
    where  generation = %(generation)s
    and    chunk_id = %(chunk_id)s
) to stdout (format binary);

-- name: verify_column_events
-- The events of a range of time that are written to columns, with the ids of their users and names: -1 stands for
-- an id that is missing.
copy (
    select occurred_at,
           case when user_id = '' then 0 else coalesce(ordinal, -1) end,
           coalesce(name_id, -1),
           ingested_xid,
           event_id,
           properties::text
    from   events
    left   join event_names using (event_name)
    left   join users using (user_id)
    where  occurred_at >= timestamptz '2000-01-01 00:00:00+00' + %(start)s * interval '1 microsecond'
    and    occurred_at <  timestamptz '2000-01-01 00:00:00+00' + %(end)s * interval '1 microsecond'
    and    pg_visible_in_snapshot(ingested_xid, %(column_snapshot)s)
    and    not (pg_visible_in_snapshot(ingested_xid, %(backfill_to)s)
                and not pg_visible_in_snapshot(ingested_xid, %(backfill_since)s)
                and (occurred_at, event_id) < (%(backfilled_from)s::timestamptz, %(backfilled_id)s::uuid))
) to stdout (format binary);

-- name: verify_column_tables
-- Differences that do not belong to a part of time: chunks without columns, columns without a chunk, paths that are listed twice, users
-- whose events should have left the chunks long ago, and columns that are ahead of the rollups.
select 'column_chunks', 'chunk ' || chunk_id, 'no columns', 'columns'
from   column_chunks as chunk
where  generation = %(generation)s
and    not exists (select from column_data as data
                   where data.generation = chunk.generation and data.chunk_id = chunk.chunk_id)
union  all
select distinct 'column_data', 'chunk ' || chunk_id, 'columns', 'none, as column_chunks lacks it'
from   column_data as data
where  generation = %(generation)s
and    not exists (select from column_chunks as chunk
                   where data.generation = chunk.generation and data.chunk_id = chunk.chunk_id)
union  all
select 'column_paths', 'path_id ' || max(path_id), 'a path that has another id as well', 'one id for each path'
from   column_paths
where  generation = %(generation)s
group  by path
having count(*) > 1
union  all
select 'columns_erasures', 'ordinal ' || ordinal, 'a user erased at ' || erased_at, 'at most one day ago'
from   columns_erasures
where  erased_at < now() - interval '1 day'
union  all
select 'columns_erasures', 'ordinal ' || ordinal, 'an ordinal that is in use', 'the ordinal of an erased user'
from   columns_erasures
join   users using (ordinal)
union  all
select 'column_state', 'snapshot', column_state.snapshot::text, 'not after ' || fold_state.snapshot::text
from   column_state
join   fold_state using (generation)
where  generation = %(generation)s
and    pg_snapshot_xmax(column_state.snapshot) > pg_snapshot_xmax(fold_state.snapshot);

-- name: verify_catalogue_counts
-- When the catalogue was counted, the snapshot of the count, and whether columns may lack properties. No row if events
-- that it counted were dropped: only columns have these.
select counted_at,
       snapshot::text,
       exists (select from column_state where generation = %(generation)s and left_out)
       or exists (select from column_paths where generation = %(generation)s and since > '-infinity')
from   catalogue_counts
where  not exists (select from retention where horizon is not null);

-- name: verify_catalogue_rows
select path,
       events,
       users,
       (extract(epoch from first_seen) * 1000000)::bigint - 946684800000000,
       (extract(epoch from last_seen) * 1000000)::bigint - 946684800000000,
       texts,
       numbers,
       booleans,
       distinct_values,
       frequent_values
from   catalogue_properties;

-- name: verify_catalogue_events
-- The counted events, with hashes of their users; 0 stands for no user.
copy (
    select occurred_at,
           case when user_id = '' then 0 else hashtextextended(user_id, 0) end,
           properties::text
    from   events
    where  pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
    and    occurred_at < %(counted_at)s
    and    properties <> '{}'
) to stdout (format binary);

-- name: verify_catalogue_names
-- Event names with counts that differ from the counted events.
with recounted as (
    select   event_name,
             count(*) as events,
             count(distinct nullif(user_id, '')) as users,
             min(occurred_at) as first_seen,
             max(occurred_at) as last_seen
    from     events
    where    pg_visible_in_snapshot(ingested_xid, %(snapshot)s)
    and      occurred_at < %(counted_at)s
    group by event_name
)
select   event_name,
         to_jsonb(stored) - 'event_name',
         to_jsonb(recounted) - 'event_name'
from     catalogue_names as stored
full     join recounted using (event_name)
where    exists (select from catalogue_names)
and      (stored.events, stored.users, stored.first_seen, stored.last_seen)
         is distinct from
         (recounted.events, recounted.users, recounted.first_seen, recounted.last_seen)
order by event_name;
