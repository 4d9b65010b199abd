-- name: columns_state
-- How far the columns of a generation are written.
select generation,
       snapshot::text,
       backfill_since::text,
       backfill_to::text,
       backfilled_from::text,
       backfilled_id::text,
       version,
       columns_from::text,
       left_out
from   column_state
where  generation = %(generation)s;

-- name: columns_chunks
-- The chunks that overlap a range of time, which begins with `start` and ends before `end`. Times are microseconds
-- since 2000, as in binary COPY.
select   chunk_id,
         format,
         tier,
         is_late,
         has_properties,
         events,
         bytes,
         (extract(epoch from first) * 1000000)::bigint - 946684800000000,
         (extract(epoch from last) * 1000000)::bigint - 946684800000000
from     column_chunks
where    generation = %(generation)s
and      last >= %(start)s
and      first < %(end)s
order    by first, chunk_id;

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
       path_id,
       case when since <> '-infinity' then (extract(epoch from since) * 1000000)::bigint - 946684800000000 end
from   requested
join   column_paths using (path)
where  generation = %(generation)s;

-- name: columns_all_paths
select path, path_id from column_paths where generation = %(generation)s and path_id > %(above)s;

-- name: columns_register_paths
-- Adds paths, with ids from the next one on. Chunks with earlier events than `since` may lack them.
insert into column_paths (generation, path_id, path, since)
select %(generation)s,
       (select coalesce(max(path_id), 0) from column_paths where generation = %(generation)s) + position,
       array(select   key
             from     jsonb_array_elements_text(keys) with ordinality as parts (key, part)
             order    by part),
       case when left_out
            then coalesce((select max(last) from column_chunks where generation = %(generation)s),
                          '-infinity')
            else '-infinity'
       end
from   column_state,
       jsonb_array_elements(%(paths)s::jsonb) with ordinality as listed (keys, position)
where  generation = %(generation)s
returning path, path_id;

-- name: columns_add_chunk
insert into column_chunks (generation, format, tier, is_late, has_properties, events, bytes, first, last)
values (%(generation)s, %(format)s, %(tier)s, %(is_late)s, %(has_properties)s, %(events)s, %(bytes)s,
        timestamptz '2000-01-01 00:00:00+00' + %(first)s * interval '1 microsecond',
        timestamptz '2000-01-01 00:00:00+00' + %(last)s * interval '1 microsecond')
returning chunk_id;

-- name: columns_add_data
copy column_data (generation, chunk_id, path_id, kind, data) from stdin (format binary);

-- name: columns_delete_chunks
delete from column_data where generation = %(generation)s and chunk_id = any(%(chunk_ids)s::bigint[]);
delete from column_chunks where generation = %(generation)s and chunk_id = any(%(chunk_ids)s::bigint[]);

-- name: columns_erased
-- Erased users that are still in chunks.
select ordinal from columns_erasures order by ordinal;
