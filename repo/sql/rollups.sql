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
       folded_at,
       first_slot,
       sealed,
       pg_snapshot_xmax(snapshot)::text,
       array(select pg_snapshot_xip(snapshot))::text,
       swept_until::text,
       swept_id::text,
       pg_snapshot_xmax(sweeping_to)::text,
       array(select pg_snapshot_xip(sweeping_to))::text,
       (select count(*) = 20000
        from   (select
                from   events
                where  ingested_xid >= pg_snapshot_xmax(snapshot)
                order  by ingested_xid  -- by the index, whatever the planner expects
                limit  20000) as recent),
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

-- name: rollups_names
select name_id, event_name
from   event_names
where  %(names)s::text[] is null or event_name = any(%(names)s);

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
        from   events
        where  (ingested_xid >= %(xmax)s::xid8 or ingested_xid = any(%(xip)s::xid8[]))
        and    not ((occurred_at, event_id) <= (%(swept_until)s, %(swept_id)s)
                    and ingested_xid < %(swept_xmax)s::xid8
                    and ingested_xid <> all(%(swept_xip)s::xid8[]))
        and    occurred_at >= %(horizon)s
        limit  10000) as tail;

-- name: rollups_tail
-- Events that are not folded, or were folded before their time, by segment and name, and their users:
-- ordinals of 4 bytes each, and the ids of those who have none, each with a zero after it. Users come
-- as often as they have events: to tell them apart here costs more.
copy (
    with waiting as (
        select occurred_at, event_name, user_id
        from   events
        where  (ingested_xid >= %(xmax)s::xid8 or ingested_xid = any(%(xip)s::xid8[]))
        and    not ((occurred_at, event_id) <= (%(swept_until)s, %(swept_id)s)
                    and ingested_xid < %(swept_xmax)s::xid8
                    and ingested_xid <> all(%(swept_xip)s::xid8[]))
        and    occurred_at >= %(horizon)s
        union  all
        select occurred_at, event_name, user_id
        from   ahead
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
    {users}
    group    by segment, event_name
) to stdout (format binary);

-- name: rollups_tail_users
-- One look into the index for each event.
left join lateral (
    select ordinal from users where users.user_id = found.user_id offset 0
) as known on true

-- name: rollups_long_tail_users
-- All users at once, where there are very many events.
left join (select user_id, ordinal from users offset 0) as known using (user_id)

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
