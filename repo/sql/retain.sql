-- name: retain_state
-- The server's clock, the time from which on events are accepted, and the horizon.
select now(),
       (select takes_from from retention),
       (select horizon from retention);

-- name: retain_count
select count(*) from events where occurred_at < %(until)s;

-- name: retain_accepts_from
-- It never moves back, since events that were refused are missing.
insert into retention (takes_from)
values (%(takes_from)s)
on conflict (is_only_row)
do update set takes_from = greatest(retention.takes_from, excluded.takes_from)
returning takes_from;

-- name: retain_create_trigger
-- From the commit on, older events are refused. This waits for transactions that write events, and only
-- briefly, since new writers wait behind it.
set local lock_timeout = '200ms';
create or replace trigger events_expired
    before insert on events
    for each row when (new.occurred_at < %(takes_from)s)
    execute function refuse_expired_event();

-- name: retain_blocking_sessions
-- The transactions that keep the trigger from being created, the oldest first. A prepared transaction is
-- identified by the lock on its own id.
with prepared as (
    select virtualtransaction, gid, prepared
    from   pg_locks
    join   pg_prepared_xacts on transaction = transactionid
    where  pid is null
)
select   case when pid is null
              then format('the transaction %L that was prepared at %s', gid, prepared::timestamptz(0))
              else concat('process ', pid, ' (', coalesce(nullif(application_name, ''), backend_type),
                          '), in a transaction', ' since ' || xact_start::timestamptz(0))
         end
from     pg_locks
left     join pg_stat_activity using (pid)
left     join prepared on pid is null and prepared.virtualtransaction = pg_locks.virtualtransaction
where    locktype = 'relation'
and      relation = 'events'::regclass
and      pg_locks.database = (select oid from pg_database where datname = current_database())
and      granted
and      pid is distinct from pg_backend_pid()
and      mode not in ('AccessShareLock', 'RowShareLock')
order    by least(prepared, xact_start);

-- name: retain_accepts_again
-- Events from the horizon on are accepted again.
update retention
set    takes_from = coalesce(horizon, '2000-01-01 00:00:00+00')
returning takes_from;

-- name: retain_is_counted
-- Whether all events before a time are in the current rollups, and no other generation is being built.
select (select count(*) from fold_state) = 1
       and not exists (select
                       from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[],
                                     %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
                              as tail (first_xid, end_xid, swept_until, swept_id)
                       cross  join lateral (
                           select occurred_at
                           from   events
                           where  ingested_xid >= first_xid
                           and    ingested_xid < end_xid
                           and    (occurred_at, event_id) > (swept_until, swept_id)
                           and    occurred_at < %(until)s
                           order  by ingested_xid
                           limit  1
                       ) as unfolded)
       and not exists (select
                       from   future_events
                       where  generation = %(generation)s
                       and    occurred_at < %(until)s);

-- name: retain_publish
-- From the commit on, questions do not read older events.
update retention
set    horizon = greatest(horizon, %(until)s),
       published_at = now();

-- name: retain_drop
-- Deletes the next events, the oldest first; returns how many, and the time of the last one.
set local analytics.reason = 'retain';
with oldest as materialized (
    select   ctid as row_id, occurred_at
    from     events
    where    occurred_at >= %(since)s
    and      occurred_at < %(until)s
    order    by occurred_at
    limit    %(limit)s
),
deleted as (
    delete from events
    where  ctid = any (array(select row_id from oldest))
    returning 1
)
select (select count(*) from deleted), max(occurred_at)::text
from   oldest;

-- name: retain_vacuum_delay
-- As autovacuum, so that queries are not slowed down.
set vacuum_cost_delay = '2ms';

-- name: retain_vacuum_events
-- Without truncating the end of the table, which would need an exclusive lock.
vacuum (analyze, truncate false) events;

-- name: retain_vacuum_columns
vacuum (truncate false) column_data;

-- name: retain_take_refused
-- Takes the counts of events that triggers refused, so that each is published once.
with taken as (
    delete from refused_events
    where  ctid = any (array(select ctid from refused_events limit %(limit)s))
    returning reason
)
select   reason, count(*)
from     taken
group    by reason;
