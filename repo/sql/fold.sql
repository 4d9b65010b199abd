-- name: fold_lock
-- The lock comes before the snapshot, so that a rollup worker sees all folds of others.
begin isolation level repeatable read;
lock table fold_state in exclusive mode;

-- name: fold_lock_with_columns
-- As fold_lock, and also excludes the writers of columns.
begin isolation level repeatable read;
lock table fold_state, column_state in exclusive mode;

-- name: fold_now
select now();

-- name: fold_create_staging
-- Staging tables of this session, emptied at the end of each transaction. The timeout ends the transaction of
-- a rollup worker that was lost, so that others can fold. Bitmaps hardly compress, so nothing tries to.
set idle_in_transaction_session_timeout = '60s';
set jit = off;
set work_mem = '64MB';  -- enough to sort the events of one transaction
do $$
begin
    if to_regclass('pg_temp.fold_slots') is null then
        create temporary table fold_slots (
            slot    integer not null,
            name_id integer not null,
            events  bigint  not null,
            users   bytea   not null
        ) on commit delete rows;
        alter table fold_slots alter users set storage external;
    end if;
    if to_regclass('pg_temp.fold_spans') is null then
        create temporary table fold_spans (
            start_slot integer not null,
            end_slot   integer not null,
            name_id    integer not null,
            events     bigint  not null,
            users      bytea   not null
        ) on commit delete rows;
        alter table fold_spans alter users set storage external;
    end if;
end
$$;

-- name: fold_state
-- folded_at never goes back: clocks may, and a transaction may wait for one that began later. The third column
-- is whether the metrics count what this generation folds: the current one, or the first one.
select generation,
       is_current,
       is_current or not exists (select
                                 from   fold_state other
                                 where  other.is_current
                                 or     other.generation < fold_state.generation),
       greatest(now(), folded_at),
       pg_current_snapshot()::text,
       snapshot::text,
       sweeping_to::text,
       swept_until::text,
       swept_id::text,
       version,
       sealed,
       first_slot
from   fold_state
where  generation = %(generation)s;

-- name: fold_generations
-- The generations of this cluster, and whether the clock has been set back since their last fold.
select generation, folded_at > now() + interval '1 hour'
from   fold_state
where  cluster = (select system_identifier from pg_control_system())
order  by generation;

-- name: fold_has_current
-- Whether rollups of this cluster answer questions.
select exists (select
               from   fold_state
               where  is_current
               and    cluster = (select system_identifier from pg_control_system()));

-- name: fold_snapshot
-- The present snapshot, and the watermark of the current generation.
select pg_current_snapshot()::text,
       (select snapshot::text
        from   fold_state
        where  is_current
        and    cluster = (select system_identifier from pg_control_system()));

-- name: fold_is_restored
-- Whether a restore is complete: it creates this constraint last.
select exists (
    select
    from   pg_constraint
    where  conrelid = 'events'::regclass
    and    conname = 'events_ingested_xid_is_its_own'
);

-- name: fold_begin
-- Creates a generation. Its slots before the horizon, whose events are dropped, will be those of the current
-- generation, which may be of the cluster that this one was restored from.
insert into fold_state (cluster, first_slot)
select system_identifier,
       (select min(slot)
        from   slots
        join   fold_state using (generation)
        where  is_current
        and    slot < (select extract(epoch from horizon) / 900 from retention))
from   pg_control_system()
returning generation;

-- name: fold_copy_retained_slots
-- Copies the slots before the horizon. All generations share the ordinals and name ids.
insert into slots (generation, slot, name_id, events, users)
select %(generation)s, slot, name_id, events, users
from   slots
join   fold_state using (generation)
where  is_current
and    slot < (select extract(epoch from horizon) / 900 from retention);

-- name: fold_has_lost_history
-- Whether events were dropped whose slots are missing, since there is no current generation.
select exists (select from retention where horizon is not null)
       and not exists (select from fold_state where is_current);

-- name: fold_estimate_stored
-- The planner's estimate of the number of events; -1 before the first analyze.
select reltuples::bigint from pg_class where oid = 'events'::regclass;

-- name: fold_count_folded
-- The number of events in the current rollups.
select coalesce(sum(events), 0)::bigint
from   slots
join   fold_state using (generation)
where  is_current
and    name_id = 0;

-- name: fold_count_tail
-- The number of events in the tail, up to a limit.
select count(*)
from   (select
        from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as tail (first_xid, end_xid)
        cross  join lateral (
            select
            from   events
            where  ingested_xid >= first_xid
            and    ingested_xid < end_xid
            and    occurred_at >= coalesce((select horizon from retention), '-infinity')
            order  by ingested_xid  -- makes the planner use the index
            limit  %(limit)s
        ) as unfolded
        limit  %(limit)s) as counted;

