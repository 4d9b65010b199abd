-- name: rollups_state
-- The watermark of the current generation. No row if there is none, or if it is of another cluster, whose
-- transaction ids mean nothing here.
select generation,
       -- A restored database has a different history from here on, and so has a promoted replica, though
       -- the checkpoint that shows its timeline may come minutes later.
       concat_ws('.', lineage,
                 (select greatest(timeline_id, min_recovery_end_timeline)
                  from   pg_control_checkpoint(), pg_control_recovery()),
                 'fold_state'::regclass::oid,
                 (select oid from pg_database where datname = current_database())),
       -- Detects older files that were put back while the server was stopped: all else is the same then.
       pg_postmaster_start_time(),
       folded_at,
       first_slot,
       sealed,
       -- A snapshot on a replica does not list the transactions in progress.
       pg_current_snapshot()::text
       || case when pg_is_in_recovery()
               then (select coalesce(string_agg(xid::text, ','), '')
                     from   pg_snapshot_xip(snapshot) as in_progress (xid)
                     where  pg_xact_status(xid) = 'in progress')
               else ''
          end,
       snapshot::text,
       sweeping_to::text,
       swept_until::text,
       swept_id::text,
       -- The number of events in the tail, up to a limit, first those of transactions since the watermark,
       -- then those that were in progress at that time. The order makes the planner use the index.
       (select count(*)
        from   ((select
                 from   (select lag(xid, 1, '0'::xid8) over (order by xid) as after_xid, xid as before_xid
                         from   (select pg_snapshot_xip(pg_current_snapshot())
                                 union all
                                 select pg_snapshot_xmax(pg_current_snapshot())) as in_progress (xid)
                         where  xid >= pg_snapshot_xmax(snapshot)) as tail
                 cross  join lateral (
                     select
                     from   events
                     where  ingested_xid >= pg_snapshot_xmax(snapshot)
                     and    ingested_xid > after_xid
                     and    ingested_xid < before_xid
                     order  by ingested_xid
                     limit  {limit}
                 ) as recent
                 limit  {limit})
                union all
                (select
                 from   (select xid
                         from   pg_snapshot_xip(snapshot) as in_progress (xid)
                         where  pg_visible_in_snapshot(xid, pg_current_snapshot())
                         and    pg_xact_status(xid) is distinct from 'in progress'
                         offset 0) as ended
                 cross  join lateral (
                     select
                     from   events
                     where  ingested_xid >= xid
                     and    ingested_xid <= xid  -- an equality would make the order pointless
                     order  by ingested_xid
                     limit  {limit}
                 ) as recent
                 limit  {limit})
                limit  {limit}) as counted),
       exists (select
               from   future_events
               where  future_events.generation = fold_state.generation
               and    occurred_at >= folded_at),
       (select coalesce(max(name_id), 0) from event_names),
       (select coalesce(max(version), 0)
        from   month_versions
        where  month between %(first_month)s and %(last_month)s),
       (select horizon from retention)
from   fold_state
where  is_current
and    cluster = (select system_identifier from pg_control_system());

-- name: rollups_horizon
-- The horizon; no row if there is none.
select horizon from retention where horizon is not null;

-- name: rollups_max_ordinal
-- The highest ordinal: about the number of users.
select coalesce(max(ordinal), 0) from users;

-- name: rollups_sealed_since
-- Spans that were sealed or changed after a version.
select start_slot, end_slot, version
from   sealed_spans
where  generation = %(generation)s
and    version > %(since)s;

-- name: rollups_name_ids
select event_name, name_id from event_names where event_name = any(%(names)s);

-- name: rollups_names
select name_id, event_name from event_names where name_id = any(%(name_ids)s);

-- name: rollups_first_names
-- The first names by code points, independent of the collation of the database.
select   name_id, event_name
from     event_names
where    name_id = any(%(name_ids)s)
order    by event_name collate "C"
limit    %(count)s;

