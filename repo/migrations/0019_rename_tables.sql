-- Renames three tables. The old names stay for one release, for processes of the version before this one:
-- they can read and write through them as before.

-- No fold runs while the names change, and all locks are taken before the first change.
lock table fold_state in exclusive mode;
lock table numbers_due, untold_events, ahead in access exclusive mode;

alter table ahead rename to future_events;
alter table untold_events rename to metrics_outbox;
alter table numbers_due rename to daily_stats_queue;

alter index ahead_by_time rename to future_events_by_time;

-- Not-null constraints have names since PostgreSQL 18 only.
do $$
declare
    renamed record;
begin
    for renamed in
        select conrelid::regclass as "table", conname,
               new_name || substr(conname, length(old_name) + 1) as new_conname
        from   (values ('ahead', 'future_events'),
                       ('untold_events', 'metrics_outbox'),
                       ('numbers_due', 'daily_stats_queue')) as tables (old_name, new_name)
        join   pg_constraint on conrelid = to_regclass(new_name) and starts_with(conname, old_name)
    loop
        execute format('alter table %s rename constraint %I to %I',
                       renamed."table", renamed.conname, renamed.new_conname);
    end loop;
end
$$;

create view untold_events as select name_id, events from metrics_outbox;
create view numbers_due as select zone, day from daily_stats_queue;

-- A view has no statistics targets, which erasures of the version before set on this name: here a
-- partitioned table whose only partition is the renamed one does what a view does elsewhere.
create table ahead (like future_events) partition by list (generation);
alter table ahead alter user_id set statistics 0;
alter table ahead attach partition future_events default;

comment on table future_events is
    'Events dated later than the last fold. They are moved to slots when their time has come';
comment on table metrics_outbox is
    'Counts of folded events by name that are not yet added to the metric analytics_events_total';
comment on table daily_stats_queue is 'Days whose rows in day_events and day_users must be computed again';
comment on table ahead is 'Deprecated: use future_events';
comment on view untold_events is 'Deprecated: use metrics_outbox';
comment on view numbers_due is 'Deprecated: use daily_stats_queue';

create or replace view storage as
select part, relname as name, pg_table_size(oid) as table_bytes, pg_indexes_size(oid) as index_bytes
from   (values ('events', 'events'),
               ('users', 'rollups'), ('event_names', 'rollups'), ('slots', 'rollups'),
               ('spans', 'rollups'), ('sealed_spans', 'rollups'), ('future_events', 'rollups'),
               ('day_events', 'daily statistics'), ('day_users', 'daily statistics')) as tables (name, part)
join   pg_class on relname = name
where  relnamespace = (select relnamespace from pg_class where oid = 'events'::regclass);
