-- Events as columns, in chunks of about 131,000 events, for questions about properties.

create table column_state (
    generation      integer     not null primary key,
    snapshot        pg_snapshot not null default '3:3:',
    backfill_since  pg_snapshot not null default '3:3:',
    backfill_to     pg_snapshot not null default '3:3:',
    backfilled_from timestamptz not null default '-infinity',
    backfilled_id   uuid        not null default '00000000-0000-0000-0000-000000000000',
    version         bigint      not null default 0,
    written_at      timestamptz not null default '-infinity',
    columns_from    timestamptz not null default '-infinity',
    left_out        boolean     not null default false
);

comment on table column_state is 'Up to which snapshot events are written to columns';
comment on column column_state.snapshot is
    'All events that it sees are written, but for those that the backfill has not reached';
comment on column column_state.backfill_to is
    'The backfill writes the events that it sees and backfill_since does not, the latest first';
comment on column column_state.backfilled_from is
    'The backfill has written its events from this time, and this id, on; -infinity without a backfill';
comment on column column_state.version is 'Grows with each transaction that changes chunks';
comment on column column_state.columns_from is 'Property columns of earlier events were dropped';
comment on column column_state.left_out is 'Whether properties were left out since there were too many paths';

create table column_chunks (
    generation     integer     not null,
    chunk_id       bigint      not null generated always as identity,
    format         smallint    not null,
    tier           smallint    not null,
    is_late        boolean     not null,
    has_properties boolean     not null default true,
    events         integer     not null check (events > 0),
    bytes          integer     not null,
    first          timestamptz not null,
    last           timestamptz not null,
    complete_to    integer     not null default 2147483647,
    primary key (generation, chunk_id)
);

create index column_chunks_by_time on column_chunks (generation, last, first);

comment on table column_chunks is 'Chunks of events, ordered by time and event_id; they may overlap in time';
comment on column column_chunks.tier is 'How often the events were merged into a larger chunk';
comment on column column_chunks.is_late is 'Whether the events were stored more than a day after they occurred';
comment on column column_chunks.complete_to is 'The chunk may lack properties with a greater path_id';
comment on column column_chunks.bytes is 'The size in memory, which is larger than that of column_data';

create table column_data (
    generation integer  not null,
    chunk_id   bigint   not null,
    path_id    integer  not null,
    kind       smallint not null,
    data       bytea    not null,
    primary key (generation, chunk_id, path_id, kind)
);

-- The columns are compressed already.
alter table column_data alter data set storage external;

comment on table column_data is 'The columns of chunks, as Apache Arrow';
comment on column column_data.path_id is '0: the time, user, name, transaction and ids of events';
comment on column column_data.kind is
    '0: all columns of a small chunk; of properties 1: text, 2: number, 3: boolean; '
    'of path_id 0 1: time, 2: user, 3: name, 4: transaction, 5: ids of events with the same user and time';

create table column_paths (
    generation integer     not null,
    path_id    integer     not null,
    path       text[]      not null,
    since      timestamptz not null default '-infinity',
    primary key (generation, path_id)
);

-- A hash, since the keys of properties may be too long for a B-tree.
create index column_paths_by_path on column_paths using hash (path);

comment on table column_paths is 'The properties that have columns, by the keys of their paths';
comment on column column_paths.since is 'Chunks with earlier events may lack the property';

create table batch_log (
    generation integer     not null,
    written_at timestamptz not null,
    snapshot   pg_snapshot not null,
    primary key (generation, written_at)
);

comment on table batch_log is 'Snapshots of the events that were in columns at a time, at most one a minute';

create table columns_erasures (
    ordinal   integer     not null primary key,
    erasure   bigint      not null,
    erased_at timestamptz not null default now()
);

comment on table columns_erasures is
    'Erased users whose events are still in chunks: every question leaves them out';

alter table column_chunks set (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.01);
alter table column_data set (
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_scale_factor = 0.01
);

create or replace view storage as
select part, relname as name, pg_table_size(oid) as table_bytes, pg_indexes_size(oid) as index_bytes
from   (values ('events', 'events'),
               ('users', 'rollups'), ('event_names', 'rollups'), ('slots', 'rollups'),
               ('spans', 'rollups'), ('sealed_spans', 'rollups'), ('future_events', 'rollups'),
               ('column_data', 'columns'), ('column_chunks', 'columns'), ('column_paths', 'columns'),
               ('batch_log', 'columns'),
               ('day_events', 'daily statistics'), ('day_users', 'daily statistics')) as tables (name, part)
join   pg_class on relname = name
where  relnamespace = (select relnamespace from pg_class where oid = 'events'::regclass);
