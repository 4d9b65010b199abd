-- What the folder keeps beside the events, so that answers cost what is asked and not what is stored.
-- A slot is a quarter of an hour, counted from 1970; users are sets of ordinals, as roaring bitmaps
-- in the portable format. Rows belong to a generation: a rebuild makes a new one beside the old.

create table users (
    user_id text    not null primary key,
    ordinal integer not null generated always as identity unique
);

comment on table users is 'The dictionary of user ids; ordinals are never used again';

create table event_names (
    event_name text    not null primary key,
    name_id    integer not null generated always as identity unique
);

create table fold_state (
    generation  integer     not null generated always as identity primary key,
    lineage     uuid        not null default gen_random_uuid(),
    is_current  boolean     not null default false,
    cluster     bigint      not null,
    snapshot    pg_snapshot not null default '3:3:',
    sweeping_to pg_snapshot not null default '3:3:',
    swept_until timestamptz not null default '-infinity',
    folded_at   timestamptz not null default '-infinity',
    version     bigint      not null default 0,
    sealed      bigint      not null default 0,
    first_slot  integer
);

create unique index fold_state_current on fold_state (is_current) where is_current;

comment on table fold_state is 'Up to which snapshot all events are folded, and who is asked';
comment on column fold_state.cluster is 'The system identifier: elsewhere, transaction ids start over';
comment on column fold_state.snapshot is 'All that it sees is folded';
comment on column fold_state.sweeping_to is 'What it sees and snapshot did not is folded before swept_until';
comment on column fold_state.folded_at is 'Slots hold what occurred before; later events wait in ahead';
comment on column fold_state.version is 'Of the last fold; only grows';
comment on column fold_state.sealed is 'The version at which a sealed span last changed';

create table slots (
    generation integer not null,
    slot       integer not null,
    name_id    integer not null,
    events     bigint  not null check (events > 0),
    users      bytea   not null,
    primary key (generation, slot, name_id)
);

create index slots_by_name on slots (generation, name_id, slot);

comment on column slots.name_id is '0: all names together';

create table sealed_spans (
    generation integer not null,
    start_slot integer not null,
    end_slot   integer not null,
    version    bigint  not null,
    primary key (generation, start_slot, end_slot)
);

create index sealed_spans_by_version on sealed_spans (generation, version);

comment on table sealed_spans is 'Days and months that are over; those without rows in spans are empty';

create table spans (
    generation integer not null,
    start_slot integer not null,
    end_slot   integer not null,
    name_id    integer not null,
    events     bigint  not null check (events > 0),
    users      bytea   not null,
    primary key (generation, start_slot, end_slot, name_id)
);

-- Bitmaps do not compress, and are read often.
alter table slots alter users set storage external;
alter table spans alter users set storage external;

create table ahead (
    generation  integer     not null,
    occurred_at timestamptz not null,
    event_name  text        not null,
    user_id     text        not null
);

create index ahead_by_time on ahead (generation, occurred_at);

comment on table ahead is 'Events that were folded before their time: counted when it has come';

create table month_versions (
    month   integer not null primary key,
    version bigint  not null
);

comment on table month_versions is 'UTC months since year 0 that late events have changed';
