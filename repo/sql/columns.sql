-- name: columns_version
select version from column_state where generation = %(generation)s;

-- name: columns_chunk_ids
select chunk_id from column_chunks where generation = %(generation)s;

-- name: columns_chunk_row
-- The fields of `ChunkRow`. Times are microseconds since 2000, as in binary COPY.
chunk_id,
format,
tier,
is_late,
has_properties,
events,
bytes,
(extract(epoch from first) * 1000000)::bigint - 946684800000000,
(extract(epoch from last) * 1000000)::bigint - 946684800000000,
complete_to

-- name: columns_chunks
-- The chunks that overlap a range of time, which begins with `start` and ends before `end`.
select   {chunk_row}
from     column_chunks
where    generation = %(generation)s
and      last >= %(start)s
and      first < %(end)s
order    by first, chunk_id;

-- name: columns_first_chunks
-- All chunks of a generation, up to a number of them.
select   {chunk_row}
from     column_chunks
where    generation = %(generation)s
order    by first, chunk_id
limit    %(limit)s;

-- name: columns_read
-- Columns of chunks. All columns of a small chunk are in one row.
copy (
    select chunk_id, path_id, kind, data
    from   unnest(%(chunk_ids)s::bigint[]) as requested_chunk (chunk_id)
    cross  join lateral (
        select path_id, kind, data
        from   column_data
        where  generation = %(generation)s
        and    column_data.chunk_id = requested_chunk.chunk_id
        and    (path_id, kind) in (select 0, 0
                                   union all
                                   select * from unnest(%(path_ids)s::int[], %(kinds)s::int[]))
        offset 0  -- makes the planner look up each chunk in the index
    ) as chunk_column
) to stdout (format binary);

-- name: columns_bytes
-- The size of what columns_read returns, without reading it.
select coalesce(sum(bytes), 0)::bigint
from   unnest(%(chunk_ids)s::bigint[]) as requested_chunk (chunk_id)
cross  join lateral (
    select octet_length(data) as bytes
    from   column_data
    where  generation = %(generation)s
    and    column_data.chunk_id = requested_chunk.chunk_id
    and    (path_id, kind) in (select 0, 0
                               union all
                               select * from unnest(%(path_ids)s::int[], %(kinds)s::int[]))
    offset 0
) as chunk_column;

-- name: columns_read_all
copy (
    select chunk_id, path_id, kind, data
    from   column_data
    where  generation = %(generation)s
    and    chunk_id = any(%(chunk_ids)s::bigint[])
) to stdout (format binary);

-- name: columns_paths
-- The ids of paths, by their positions in a JSON array of arrays of keys.
with requested as (
    select position,
           array(select   key
                 from     jsonb_array_elements_text(keys) with ordinality as parts (key, part)
                 order    by part) as path
    from   jsonb_array_elements(%(paths)s::jsonb) with ordinality as listed (keys, position)
)
select position::int - 1,
       path_id
from   requested
join   column_paths using (path)
where  generation = %(generation)s;

-- name: columns_all_paths
select path, path_id from column_paths where generation = %(generation)s;

-- name: columns_register_paths
-- Adds paths, with ids from the next one on. Chunks with earlier events than `since` may lack them,
-- so `verify` does not compare these.
insert into column_paths (generation, path_id, path, since)
select %(generation)s,
       (select coalesce(max(path_id), 0) from column_paths where generation = %(generation)s) + position,
       array(select   key
             from     jsonb_array_elements_text(keys) with ordinality as parts (key, part)
             order    by part),
       case when left_out
            then coalesce((select max(last) from column_chunks where generation = %(generation)s),
                          paths_from)
            else paths_from
       end
from   column_state,
       jsonb_array_elements(%(paths)s::jsonb) with ordinality as listed (keys, position)
where  generation = %(generation)s
returning path, path_id;

-- name: columns_register_kinds
-- Adds the types of new values to those of their properties.
update column_paths
set    kinds = column_paths.kinds | added.kinds
from   (select   path_id, bit_or(kind) as kinds
        from     unnest(%(path_ids)s::int[], %(kinds)s::smallint[]) as registered (path_id, kind)
        group by path_id) as added
where  generation = %(generation)s
and    column_paths.path_id = added.path_id
and    column_paths.kinds | added.kinds <> column_paths.kinds;

-- name: columns_add_chunk
insert into column_chunks (generation, format, tier, is_late, has_properties, events, bytes, first, last, complete_to)
values (%(generation)s, %(format)s, %(tier)s, %(is_late)s, %(has_properties)s, %(events)s, %(bytes)s,
        timestamptz '2000-01-01 00:00:00+00' + %(first)s * interval '1 microsecond',
        timestamptz '2000-01-01 00:00:00+00' + %(last)s * interval '1 microsecond',
        %(complete_to)s)
returning chunk_id;

-- name: columns_add_data
copy column_data (generation, chunk_id, path_id, kind, data) from stdin (format binary);

