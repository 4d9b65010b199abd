-- Tables of the platform whose rows are events as well: a trigger of theirs writes what comes in, and
-- what was there is copied. A table is remembered for good: its rows must never get other event ids.
create table adopted_tables (
    adoption_id integer     not null generated always as identity primary key,
    table_name  text        not null unique,
    fields      jsonb       not null,
    adopted_at  timestamptz not null default now(),
    released_at timestamptz
);

comment on column adopted_tables.table_name is 'As it was called when it was adopted: part of ids';
comment on column adopted_tables.fields is 'Which column is which field of an event';

create table adopted_parts (
    adoption_id integer not null references adopted_tables,
    part        oid     not null,
    pages       bigint  not null,
    copied      bigint  not null default 0,
    primary key (adoption_id, part)
);

comment on table adopted_parts is 'How many pages a table, or partition, had, and how many are copied';

-- Without a unique key, so that no writer of the platform ever waits for another one here.
create table rejected_rows (
    adoption_id integer     not null,
    key         text        not null,
    reason      text        not null,
    rejected_at timestamptz not null default now()
);

create index rejected_rows_by_key on rejected_rows (adoption_id, key);

comment on table rejected_rows is 'Rows of adopted tables that cannot be events; the first 8 MB of them';

-- What is no JSON, or none that jsonb can hold, is false.
create function adopted_json(given text) returns jsonb
language plpgsql immutable strict parallel safe as $$
begin
    return given::pg_catalog.jsonb;
exception when others then
    return 'false';
end
$$;
