-- Events older than the horizon are dropped; what was counted of them stays in the rollups.
create table retention (
    is_only_row  boolean     not null primary key default true check (is_only_row),
    takes_from   timestamptz not null,
    horizon      timestamptz check (horizon <= takes_from),
    published_at timestamptz,

    -- So that no slot, and no sealed span of UTC, is half dropped.
    constraint retention_horizon_begins_a_day
        check (date_trunc('day', horizon at time zone 'UTC') = horizon at time zone 'UTC')
);

comment on table retention is 'One row, or none as long as nothing was dropped';
comment on column retention.takes_from is
    'What occurred before is refused; the trigger events_expired has the same moment in it';
comment on column retention.horizon is
    'What occurred before is never read from events, whether its rows are gone or not';

-- As its owner, so that whoever may insert events needs no right to count those that are refused.
create function refuse_expired_event() returns trigger language plpgsql
security definer set search_path = pg_catalog, pg_temp as $$
begin
    execute format('insert into %I.refused_events (reason) values (''expired'')', tg_table_schema);
    return null;
end
$$;