-- name: columns_delete_chunks
delete from column_data where generation = %(generation)s and chunk_id = any(%(chunk_ids)s::bigint[]);
delete from column_chunks where generation = %(generation)s and chunk_id = any(%(chunk_ids)s::bigint[]);

-- name: columns_erased
-- Erased users that are still in chunks.
select ordinal from columns_erasures order by ordinal;

-- name: columns_session
set idle_in_transaction_session_timeout = '60s';
set jit = off;
set work_mem = '64MB';  -- enough to sort the events of one page, and for the users that they are joined with

-- name: columns_lock
-- The lock comes before the snapshot, so that a transaction sees what the previous holder has committed.
begin isolation level repeatable read;
lock table column_state in exclusive mode;

-- name: columns_generations
-- The generations of this cluster, the current one first.
select   generation
from     fold_state
where    cluster = (select system_identifier from pg_control_system())
order    by is_current desc, generation;

-- name: columns_begin
-- Nothing is known of events that were dropped before there were columns.
insert into column_state (generation, events_from, columns_from)
select generation,
       coalesce((select horizon from retention), '-infinity'),
       coalesce((select horizon from retention), '-infinity')
from   fold_state
where  generation = %(generation)s
on conflict do nothing;

-- name: columns_progress
-- The progress of folding and of writing columns. The lateness of an event is measured by the clock, and so is the time
-- since the last batch.
select fold_state.snapshot::text,
       coalesce(column_state.snapshot, '3:3:')::text,
       coalesce(backfill_since, '3:3:')::text,
       coalesce(backfill_to, '3:3:')::text,
       coalesce(backfilled_from, '-infinity')::text,
       coalesce(backfilled_id, '00000000-0000-0000-0000-000000000000')::text,
       coalesce(left_out, false),
       coalesce(written_at, '-infinity') < now() - %(pause)s * interval '1 second',
       (extract(epoch from now()) * 1000000)::bigint - 946684800000000
from   fold_state
left   join column_state using (generation)
where  generation = %(generation)s
and    cluster = (select system_identifier from pg_control_system());

-- name: columns_store_progress
update column_state
set    snapshot = %(snapshot)s,
       backfill_since = %(backfill_since)s,
       backfill_to = %(backfill_to)s,
       backfilled_from = %(backfilled_from)s,
       backfilled_id = %(backfilled_id)s,
       left_out = %(left_out)s,
       version = version + 1,
       written_at = case when snapshot::text = %(snapshot)s then written_at else now() end
where  generation = %(generation)s;

-- name: columns_log_batch
-- Logs the batch, unless another one was logged in the last minute.
insert into batch_log (generation, written_at, snapshot)
select %(generation)s, now(), %(snapshot)s::pg_snapshot
where  not exists (select
                   from   batch_log
                   where  generation = %(generation)s
                   and    written_at > now() - interval '1 minute');

-- name: columns_new_events
-- The next events of a range of transaction ids, in the order of the index.
select   event_id, occurred_at, ingested_xid, event_name, user_id, properties::text as properties
from     events
where    ingested_xid >= %(first_xid)s::xid8
and      ingested_xid < %(end_xid)s::xid8
and      (ingested_xid, occurred_at, event_id)
         > (%(after_xid)s::xid8, %(after_time)s::timestamptz, %(after_id)s::uuid)
and      occurred_at >= coalesce((select horizon from retention), '-infinity')
order    by ingested_xid, occurred_at, event_id
limit    %(limit)s

-- name: columns_backfill_dense
-- The next events of a backfill, by the index on time: the last ones that are not written, of a limited number
-- of events.
select   event_id, occurred_at, ingested_xid, event_name, user_id, properties::text as properties
from     (select   *
          from     events
          where    (occurred_at, event_id) < (%(backfilled_from)s::timestamptz, %(backfilled_id)s::uuid)
          and      occurred_at >= coalesce((select horizon from retention), '-infinity')
          order    by occurred_at desc, event_id desc
          limit    %(scan_limit)s) as scanned
where    not pg_visible_in_snapshot(ingested_xid, %(backfill_since)s)
and      pg_visible_in_snapshot(ingested_xid, %(backfill_to)s)
order    by occurred_at desc, event_id desc
limit    %(limit)s

-- name: columns_backfill_sparse
-- The next events of a backfill, by the index on transaction ids: all that are left are read and sorted.
select   unwritten.event_id, occurred_at, ingested_xid, event_name, user_id, properties::text as properties
from     (select   event_id, occurred_at
          from     unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as range (first_xid, end_xid)
          cross    join lateral (
              select event_id, occurred_at
              from   events
              where  ingested_xid >= first_xid
              and    ingested_xid < end_xid
              and    occurred_at <= %(backfilled_from)s
              offset 0
          ) as unwritten
          where    (occurred_at, event_id) < (%(backfilled_from)s::timestamptz, %(backfilled_id)s::uuid)
          and      occurred_at >= coalesce((select horizon from retention), '-infinity')
          order    by occurred_at desc, event_id desc
          limit    %(limit)s) as unwritten
join     events using (event_id, occurred_at)
order    by occurred_at desc, event_id desc

