-- name: data_size
select sum(table_bytes + index_bytes) as bytes from storage;

-- name: data_daily_stats
select   zone as "Zone", count(*) as "Days", min(day)::text as "First day", max(day)::text as "Last day",
         max(counted_at) as "Counted"
from     daily_users
group    by zone
order    by zone;

-- name: data_tables
select   name as "Table", part as "Part of", table_bytes as "Data", index_bytes as "Indexes",
         table_bytes + index_bytes as "Together"
from     storage
order    by "Together" desc, name;
