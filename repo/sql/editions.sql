-- name: editions_erasure
-- The last one.
select   erasure_id::text
from     erasures
order    by number desc
limit    1;

-- name: editions_since
-- Months that changed after a version.
select month, version
from   month_versions
where  version > %(since)s;

-- name: editions_waiting
-- Whether there are events that are not folded.
select exists (select
               from   events
               where  ingested_xid >= %(xmax)s::xid8 or ingested_xid = any(%(xip)s::xid8[]));
