-- name: editions_erasure
-- The last one and before which events are dropped, and this server's clock.
select concat_ws('.',
                 (select erasure_id from erasures order by number desc limit 1),
                 (select extract(epoch from horizon)::bigint from retention)),
       now();

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
