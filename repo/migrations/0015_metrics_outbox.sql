-- What folds count for /metrics, by name, until the folder of a service takes it: in the transaction of the
-- fold, so that each event is counted once, whoever folds it.
create table untold_events (
    name_id integer not null primary key,
    events  bigint  not null check (events > 0)
);

comment on table untold_events is 'Events that were folded and are not told in the metrics yet';

-- What was there when a generation began is counted already, by the one before it or in the cluster that
-- this one was restored from.
alter table fold_state add begun pg_snapshot not null default pg_current_snapshot();

comment on column fold_state.begun is 'What it sees was there before this generation';
