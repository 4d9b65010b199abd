-- name: users_in_order
-- Some of these users, in the order of their ids by code point.
select   user_id, ordinal
from     users
where    ordinal = any(%(ordinals)s)
and      (%(after)s::text is null or user_id collate "C" > %(after)s)
order    by user_id collate "C"
limit    %(limit)s;

-- name: users_snapshot
-- The snapshot of the query, where there are no rollups.
select pg_current_snapshot()::text;
