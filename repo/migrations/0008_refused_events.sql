-- Facts leave by erase and retain alone, which say so in their transactions.
create or replace function refuse_change_of_events() returns trigger language plpgsql as $$
begin
    if (tg_op, current_setting('analytics.reason', true))
       in (('UPDATE', 'adopt'), ('DELETE', 'erase'), ('DELETE', 'retain')) then
        return null;
    end if;
    raise exception 'events are facts: % is refused', lower(tg_op)
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Use "python main.py erase" for a user and "python main.py retain" for age.';
end
$$;

-- What triggers kept out of events, a row for each; the folder counts them for /metrics.
create table refused_events (
    refused_at timestamptz not null default now(),
    reason     text        not null,

    constraint refused_events_reason_is_known
        check (reason in ('expired', 'suppressed'))
);

comment on table refused_events is
    'Events that cannot be counted: expired, older than what is kept; suppressed, of an erased user';