-- name: rollups_spans
copy (
    select span_rows.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as requested (start_slot, end_slot)
    cross  join lateral (
        select start_slot, end_slot, name_id, events, users
        from   spans
        where  generation = %(generation)s
        and    spans.start_slot = requested.start_slot
        and    spans.end_slot = requested.end_slot
        and    {names}
        offset 0  -- makes the planner look up each span in the index
    ) as span_rows
) to stdout (format binary);

-- name: rollups_slots
copy (
    select slot_rows.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as gaps (start_slot, end_slot)
    cross  join lateral (
        select slot, name_id, events, users
        from   slots
        where  generation = %(generation)s
        and    slot >= start_slot
        and    slot < end_slot
        and    {names}
        offset 0
    ) as slot_rows
) to stdout (format binary);

-- name: rollups_cost
-- Number of rows and bytes of spans and slots, and of events in the slots that edges cut (the upper limit of
-- events in edges).
with rollups as (
    select span_sizes.bytes
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as requested (start_slot, end_slot)
    cross  join lateral (
        select octet_length(users) as bytes
        from   spans
        where  generation = %(generation)s
        and    spans.start_slot = requested.start_slot
        and    spans.end_slot = requested.end_slot
        and    {names}
        offset 0
    ) as span_sizes
    union  all
    select slot_sizes.bytes
    from   unnest(%(gap_starts)s::int[], %(gap_ends)s::int[]) as gaps (start_slot, end_slot)
    cross  join lateral (
        select octet_length(users) as bytes
        from   slots
        where  generation = %(generation)s
        and    slot >= start_slot
        and    slot < end_slot
        and    {names}
        offset 0
    ) as slot_sizes
)
select count(*)::int8,
       coalesce(sum(bytes), 0)::int8,
       (select coalesce(sum(events), 0)::int8
        from   slots
        where  generation = %(generation)s
        and    slot = any(%(edge_slots)s::int[])
        and    name_id = 0)
from   rollups;

-- name: rollups_tail_count
-- The number of events of a range that are in the tail, up to a limit.
select count(*)
from   (select
        from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[],
                      %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
               as tail (first_xid, end_xid, swept_until, swept_id)
        cross  join (
            select greatest(%(start)s::timestamptz, %(horizon)s) as start_time,
                   %(end)s::timestamptz as end_time
            offset 0
        ) as range
        cross  join lateral (
            select
            from   events
            where  ingested_xid >= first_xid
            and    ingested_xid < end_xid
            and    occurred_at >= start_time
            and    occurred_at <  end_time
            and    (occurred_at, event_id) > (swept_until, swept_id)
            order  by ingested_xid
            limit  %(limit)s
        ) as unfolded
        limit  %(limit)s) as counted;

