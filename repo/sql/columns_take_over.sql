-- name: columns_take_over_state
-- Begins the columns of a generation after events were dropped: what is known of these is what the columns of
-- the current generation hold.
insert into column_state (generation, events_from, columns_from, paths_from)
select %(generation)s,
       coalesce(events_from, horizon),
       coalesce(columns_from, horizon),
       case when left_out then horizon else coalesce(paths_from, '-infinity') end
from   retention
left   join (fold_state join column_state using (generation)) on is_current
where  horizon is not null;

-- name: columns_take_over_source
-- The current generation, if it has columns of dropped events; whether it is of another cluster, and the horizon.
select generation,
       cluster <> (select system_identifier from pg_control_system()),
       (extract(epoch from horizon) * 1000000)::bigint - 946684800000000
from   retention
join   fold_state on is_current
join   column_state using (generation)
where  horizon is not null;

-- name: columns_take_over_paths
-- Chunks from the horizon on are written anew, and will have all of these properties.
insert into column_paths (generation, path_id, path, since)
select %(generation)s, path_id, path, least(since, horizon)
from   column_paths, retention
where  generation = %(source)s;

-- name: columns_take_over_chunks
-- Copies chunks that end before the horizon. They keep their ids.
insert into column_chunks (generation, chunk_id, format, tier, is_late, has_properties, events, bytes, first, last,
                           complete_to)
overriding system value
select %(generation)s, chunk_id, format, tier, is_late, has_properties, events, bytes, first, last, complete_to
from   column_chunks, retention
where  generation = %(source)s
and    last < horizon;
insert into column_data (generation, chunk_id, path_id, kind, data)
select %(generation)s, chunk_id, path_id, kind, data
from   column_data
where  generation = %(source)s
and    chunk_id in (select chunk_id from column_chunks where generation = %(generation)s);

-- name: columns_take_over_parts
-- The chunks with events before the horizon that were not copied.
select   {chunk_row}
from     column_chunks, retention
where    generation = %(source)s
and      first < horizon
and      chunk_id not in (select chunk_id from column_chunks where generation = %(generation)s)
order    by chunk_id;