-- name: columns_density
-- The number of the next events of a backfill, in the order of time, that are not written.
select count(*)
from   (select   ingested_xid
        from     events
        where    (occurred_at, event_id) < (%(backfilled_from)s::timestamptz, %(backfilled_id)s::uuid)
        order    by occurred_at desc, event_id desc
        limit    %(sample_size)s) as sample
where  not pg_visible_in_snapshot(ingested_xid, %(backfill_since)s)
and    pg_visible_in_snapshot(ingested_xid, %(backfill_to)s);

-- name: columns_tied_events
-- The first events of users at instants whose ids are greater, with their ordinals.
select   event_id, occurred_at, ingested_xid, event_name, user_id, properties::text as properties
from     unnest(%(ordinals)s::int[], %(times)s::bigint[]) as tie (ordinal, microseconds)
join     users using (ordinal)
join     events using (user_id)
where    occurred_at = timestamptz '2000-01-01 00:00:00+00' + microseconds * interval '1 microsecond'
and      event_id > %(after_id)s
order    by event_id
limit    %(limit)s

-- name: columns_users
left     join lateral (
    select ordinal from users where users.user_id = measured.user_id offset 0  -- one lookup each
) as known_user on true

-- name: columns_ordinal
-- The ordinal of a user; -1 if it is missing.
case when measured.user_id = '' then 0 else coalesce(ordinal, -1) end::bigint

-- name: columns_user_hash
hashtextextended(measured.user_id, %(seed)s)

-- name: columns_events
-- The first events of a page that have a limited size together, with their users and the ids of their names, which
-- are -1 if they are missing. A row has events of about `piece_bytes`, so that a row for each event does not take
-- longer than all else.
copy (
    with page as ({source}),
    measured as (
        select *,
               sum(octet_length(properties)) over ({order} rows unbounded preceding)
               - octet_length(properties) as bytes_before
        from   page
    )
    select   string_agg(timestamptz_send(occurred_at), ''),
             string_agg(int8send({user}), ''),
             string_agg(int4send(coalesce(name_id, -1)), ''),
             string_agg(xid8send(ingested_xid), ''),
             string_agg(uuid_send(event_id), ''),
             string_agg(properties, E'\n')  -- in the text of jsonb there are no line breaks
    from     measured
    left     join event_names using (event_name)
    {users}
    where    bytes_before < %(max_bytes)s
    group    by bytes_before / %(piece_bytes)s
) to stdout (format binary);

-- name: columns_user_hashes
-- The hashes of all user ids, and the ordinals; that of an event without a user is 0.
copy (
    select   string_agg(int8send(hashtextextended(user_id, %(seed)s)), ''),
             string_agg(int4send(ordinal), '')
    from     (select '' as user_id, 0 as ordinal union all select user_id, ordinal from users) as everybody
    group    by ordinal / %(piece_users)s
) to stdout (format binary);

-- name: columns_lacks_ordinals
-- Whether a user of a future event has no ordinal, as an older version left them.
select exists (select
               from   future_events
               where  user_id <> ''
               and    not exists (select from users where users.user_id = future_events.user_id));

-- name: columns_missing_ids
-- Gives ids to the names and users of future events that an older version has folded.
insert into event_names (event_name, name_id)
select event_name, (select coalesce(max(name_id), 0) from event_names) + row_number() over ()
from   (select distinct event_name from future_events) as missing
where  event_name not in (select event_name from event_names);
insert into users (user_id, ordinal)
select user_id,
       greatest((select coalesce(max(ordinal), 0) from users), (select highest from erased_ordinals))
       + row_number() over ()
from   (select distinct user_id from future_events where user_id <> '') as missing
where  not exists (select from users where users.user_id = missing.user_id);

-- name: columns_orphans
-- A generation that no longer exists and still has columns.
select generation
from   column_state
where  generation not in (select generation from fold_state)
limit  1;

-- name: columns_erase
insert into columns_erasures (ordinal, erasure)
values (%(ordinal)s, %(erasure)s)
on conflict do nothing;

-- name: columns_drop_properties
-- From the commit on, questions do not read earlier properties; without a time, as before.
update column_state set columns_from = greatest(columns_from, %(until)s);

-- name: columns_has_new_before
-- Whether events before a time are folded and not written.
select exists (select
               from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as tail (first_xid, end_xid)
               cross  join lateral (
                   select
                   from   events
                   where  ingested_xid >= first_xid
                   and    ingested_xid < end_xid
                   and    occurred_at < %(until)s
                   and    occurred_at >= coalesce((select horizon from retention), '-infinity')
                   order  by ingested_xid
                   limit  1
               ) as unwritten);

-- name: columns_small_chunks
-- Chunks that may be merged with others.
select   chunk_id, format, tier, is_late, has_properties, events, bytes,
         (extract(epoch from first) * 1000000)::bigint - 946684800000000,
         (extract(epoch from last) * 1000000)::bigint - 946684800000000,
         complete_to
from     column_chunks
where    generation = %(generation)s
and      events <= %(max_events)s
and      bytes <= %(max_bytes)s
order    by chunk_id;
