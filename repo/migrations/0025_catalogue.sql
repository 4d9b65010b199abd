-- The catalogue: statistics of the properties of all events, which are counted anew every few minutes.

create table catalogue_counts (
    is_only_row boolean     not null primary key default true check (is_only_row),
    counted_at  timestamptz not null,
    snapshot    pg_snapshot not null,
    columns     text        not null
);

comment on table catalogue_counts is 'One row, or none as long as nothing was counted since the last erasure';
comment on column catalogue_counts.counted_at is 'The events up to this time are counted';
comment on column catalogue_counts.snapshot is 'The events that it sees are counted';
comment on column catalogue_counts.columns is 'The generation of the columns and their version';

create table catalogue_properties (
    path            text[]      not null,
    events          bigint      not null check (events > 0),
    users           bigint      not null,
    first_seen      timestamptz not null,
    last_seen       timestamptz not null,
    texts           bigint      not null,
    numbers         bigint      not null,
    booleans        bigint      not null,
    distinct_values integer,
    frequent_values bytea
);

-- A hash, since the keys of properties may be too long for a B-tree.
create index catalogue_properties_by_path on catalogue_properties using hash (path);

-- The values are compressed already.
alter table catalogue_properties alter frequent_values set storage external;

comment on table catalogue_properties is 'The properties of all events, by the keys of their paths';
comment on column catalogue_properties.texts is 'Events that have a text as value, or in a list; numbers and booleans alike';
comment on column catalogue_properties.distinct_values is 'The number of distinct values; null if there are too many';
comment on column catalogue_properties.frequent_values is
    'The most frequent values with their events and users, as JSON that is compressed with zstd; null if there are too many';

alter table column_paths add column kinds smallint not null default 0;

comment on column column_paths.kinds is
    'The types that values in chunks may have, as a sum of 1: text, 2: number, 4: boolean; 0 if written by version 0.1';

create or replace view storage as
select part, relname as name, pg_table_size(oid) as table_bytes, pg_indexes_size(oid) as index_bytes
from   (values ('events', 'events'),
               ('users', 'rollups'), ('event_names', 'rollups'), ('slots', 'rollups'),
               ('spans', 'rollups'), ('sealed_spans', 'rollups'), ('future_events', 'rollups'),
               ('column_data', 'columns'), ('column_chunks', 'columns'), ('column_paths', 'columns'),
               ('batch_log', 'columns'), ('catalogue_properties', 'columns'),
               ('day_events', 'daily statistics'), ('day_users', 'daily statistics')) as tables (name, part)
join   pg_class on relname = name
where  relnamespace = (select relnamespace from pg_class where oid = 'events'::regclass);

create table catalogue_names (
    event_name text        not null primary key,
    events     bigint      not null check (events > 0),
    users      bigint      not null,
    first_seen timestamptz not null,
    last_seen  timestamptz not null
);

comment on table catalogue_names is 'The names of all events; none if these are too many';
