-- The contract with the platform: whatever inserts rows here is counted, once per event_id.
create table events (
    event_id     uuid        not null primary key,
    user_id      text        not null default '',
    event_name   text        not null,
    occurred_at  timestamptz not null,
    properties   jsonb       not null default '{}',
    ingested_xid xid8        not null default pg_current_xact_id(),

    constraint events_user_id_is_short
        check (octet_length(user_id) <= 256),
    constraint events_event_name_is_short
        check (octet_length(event_name) between 1 and 200),
    -- Infinite moments and years that no calendar library can show are outside of these.
    constraint events_occurred_at_is_of_these_years
        check (occurred_at >= '2000-01-01 00:00:00+00' and occurred_at < '2100-01-01 00:00:00+00'),
    -- Measured as text: jsonb holds 1e131071 in a few bytes and shows it in 131,072 digits.
    constraint events_properties_is_a_small_object
        check (jsonb_typeof(properties) = 'object' and octet_length(properties::text) < 65536)
);

comment on table events is 'Facts: rows are inserted, and leave only by erase and retain';
comment on column events.user_id is 'Empty: nobody. Counts as an event, not as a user';
comment on column events.ingested_xid is 'The transaction that inserted the row';

-- Copied and forged ids are refused. Not valid, so that a dump loads its rows before the check.
alter table events
    add constraint events_ingested_xid_is_its_own
    check (ingested_xid = pg_current_xact_id()) not valid;

create index events_by_user on events (user_id, occurred_at desc, event_id desc);
create index events_by_time on events (occurred_at);
create index events_by_ingestion on events (ingested_xid);

create function refuse_change_of_events() returns trigger language plpgsql as $$
begin
    raise exception 'events are facts: % is refused', lower(tg_op)
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Use "python main.py erase" for a user and "python main.py retain" for age.';
end
$$;

create trigger events_are_facts
    before update or delete or truncate on events
    for each statement execute function refuse_change_of_events();
