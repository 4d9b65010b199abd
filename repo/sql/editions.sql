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
               from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[]) as over (first, until)
               cross  join lateral (
                   select
                   from   events
                   where  ingested_xid >= first
                   and    ingested_xid < until
                   order  by ingested_xid
                   limit  1
               ) as recent);
