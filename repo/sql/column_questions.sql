-- name: column_questions_state
-- The progress of writing the columns of a generation, the erased users that are still in chunks, and whether there are
-- events that the snapshot of the question sees and that of the columns does not: of transactions since the latter,
-- between those in progress, or of transactions that were in progress then.
select generation,
       snapshot::text,
       backfill_since::text,
       backfill_to::text,
       backfilled_from::text,
       backfilled_id::text,
       version,
       columns_from::text,
       left_out,
       events_from::text,
       array(select ordinal from columns_erasures order by ordinal),
       (select coalesce(max(number), 0) from erasures),
       exists (select
               from   (select lag(xid, 1, '0'::xid8) over (order by xid) as after_xid, xid as before_xid
                       from   (select pg_snapshot_xip(%(now)s::pg_snapshot)
                               union all
                               select pg_snapshot_xmax(%(now)s::pg_snapshot)) as in_progress (xid)
                       where  xid >= pg_snapshot_xmax(snapshot)) as gap
               cross  join lateral (
                   select
                   from   events
                   where  ingested_xid >= pg_snapshot_xmax(snapshot)
                   and    ingested_xid > after_xid
                   and    ingested_xid < before_xid
                   order  by ingested_xid  -- makes the planner use the index
                   limit  1
               ) as recent)
       or exists (select
                  from   (select xid
                          from   pg_snapshot_xip(snapshot) as in_progress (xid)
                          where  pg_visible_in_snapshot(xid, %(now)s::pg_snapshot)
                          offset 0) as ended
                  cross  join lateral (
                      select
                      from   events
                      where  ingested_xid >= xid
                      and    ingested_xid <= xid  -- an equality would make the order pointless
                      order  by ingested_xid
                      limit  1
                  ) as recent)
from   column_state
where  generation = %(generation)s;

-- name: column_questions_recent_events
-- The events of ranges in recent transactions, by the index on transactions.
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

-- name: column_questions_unreached_events
-- The events of ranges that a backfill has not reached, by the index on time.
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

-- name: column_questions_tail
-- The events of ranges that are in no chunk. Only the first ones that have a limited size together are returned. A user
-- without an ordinal is returned as text, after the name.
copy (
    with tail_events as (
        select *
        from   ({events}) as unwritten
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

-- name: column_questions_tied_events
-- The events of users at instants that a snapshot sees, in place of the events of a tail.
select occurred_at, ingested_xid, event_id, event_name, user_id, properties
from   unnest(%(ordinals)s::int[], %(times)s::bigint[]) as tie (ordinal, microseconds)
join   users using (ordinal)
cross  join lateral (
    select occurred_at, ingested_xid, event_id, event_name, properties
    from   events
    where  events.user_id = users.user_id
    and    occurred_at = timestamptz '2000-01-01 00:00:00+00' + microseconds * interval '1 microsecond'
    limit  %(limit)s
) as tied
where  pg_visible_in_snapshot(ingested_xid, %(snapshot)s)

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

-- name: column_questions_last_user
-- The highest ordinal of a user, and the number of the last erasure.
select (select coalesce(max(ordinal), 0) from users),
       (select coalesce(max(number), 0) from erasures);

-- name: column_questions_user_id_bytes
select coalesce(sum(octet_length(user_id)), 0)::bigint from users where ordinal > %(after)s;

-- name: column_questions_user_ids
-- The ids of users after an ordinal, many in a row: their ordinals, the lengths of their ids, and these.
copy (
    select   string_agg(int4send(ordinal), ''),
             string_agg(int4send(octet_length(user_id)), ''),
             string_agg(convert_to(user_id, 'UTF8'), '')
    from     users
    where    ordinal > %(after)s
    group by ordinal / %(piece_users)s
) to stdout (format binary);

-- name: column_questions_all_names
select event_name, name_id from event_names;
