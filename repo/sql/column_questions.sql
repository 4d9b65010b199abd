-- name: column_questions_tail
-- The events of ranges that are in no chunk: those of recent transactions, by the index on transactions, and those
-- that a backfill has not reached, by the index on time. Only the first ones that have a limited size together are
-- returned. A user without an ordinal is returned as text, after the name.
copy (
    with tail_events as (
        (select recent.*
         from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as tail (first_xid, end_xid)
         cross  join (
             -- Hidden from the planner, so that it uses the index on ids and time, not the one on time.
             select greatest(%(start)s::timestamptz, %(horizon)s) as start_time,
                    %(end)s::timestamptz as end_time
             offset 0
         ) as range
         cross  join lateral (
             select occurred_at, ingested_xid, event_id, event_name, user_id, properties
             from   events
             where  ingested_xid >= first_xid
             and    ingested_xid < end_xid
             and    occurred_at >= start_time
             and    occurred_at <  end_time
             order  by ingested_xid
             limit  %(limit)s
         ) as recent
         limit  %(limit)s)
        union all
        (select unreached.*
         from   unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) as runs (start_time, end_time)
         cross  join lateral (
             select occurred_at, ingested_xid, event_id, event_name, user_id, properties
             from   events
             where  occurred_at >= greatest(start_time, %(horizon)s)
             and    occurred_at <  end_time
             and    occurred_at <= %(until)s
             and    (occurred_at, event_id) < (%(until)s::timestamptz, %(until_id)s::uuid)
             and    pg_visible_in_snapshot(ingested_xid, %(to)s)
             and    not pg_visible_in_snapshot(ingested_xid, %(since)s)
             order  by occurred_at
             limit  %(limit)s
         ) as unreached
         limit  %(limit)s)
        limit  %(limit)s
    ),
    measured as (
        select *,
               sum(octet_length(properties)) over (rows unbounded preceding)
               - octet_length(properties) as bytes_before
        from   (select occurred_at,
                       ingested_xid,
                       event_id,
                       event_name,
                       user_id,
                       convert_to(properties::text, 'UTF8') as properties
                from   tail_events
                offset 0) as texts  -- each text is made once
    )
    select occurred_at,
           coalesce(ordinal, 0),
           ingested_xid,
           event_id,
           convert_to(event_name, 'UTF8'),
           convert_to(case when ordinal is null then user_id else '' end, 'UTF8'),
           properties
    from   measured
    left   join lateral (
        select ordinal from users where users.user_id = measured.user_id offset 0  -- one lookup each
    ) as known_user on true
    where  bytes_before < %(max_bytes)s
) to stdout (format binary);

-- name: column_questions_tail_count
-- The number of events that column_questions_tail returns.
select (select count(*)
        from   (select
                from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as tail (first_xid, end_xid)
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
                    order  by ingested_xid
                    limit  %(limit)s
                ) as recent
                limit  %(limit)s) as counted)
       + (select count(*)
          from   (select
                  from   unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) as runs (start_time, end_time)
                  cross  join lateral (
                      select
                      from   events
                      where  occurred_at >= greatest(start_time, %(horizon)s)
                      and    occurred_at <  end_time
                      and    occurred_at <= %(until)s
                      and    (occurred_at, event_id) < (%(until)s::timestamptz, %(until_id)s::uuid)
                      and    pg_visible_in_snapshot(ingested_xid, %(to)s)
                      and    not pg_visible_in_snapshot(ingested_xid, %(since)s)
                      limit  %(limit)s
                  ) as unreached
                  limit  %(limit)s) as counted);

-- name: column_questions_highest_ids
-- The highest ordinal in the dictionary and in chunks, and the highest id of a name.
select greatest((select coalesce(max(ordinal), 0) from users),
                (select coalesce(max(ordinal), 0) from columns_erasures)),
       (select coalesce(max(name_id), 0) from event_names);

-- name: column_questions_written_part
-- The number of events in chunks, and the planner's estimate of the number of all events.
select coalesce(sum(events), 0)::bigint,
       (select greatest(reltuples, 0)::bigint from pg_class where oid = 'events'::regclass)
from   column_chunks
where  generation in (select generation from fold_state where is_current);

-- name: column_questions_users_equal
select user_id, ordinal from users where user_id = any(%(texts)s);

-- name: column_questions_users_with_prefix
select user_id, ordinal
from   users
where  exists (select from unnest(%(texts)s) as prefix (text) where starts_with(user_id, text));

-- name: column_questions_users_containing
-- All users whose ids contain one of the texts, which are in lower case, and users whose letters only the caller
-- can compare.
select user_id, ordinal
from   users
where  octet_length(user_id) <> char_length(user_id)
or     exists (select
               from   unnest(%(texts)s) as part (text)
               where  strpos(lower(user_id collate "C"), text) > 0);

-- name: column_questions_all_names
select event_name, name_id from event_names;
