-- name: catalogue_begin
-- The timeout ends the transaction of a process that hangs.
begin isolation level repeatable read read only;
set local idle_in_transaction_session_timeout = '5min';

-- name: catalogue_now
select now(), pg_current_snapshot()::text;

-- name: catalogue_counts
select counted_at, columns, counted_at < now() - %(age_s)s * interval '1 second' from catalogue_counts;

-- name: catalogue_age
select extract(epoch from now() - counted_at)::float8 from catalogue_counts;

-- name: catalogue_erasure
-- The number of the last erasure, and the horizon: what was counted before either changed is not stored.
select (select coalesce(max(number), 0) from erasures),
       (select horizon::text from retention);

-- name: catalogue_kinds
-- The types of the values of properties that were written to columns.
select path, kinds from column_paths where generation = %(generation)s and kinds <> 0;

-- name: catalogue_touch
-- Nothing has changed since the last count.
update catalogue_counts set counted_at = %(counted_at)s where columns = %(columns)s;

-- name: catalogue_forget
delete from catalogue_counts;
delete from catalogue_names;
delete from catalogue_properties;

-- name: catalogue_store_counts
insert into catalogue_counts (counted_at, snapshot, columns) values (%(counted_at)s, %(snapshot)s, %(columns)s);

-- name: catalogue_store_property
insert into catalogue_properties (path, events, users, first_seen, last_seen, texts, numbers, booleans,
                                  distinct_values, frequent_values)
values (%(path)s, %(events)s, %(users)s, %(first)s, %(last)s, %(text)s, %(number)s, %(boolean)s,
        %(distinct)s, %(values)s);

-- name: catalogue_store_kinds
-- Types that were registered before the count, and that no event has, are removed; those registered meanwhile stay.
update column_paths
set    kinds = (kinds & ~before) | counted
from   unnest(%(path_ids)s::int[], %(before)s::smallint[], %(counted)s::smallint[])
       as counts (path_id, before, counted)
where  generation = %(generation)s
and    column_paths.path_id = counts.path_id
and    kinds <> (kinds & ~before) | counted;

-- name: catalogue_all_kinds
select path_id, path, kinds from column_paths where generation = %(generation)s;

-- name: catalogue_properties
select path, events, users, first_seen, last_seen, texts, numbers, booleans, distinct_values
from   catalogue_properties;

-- name: catalogue_property
select path, events, users, first_seen, last_seen, texts, numbers, booleans, distinct_values, frequent_values
from   catalogue_properties
where  path = %(path)s::text[];

-- name: catalogue_store_names
copy catalogue_names (events, users, first_seen, last_seen, event_name) from stdin (format binary);

-- name: catalogue_has_names
select exists (select from catalogue_names);

-- name: catalogue_name_count
select count(*) from catalogue_names where starts_with(event_name, %(prefix)s);

-- name: catalogue_names
-- The most frequent names with a prefix; ties by code points.
select   event_name, events, users, first_seen, last_seen
from     catalogue_names
where    starts_with(event_name, %(prefix)s)
order    by events desc, event_name collate "C"
limit    %(limit)s;