-- name: fold_claim
-- The events that this snapshot sees and the watermark does not. Rows before the horizon are folded already.
select unfolded.*
from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as tail (first_xid, end_xid)
cross  join lateral (
    select event_id, occurred_at, event_name, user_id
    from   events
    where  ingested_xid >= first_xid
    and    ingested_xid < end_xid
    order  by ingested_xid
    offset 0  -- makes the planner use the index on ids
) as unfolded
where  occurred_at >= coalesce((select horizon from retention), '-infinity')

-- name: fold_density
-- The number of the next events, in the order of occurred_at, that are not folded.
select count(*)
from   (select   ingested_xid
        from     events
        where    (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)
        order    by occurred_at, event_id
        limit    %(sample_size)s) as sample
where  not pg_visible_in_snapshot(ingested_xid, %(watermark)s)
and    pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s);

-- name: fold_claim_dense
-- The next events of a backfill, by the index on time: the first ones that are not folded, of a limited number
-- of events.
select   event_id, occurred_at, event_name, user_id
from     (select   event_id, occurred_at, event_name, user_id, ingested_xid
          from     events
          where    (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)
          and      occurred_at >= coalesce((select horizon from retention), '-infinity')
          order    by occurred_at, event_id
          limit    %(scan_limit)s) as scanned
where    not pg_visible_in_snapshot(ingested_xid, %(watermark)s)
and      pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s)
order    by occurred_at, event_id
limit    %(limit)s

-- name: fold_claim_sparse
-- The next events of a backfill, by the index on ids: all that are left are read and sorted.
select   unfolded.*
from     unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[]) as tail (first_xid, end_xid)
cross    join lateral (
    select event_id, occurred_at, event_name, user_id
    from   events
    where  ingested_xid >= first_xid
    and    ingested_xid < end_xid
    and    occurred_at >= %(swept_until)s
    offset 0
) as unfolded
where    (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)
and      occurred_at >= coalesce((select horizon from retention), '-infinity')
order    by occurred_at, event_id
limit    %(limit)s

-- name: fold_claim_due
-- Future events whose time has come.
delete from future_events
where  generation = %(generation)s
and    occurred_at < %(until)s
returning '00000000-0000-0000-0000-000000000000'::uuid as event_id, occurred_at, event_name, user_id

-- name: fold_users_each
left   join lateral (
    select ordinal from users where users.user_id = source.user_id offset 0
) as known_user on true

-- name: fold_users_all
left   join users using (user_id)

-- name: fold_due_until
-- The time up to which future events are due, reduced so that at most `limit` of them are.
select   occurred_at + interval '1 microsecond'
from     future_events
where    generation = %(generation)s
and      occurred_at < %(until)s
order    by occurred_at
limit    1
offset   %(limit)s - 1;

-- name: fold_batch
-- Reads the claimed events with the ids of their names and users, and adds new ones to the dictionaries: a new
-- user gets an ordinal that was never used. Events of the future are moved to future_events, and columns hold
-- them already, with these ids. The second part of the union is never read: it makes the planner expect many
-- rows, which its statistics do not know yet.
copy (
    with claimed as ({source}),
    source as (
        select event_id, occurred_at, event_name, user_id from claimed
        union  all
        select null, null, null, null from generate_series(1, 500000) where (select false)
    ),
    resolved as materialized (
        select occurred_at, name_id, ordinal, event_id, event_name, source.user_id
        from   source
        left   join event_names using (event_name)
        {users}
    ),
    future as (
        insert into future_events (generation, occurred_at, event_name, user_id)
        select %(generation)s, occurred_at, event_name, user_id
        from   resolved
        where  occurred_at >= %(until)s
    ),
    new_names as (
        insert into event_names (event_name, name_id)
        select event_name, (select coalesce(max(name_id), 0) from event_names) + row_number() over ()
        from   (select distinct event_name
                from   resolved
                where  name_id is null) as missing
        returning event_name, name_id
    ),
    new_users as (
        insert into users (user_id, ordinal)
        select user_id,
               greatest((select coalesce(max(ordinal), 0) from users),
                        (select highest from erased_ordinals))
               + row_number() over ()
        from   (select distinct user_id
                from   resolved
                where  ordinal is null
                and    user_id <> '') as missing
        returning user_id, ordinal
    )
    select occurred_at,
           coalesce(resolved.name_id, new_names.name_id, 0),
           coalesce(resolved.ordinal, new_users.ordinal, 0),
           event_id
    from   resolved
    left   join new_names using (event_name)
    left   join new_users using (user_id)
) to stdout (format binary);