-- name: rollups_tail
-- The number of events in the tail and of future events, by segment and name, and their users: ordinals of
-- 4 bytes each, and the ids of users without one, each followed by a zero byte. A user is repeated for each
-- event, since removing duplicates here costs more.
copy (
    with tail_events as (
        select unfolded.*
        from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[],
                      %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
               as tail (first_xid, end_xid, swept_until, swept_id)
        cross  join (
            -- Hidden from the planner, so that it uses the index on ids and time, not the one on time.
            select %(start)s::timestamptz as start_time, %(end)s::timestamptz as end_time offset 0
        ) as range
        cross  join lateral (
            select occurred_at, event_name, user_id
            from   events
            where  ingested_xid >= first_xid
            and    ingested_xid < end_xid
            and    occurred_at >= start_time
            and    occurred_at <  end_time
            and    (occurred_at, event_id) > (swept_until, swept_id)
            order  by ingested_xid
            offset 0
        ) as unfolded
        where  occurred_at >= %(horizon)s
        union  all
        select occurred_at, event_name, user_id
        from   future_events
        where  generation = %(generation)s
        and    occurred_at >= %(folded_at)s
    ),
    matching as (
        select width_bucket(occurred_at, %(edges)s::timestamptz[]) - 1 as segment,
               case when %(by_name)s then event_name else '' end as event_name,
               user_id
        from   tail_events
        where  occurred_at >= %(start)s
        and    occurred_at <  %(end)s
        and    (%(names)s::text[] is null or event_name = any(%(names)s))
    )
    select   segment,
             count(*)::int8,
             convert_to(event_name, 'UTF8'),
             coalesce(string_agg(int4send(ordinal), ''), ''),
             coalesce(string_agg(convert_to(user_id, 'UTF8') || '\x00', '')
                      filter (where ordinal is null and user_id <> ''), '')
    from     matching
    left     join lateral (
        select ordinal from users where users.user_id = matching.user_id offset 0  -- one lookup each
    ) as known_user on true
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_long_tail
-- As rollups_tail, for very many events: the conditions are visible to the planner, and users are joined all at
-- once. The last part of the union is never read: it makes the planner expect so many rows, which its
-- statistics do not know yet.
copy (
    with matching as (
        select width_bucket(occurred_at, %(edges)s::timestamptz[]) - 1 as segment,
               case when %(by_name)s then event_name else '' end as event_name,
               user_id
        from   events
        where  ({ranges})
        and    occurred_at >= %(horizon)s
        and    occurred_at >= %(start)s
        and    occurred_at <  %(end)s
        and    (%(names)s::text[] is null or event_name = any(%(names)s))
        union  all
        select width_bucket(occurred_at, %(edges)s::timestamptz[]) - 1,
               case when %(by_name)s then event_name else '' end,
               user_id
        from   future_events
        where  generation = %(generation)s
        and    occurred_at >= %(folded_at)s
        and    occurred_at >= %(start)s
        and    occurred_at <  %(end)s
        and    (%(names)s::text[] is null or event_name = any(%(names)s))
        union  all
        select 0, '', '' from generate_series(1, %(row_estimate)s) where (select false)
    )
    select   segment,
             count(*)::int8,
             convert_to(event_name, 'UTF8'),
             coalesce(string_agg(int4send(ordinal), ''), ''),
             coalesce(string_agg(convert_to(user_id, 'UTF8') || '\x00', '')
                      filter (where ordinal is null and user_id <> ''), '')
    from     matching
    left     join (select user_id, ordinal from users offset 0) as known_users using (user_id)
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_long_tail_range
ingested_xid >= %(first_xid)s::xid8
and ingested_xid < %(end_xid)s::xid8

-- name: rollups_long_tail_backfilled_range
ingested_xid >= %(first_xid)s::xid8
and ingested_xid < %(end_xid)s::xid8
and (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)

-- name: rollups_edges
-- The number of events and the users in edges: ranges that cut a slot. The columns are those of rollups_tail.
copy (
    with matching as (
        select   segment,
                 case when %(by_name)s then event_name else '' end as event_name,
                 user_id,
                 count(*) as events
        from     unnest(%(segments)s::int[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
                 as edges (segment, start_time, end_time)
        cross    join lateral (
            select event_name, user_id
            from   events
            where  occurred_at >= start_time
            and    occurred_at <  end_time
            and    (%(names)s::text[] is null or event_name = any(%(names)s))
            offset 0
        ) as edge_events
        group    by 1, 2, 3
    )
    select   segment,
             sum(events)::int8,
             convert_to(event_name, 'UTF8'),
             coalesce(string_agg(int4send(ordinal), ''), ''),
             coalesce(string_agg(convert_to(user_id, 'UTF8') || '\x00', '')
                      filter (where ordinal is null and user_id <> ''), '')
    from     matching
    left     join lateral (
        select ordinal from users where users.user_id = matching.user_id offset 0
    ) as known_user on true
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_generations
-- Whether there is a current generation of this cluster, and whether there is any of another one.
select coalesce(bool_or(is_current and is_own), false), coalesce(bool_or(not is_own), false)
from   (select is_current,
               cluster = (select system_identifier from pg_control_system()) as is_own
        from   fold_state) as generations;
