-- name: cache_versions_since
-- Months that late events have changed after a version.
select month, version
from   month_versions
where  version > %(since)s;
