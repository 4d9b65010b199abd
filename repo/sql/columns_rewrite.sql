-- name: columns_rewrite_is_due
-- Whether erased users are in chunks, or properties that were dropped.
select exists (select from columns_erasures)
       or exists (select
                  from   column_chunks
                  join   column_state using (generation)
                  where  has_properties
                  and    first < columns_from);

-- name: columns_rewrite_generations
-- All generations that have columns, also those that no question reads any more.
select generation from column_state order by generation;

-- name: columns_rewrite_chunks
-- The next chunks by their ids, which grow, so that no chunk comes before one that was searched.
select   {chunk_row}
from     column_chunks
where    generation = %(generation)s
and      chunk_id > %(after)s
order    by chunk_id
limit    %(limit)s;

-- name: columns_rewrite_expired
-- Chunks with properties that were dropped, and the time before which they were.
select   generation,
         (extract(epoch from columns_from) * 1000000)::bigint - 946684800000000,
         {chunk_row}
from     column_chunks
join     column_state using (generation)
where    has_properties
and      first < columns_from
order    by chunk_id
limit    %(limit)s;

-- name: columns_rewrite_changed
update column_state set version = version + 1 where generation = %(generation)s;

-- name: columns_rewrite_forget
-- Users who are in no chunk any more.
delete from columns_erasures where ordinal = any(%(ordinals)s::int[]);
