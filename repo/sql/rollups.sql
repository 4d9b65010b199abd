-- name: rollups_state
-- Up to which snapshot all is folded; no row where nothing is, or where ids of transactions
-- are those of another cluster.
select generation,
       -- What was restored has another past from here on, in place or from a backup. So has a replica
       -- that was promoted, though the checkpoint that says so may come minutes later.
       concat_ws('.', lineage,
                 (select greatest(timeline_id, min_recovery_end_timeline)
                  from   pg_control_checkpoint(), pg_control_recovery()),
                 'fold_state'::regclass::oid,
                 (select oid from pg_database where datname = current_database())),
       -- The files of an older moment may be put back while the server is stopped: all else is the same.
       pg_postmaster_start_time(),
       folded_at,
       first_slot,
       sealed,
       -- A snapshot of a replica does not tell which transactions are not over.
       pg_current_snapshot()::text
       || case when pg_is_in_recovery()
               then (select coalesce(string_agg(xid::text, ','), '')
                     from   pg_snapshot_xip(snapshot) as late (xid)
                     where  pg_xact_status(xid) = 'in progress')
               else ''
          end,
       snapshot::text,
       sweeping_to::text,
       swept_until::text,
       swept_id::text,
       -- How many wait, up to a limit, without those of transactions that are not over. What came in
       -- since the fold is read by the index, whatever the planner expects.
       (select count(*)
        from   ((select
                 from   (select lag(xid, 1, '0'::xid8) over (order by xid) as after, xid as until
                         from   (select pg_snapshot_xip(pg_current_snapshot())
                                 union all
                                 select pg_snapshot_xmax(pg_current_snapshot())) as open (xid)
                         where  xid >= pg_snapshot_xmax(snapshot)) as over
                 cross  join lateral (
                     select
                     from   events
                     where  ingested_xid >= pg_snapshot_xmax(snapshot)
                     and    ingested_xid > after
                     and    ingested_xid < until
                     order  by ingested_xid
                     limit  {many}
                 ) as recent
                 limit  {many})
                union all
                (select
                 from   (select xid
                         from   pg_snapshot_xip(snapshot) as open (xid)
                         where  pg_visible_in_snapshot(xid, pg_current_snapshot())
                         and    pg_xact_status(xid) is distinct from 'in progress'
                         offset 0) as late
                 cross  join lateral (
                     select
                     from   events
                     where  ingested_xid >= xid
                     and    ingested_xid <= xid  -- or it would be no order
                     order  by ingested_xid
                     limit  {many}
                 ) as recent
                 limit  {many})
                limit  {many}) as waiting),
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
-- Before which events are dropped; no row where none is.
select horizon from retention where horizon is not null;

-- name: rollups_users
-- About how many users there are: none has a higher ordinal.
select coalesce(max(ordinal), 0) from users;

-- name: rollups_sealed
-- Spans that were sealed or changed since a version.
select start_slot, end_slot, version
from   sealed_spans
where  generation = %(generation)s
and    version > %(since)s;

-- name: rollups_ids
select event_name, name_id from event_names where event_name = any(%(names)s);

-- name: rollups_names
select name_id, event_name from event_names where name_id = any(%(name_ids)s);

-- name: rollups_first_names
-- In the order of their code points, whatever the order of the database.
select   name_id, event_name
from     event_names
where    name_id = any(%(name_ids)s)
order    by event_name collate "C"
limit    %(count)s;

-- name: rollups_spans
copy (
    select found.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as wanted (start_slot, end_slot)
    cross  join lateral (
        select start_slot, end_slot, name_id, events, users
        from   spans
        where  generation = %(generation)s
        and    spans.start_slot = wanted.start_slot
        and    spans.end_slot = wanted.end_slot
        and    {names}
        offset 0  -- one look into the index for each span, whatever the planner knows
    ) as found
) to stdout (format binary);

-- name: rollups_slots
copy (
    select found.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as gap (start_slot, end_slot)
    cross  join lateral (
        select slot, name_id, events, users
        from   slots
        where  generation = %(generation)s
        and    slot >= start_slot
        and    slot < end_slot
        and    {names}
        offset 0
    ) as found
) to stdout (format binary);

-- name: rollups_cost
-- Rows and bytes of spans and slots, and at most so many events of slots that edges cut.
with wanted as (
    select found.bytes
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as wanted (start_slot, end_slot)
    cross  join lateral (
        select octet_length(users) as bytes
        from   spans
        where  generation = %(generation)s
        and    spans.start_slot = wanted.start_slot
        and    spans.end_slot = wanted.end_slot
        and    {names}
        offset 0
    ) as found
    union  all
    select found.bytes
    from   unnest(%(gap_starts)s::int[], %(gap_ends)s::int[]) as gap (start_slot, end_slot)
    cross  join lateral (
        select octet_length(users) as bytes
        from   slots
        where  generation = %(generation)s
        and    slot >= start_slot
        and    slot < end_slot
        and    {names}
        offset 0
    ) as found
)
select count(*)::int8,
       coalesce(sum(bytes), 0)::int8,
       (select coalesce(sum(events), 0)::int8
        from   slots
        where  generation = %(generation)s
        and    slot = any(%(edges)s::int[])
        and    name_id = 0)
