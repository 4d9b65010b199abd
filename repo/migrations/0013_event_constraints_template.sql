-- What events takes and what it does not, for whoever may write events and not read them.
create table event_checks (like events including defaults including constraints);

comment on table event_checks is 'Always empty: a pattern with the constraints of events';
