-- A sweep takes many events of one moment in parts: it has come as far as to an event, not to a moment.
alter table fold_state add swept_id uuid not null default '00000000-0000-0000-0000-000000000000';

update fold_state
set    swept_until = swept_until - interval '1 microsecond',
       swept_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
where  swept_until <> '-infinity';

comment on column fold_state.sweeping_to is
    'What it sees and snapshot did not is folded up to swept_until and swept_id';

-- Ordinals without holes: an insert that fails must not use any up, and sets of them stay small.
-- Only the folder gives them, and has the lock.
alter table users alter ordinal drop identity;
alter table event_names alter name_id drop identity;

comment on table users is 'The dictionary of user ids: ordinals are 1 and so on';