-- name: fold_read_gaps
copy (
    select gap_rows.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as gaps (start_slot, end_slot)
    cross  join lateral (
        select slot, name_id, events, users
        from   slots
        where  generation = %(generation)s
        and    slot >= start_slot
        and    slot < end_slot
        offset 0  -- makes the planner look up each gap in the index
    ) as gap_rows
) to stdout (format binary);

-- name: fold_slot_sizes
-- Bytes of the sets of users in each slot of a range, without reading them.
select   slot, sum(octet_length(users))
from     slots
where    generation = %(generation)s
and      slot >= %(start)s
and      slot < %(end)s
group    by slot;

-- name: fold_read_slots
copy (
    select slot, name_id, events, users
    from   slots
    where  generation = %(generation)s
    and    slot = any(%(slots)s::int[])
) to stdout (format binary);

-- name: fold_copy_slots
copy fold_slots (slot, name_id, events, users) from stdin (format binary);

-- name: fold_write_slots
insert into slots (generation, slot, name_id, events, users)
select %(generation)s, slot, name_id, events, users
from   fold_slots
on conflict (generation, slot, name_id)
do update set events = excluded.events, users = excluded.users;

-- name: fold_overlapping_spans
-- Sealed spans that overlap with a range of slots.
select start_slot, end_slot
from   sealed_spans
where  generation = %(generation)s
and    start_slot < %(end)s
and    end_slot > %(start)s;

-- name: fold_read_spans
copy (
    select start_slot, end_slot, name_id, events, users
    from   spans
    join   unnest(%(starts)s::int[], %(ends)s::int[]) as requested (start_slot, end_slot)
    using  (start_slot, end_slot)
    where  generation = %(generation)s
) to stdout (format binary);

-- name: fold_copy_spans
copy fold_spans (start_slot, end_slot, name_id, events, users) from stdin (format binary);

-- name: fold_write_spans
insert into spans (generation, start_slot, end_slot, name_id, events, users)
select %(generation)s, start_slot, end_slot, name_id, events, users
from   fold_spans
on conflict (generation, start_slot, end_slot, name_id)
do update set events = excluded.events, users = excluded.users;

-- name: fold_seal
-- Marks spans as sealed, or as changed, with this version.
insert into sealed_spans (generation, start_slot, end_slot, version)
select %(generation)s, start_slot, end_slot, %(version)s
from   unnest(%(starts)s::int[], %(ends)s::int[]) as span (start_slot, end_slot)
on conflict (generation, start_slot, end_slot)
do update set version = excluded.version;

-- name: fold_unseal
-- Deletes sealed spans of one length up to a slot.
with unsealed as (
    delete from sealed_spans
    where  generation = %(generation)s
    and    end_slot <= %(before)s
    and    end_slot - start_slot = %(span_length)s
    returning start_slot, end_slot
)
delete from spans
using  unsealed
where  generation = %(generation)s
and    spans.start_slot = unsealed.start_slot
and    spans.end_slot = unsealed.end_slot;

-- name: fold_raise_month_versions
-- Months of late events: cached answers about them are not valid any more.
insert into month_versions (month, version)
select unnest(%(months)s::int[]), %(version)s
on conflict (month)
do update set version = excluded.version;

-- name: fold_heartbeat
-- Gives the transaction an id, so that replicas learn the time of its commit.
select pg_current_xact_id() where exists (select from pg_stat_replication);

-- name: fold_update_state
update fold_state
set    snapshot = %(snapshot)s,
       sweeping_to = %(sweeping_to)s,
       swept_until = %(swept_until)s,
       swept_id = %(swept_id)s,
       folded_at = %(folded_at)s,
       version = %(version)s,
       sealed = %(sealed)s,
       first_slot = %(first_slot)s
where  generation = %(generation)s;

-- name: fold_switch
-- Makes a generation the current one, which questions read.
update fold_state set is_current = false where is_current;
update fold_state set is_current = true where generation = %(generation)s;
-- Versions start over, perhaps below the old ones. Cached answers are invalid anyway, because of the lineage.
delete from month_versions;

-- name: fold_delete_other_generations
delete from fold_state
where  generation <> %(generation)s
returning generation;

-- name: fold_delete_rows
-- Deletes the rows of generations from one table.
delete from {table} where generation = any(%(generations)s::int[]);

-- name: fold_adopt_restored
-- Events that are visible although their transaction ids belong to unfinished or future transactions: they were
-- restored from another cluster. They get the id of this transaction, a limited number at a time.
set local analytics.reason = 'adopt';
update events
set    ingested_xid = pg_current_xact_id()
where  ctid = any (array(
    select ctid
    from   events
    where  ingested_xid >= pg_snapshot_xmin(pg_current_snapshot())
    and    not pg_visible_in_snapshot(ingested_xid, pg_current_snapshot())
    limit  %(limit)s
));