from   wanted;

-- name: rollups_tail_count
select count(*)
from   (select
        from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[],
                      %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
               as over (first, until, swept_until, swept_id)
        cross  join (
            select greatest(%(start)s::timestamptz, %(horizon)s) as since,
                   %(end)s::timestamptz as before
            offset 0
        ) as range
        cross  join lateral (
            select
            from   events
            where  ingested_xid >= first
            and    ingested_xid < until
            and    occurred_at >= since
            and    occurred_at <  before
            and    (occurred_at, event_id) > (swept_until, swept_id)
            order  by ingested_xid
            limit  %(most)s
        ) as recent
        limit  %(most)s) as tail;

-- name: rollups_tail
-- Events that are not folded, or were folded before their time, by segment and name, and their users:
-- ordinals of 4 bytes each, and the ids of those who have none, each with a zero after it. Users come
-- as often as they have events: to tell them apart here costs more.
copy (
    with waiting as (
        select recent.*
        from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[],
                      %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
               as over (first, until, swept_until, swept_id)
        cross  join (
            -- Out of the planner's sight: by ids and time, and not by time alone.
            select %(start)s::timestamptz as since, %(end)s::timestamptz as before offset 0
        ) as range
        cross  join lateral (
            select occurred_at, event_name, user_id
            from   events
            where  ingested_xid >= first
            and    ingested_xid < until
            and    occurred_at >= since
            and    occurred_at <  before
            and    (occurred_at, event_id) > (swept_until, swept_id)
            order  by ingested_xid
            offset 0
        ) as recent
        where  occurred_at >= %(horizon)s
        union  all
        select occurred_at, event_name, user_id
        from   future_events
        where  generation = %(generation)s
        and    occurred_at >= %(folded_at)s
    ),
    found as (
        select width_bucket(occurred_at, %(edges)s::timestamptz[]) - 1 as segment,
               case when %(by_name)s then event_name else '' end as event_name,
               user_id
        from   waiting
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
    from     found
    left     join lateral (
        select ordinal from users where users.user_id = found.user_id offset 0  -- one look for each
    ) as known on true
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_long_tail
-- The same of very many: the planner sees which ones they are, and their users are looked up all at
-- once. Statistics are older than what came in just now: the last part of the union is never read,
-- and lets the planner expect so many events whatever they say.
copy (
    with found as (
        select width_bucket(occurred_at, %(edges)s::timestamptz[]) - 1 as segment,
               case when %(by_name)s then event_name else '' end as event_name,
               user_id
        from   events
        where  ({parts})
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
        select 0, '', '' from generate_series(1, %(many)s) where (select false)
    )
    select   segment,
             count(*)::int8,
             convert_to(event_name, 'UTF8'),
             coalesce(string_agg(int4send(ordinal), ''), ''),
             coalesce(string_agg(convert_to(user_id, 'UTF8') || '\x00', '')
                      filter (where ordinal is null and user_id <> ''), '')
    from     found
    left     join (select user_id, ordinal from users offset 0) as known using (user_id)
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_long_tail_part
ingested_xid >= %(first)s::xid8
and ingested_xid < %(until)s::xid8

-- name: rollups_long_tail_rest
ingested_xid >= %(first)s::xid8
and ingested_xid < %(until)s::xid8
and (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)

-- name: rollups_edges
-- Events of ranges that are finer than a slot, in the same way.
copy (
    with found as (
        select   segment,
                 case when %(by_name)s then event_name else '' end as event_name,
                 user_id,
                 count(*) as events
        from     unnest(%(segments)s::int[], %(starts)s::timestamptz[], %(ends)s::timestamptz[])
                 as edge (segment, starts_at, ends_at)
        cross    join lateral (
            select event_name, user_id
            from   events
            where  occurred_at >= starts_at
            and    occurred_at <  ends_at
            and    (%(names)s::text[] is null or event_name = any(%(names)s))
            offset 0
        ) as inside
        group    by 1, 2, 3
    )
    select   segment,
             sum(events)::int8,
             convert_to(event_name, 'UTF8'),
             coalesce(string_agg(int4send(ordinal), ''), ''),
             coalesce(string_agg(convert_to(user_id, 'UTF8') || '\x00', '')
                      filter (where ordinal is null and user_id <> ''), '')
    from     found
    left     join lateral (
        select ordinal from users where users.user_id = found.user_id offset 0
    ) as known on true
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_generations
-- Whether there are rollups that questions ask, and whether any are of this cluster.
select coalesce(bool_or(is_current and here), false), coalesce(bool_or(not here), false)
from   (select is_current,
               cluster = (select system_identifier from pg_control_system()) as here
        from   fold_state) as generations;
