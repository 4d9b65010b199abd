-- What columns cannot hold, since the events were dropped.

alter table column_state
    add column events_from timestamptz not null default '-infinity',
    add column paths_from  timestamptz not null default '-infinity';

comment on column column_state.events_from is 'Earlier events were dropped before they were written';
comment on column column_state.paths_from is 'Earlier events may lack properties that are registered from now on';
