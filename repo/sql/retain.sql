-- name: retain_state
-- The clock, from where on events are taken, and before which they are dropped.
select now(),
       (select takes_from from retention),
       (select horizon from retention);

-- name: retain_count
select count(*) from events where occurred_at < %(until)s;

-- name: retain_accepts_from
-- It never moves back: what was refused in between is missing.
insert into retention (takes_from)
values (%(takes_from)s)
on conflict (is_only_row)
do update set takes_from = greatest(retention.takes_from, excluded.takes_from)
returning takes_from;

-- name: retain_refuse
-- From the commit on nothing older comes in: this waits for all who write, though not for long,
-- since whoever begins to write waits behind it.
set local lock_timeout = '200ms';
create or replace trigger events_expired
    before insert on events
    for each row when (new.occurred_at < %(takes_from)s)
    execute function refuse_expired_event();

-- name: retain_blocking_sessions
-- Who holds the table so that the trigger cannot be made. Of a transaction that was prepared only the
-- lock on its own number tells which one it is.
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
-- What is not dropped is taken again.
update retention
set    takes_from = coalesce(horizon, '2000-01-01 00:00:00+00')
returning takes_from;

-- name: retain_is_counted
-- Whether all that is to be dropped is in the rollups that questions ask, and nobody makes others.
select (select count(*) from fold_state) = 1
       and not exists (select
                       from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[],
                                     %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
                              as over (first, until, swept_until, swept_id)
                       cross  join lateral (
                           select occurred_at
                           from   events
                           where  ingested_xid >= first
                           and    ingested_xid < over.until
                           and    (occurred_at, event_id) > (swept_until, swept_id)
                           and    occurred_at < %(until)s
                           order  by ingested_xid
                           limit  1
                       ) as recent)
       and not exists (select
                       from   future_events
                       where  generation = %(generation)s
                       and    occurred_at < %(until)s);

-- name: retain_publish
-- From now on questions know.
update retention
set    horizon = greatest(horizon, %(until)s),
       published_at = now();

-- name: retain_drop
-- The next of them, in the order in which they occurred, and the moment to which they reach.
set local analytics.reason = 'retain';
with next as materialized (
    select   ctid as place, occurred_at
    from     events
    where    occurred_at >= %(since)s
    and      occurred_at < %(until)s
    order    by occurred_at
    limit    %(most)s
),
dropped as (
    delete from events
    where  ctid = any (array(select place from next))
    returning 1
)
select (select count(*) from dropped), max(occurred_at)::text
from   next;

-- name: retain_pace
-- As autovacuum does it.
set vacuum_cost_delay = '2ms';

-- name: retain_vacuum
-- Without cutting off the end of the table: for that nobody could read it.
vacuum (analyze, truncate false) events;

-- name: retain_refused
-- Counts of what triggers kept out, each told once.
with told as (
    delete from refused_events
    where  ctid = any (array(select ctid from refused_events limit %(most)s))
    returning reason
)
select   reason, count(*)
from     told
group    by reason;
