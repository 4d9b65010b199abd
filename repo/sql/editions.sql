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
