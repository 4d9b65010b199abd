-- name: fold_lock
-- Before the snapshot is taken, so that two folders can never both believe that they are alone.
begin isolation level repeatable read;
lock table fold_state in exclusive mode;

-- name: fold_now
select now();

-- name: fold_tables
-- Of this session, and emptied at the end of each transaction. A folder that went away in the middle
-- of one must not keep the others out. Sets of users hardly get smaller: nothing tries to compress them.
set idle_in_transaction_session_timeout = '60s';
set jit = off;
set work_mem = '64MB';  -- for as many events as one transaction folds
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
-- Time never goes back, though clocks may, and a transaction may wait for one that began later. What the
-- generation that questions ask folds is counted for the metrics; before there is one, what the first does.
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
-- The generation that questions ask, and the one that is being built, if there are any; and whether
-- the clock must have been put back since.
select generation, folded_at > now() + interval '1 hour'
from   fold_state
where  cluster = (select system_identifier from pg_control_system())
order  by generation;

-- name: fold_snapshot
-- What there is now, and what the generation that questions ask has folded.
select pg_current_snapshot()::text,
       (select snapshot::text
        from   fold_state
        where  is_current
        and    cluster = (select system_identifier from pg_control_system()));

-- name: fold_is_restored
-- Whether events have the constraint that gives them ids of this cluster: a restore makes it last.
select exists (
    select
    from   pg_constraint
    where  conrelid = 'events'::regclass
    and    conname = 'events_ingested_xid_is_its_own'
);

-- name: fold_begin
-- Where there is a horizon, slots before it are those of the generation that questions ask, or asked
-- in the cluster that this one was restored from: their events cannot be counted again.
insert into fold_state (cluster, first_slot)
select system_identifier,
       (select min(slot)
        from   slots
        join   fold_state using (generation)
        where  is_current
        and    slot < (select extract(epoch from horizon) / 900 from retention))
from   pg_control_system()
returning generation;

-- name: fold_keep
-- These slots; ordinals and numbers of names are those of all generations.
insert into slots (generation, slot, name_id, events, users)
select %(generation)s, slot, name_id, events, users
from   slots
join   fold_state using (generation)
where  is_current
and    slot < (select extract(epoch from horizon) / 900 from retention);

-- name: fold_has_lost
-- Whether there is nothing to keep them of.
select exists (select from retention where horizon is not null)
       and not exists (select from fold_state where is_current);

-- name: fold_stored
-- About how many events there are; -1 where nobody has looked yet.
select reltuples::bigint from pg_class where oid = 'events'::regclass;

-- name: fold_counted
-- The events that the rollups hold which questions ask.
select coalesce(sum(events), 0)::bigint
from   slots
join   fold_state using (generation)
where  is_current
and    name_id = 0;

-- name: fold_count
-- How many events are not folded, up to a limit.
select count(*)
from   (select
        from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[]) as over (first, until)
        cross  join lateral (
            select
            from   events
            where  ingested_xid >= first
            and    ingested_xid < until
            and    occurred_at >= coalesce((select horizon from retention), '-infinity')
            order  by ingested_xid  -- by the index, whatever the planner expects
            limit  %(limit)s
        ) as recent
        limit  %(limit)s) as tail;

-- name: fold_claim
-- All that this snapshot sees and the last one did not; what is dropped is counted, though rows of it
-- may still be there.
select recent.*
from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[]) as over (first, until)
cross  join lateral (
    select event_id, occurred_at, event_name, user_id
    from   events
    where  ingested_xid >= first
    and    ingested_xid < until
    order  by ingested_xid
    offset 0  -- by the index of ids, whatever the planner expects
) as recent
where  occurred_at >= coalesce((select horizon from retention), '-infinity')

-- name: fold_density
-- How many of the next events, in the order in which they occurred, wait.
select count(*)
from   (select   ingested_xid
        from     events
        where    (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)
        order    by occurred_at, event_id
        limit    %(probe)s) as next
where  not pg_visible_in_snapshot(ingested_xid, %(folded)s)
and    pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s);

-- name: fold_claim_dense
-- The next of many, in the order in which they occurred, among so many of all events.
select   event_id, occurred_at, event_name, user_id
from     (select   event_id, occurred_at, event_name, user_id, ingested_xid
          from     events
          where    (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)
          and      occurred_at >= coalesce((select horizon from retention), '-infinity')
          order    by occurred_at, event_id
          limit    %(among)s) as next
where    not pg_visible_in_snapshot(ingested_xid, %(folded)s)
and      pg_visible_in_snapshot(ingested_xid, %(sweeping_to)s)
order    by occurred_at, event_id
limit    %(most)s

-- name: fold_claim_sparse
-- The same, where all that is left of them is read and sorted.
select   recent.*
from     unnest(%(firsts)s::xid8[], %(untils)s::xid8[]) as over (first, until)
cross    join lateral (
    select event_id, occurred_at, event_name, user_id
    from   events
    where  ingested_xid >= first
    and    ingested_xid < until
    and    occurred_at >= %(swept_until)s
    offset 0
) as recent
where    (occurred_at, event_id) > (%(swept_until)s::timestamptz, %(swept_id)s::uuid)
and      occurred_at >= coalesce((select horizon from retention), '-infinity')
order    by occurred_at, event_id
limit    %(most)s

-- name: fold_claim_ripe
-- Those whose time has come since they were folded.
delete from future_events
where  generation = %(generation)s
and    occurred_at < %(until)s
returning '00000000-0000-0000-0000-000000000000'::uuid as event_id, occurred_at, event_name, user_id

-- name: fold_users_each
left   join lateral (
    select ordinal from users where users.user_id = source.user_id offset 0
) as known on true

-- name: fold_users_all
left   join users using (user_id)

-- name: fold_ripe_until
-- A moment that is not further than the time of so many events that wait.
select   occurred_at + interval '1 microsecond'
from     future_events
where    generation = %(generation)s
and      occurred_at < %(until)s
order    by occurred_at
limit    1
offset   %(most)s - 1;

-- name: fold_batch
-- Events that were taken, those that have not occurred yet among them: these wait. New users get
-- ordinals from the highest on that was ever given. Statistics are older than what came in just now:
-- the second part of the union is never read, and lets the planner expect many whatever they say.
copy (
    with waiting as ({source}),
    source as (
        select event_id, occurred_at, event_name, user_id from waiting
        union  all
        select null, null, null, null from generate_series(1, 500000) where (select false)
    ),
    taken as materialized (
        select occurred_at, name_id, ordinal, event_id, event_name, source.user_id
        from   source
        left   join event_names using (event_name)
        {users}
    ),
    early as (
        insert into future_events (generation, occurred_at, event_name, user_id)
        select %(generation)s, occurred_at, event_name, user_id
        from   taken
        where  occurred_at >= %(until)s
    ),
    new_names as (
        insert into event_names (event_name, name_id)
        select event_name, (select coalesce(max(name_id), 0) from event_names) + row_number() over ()
        from   (select distinct event_name
                from   taken
                where  name_id is null
                and    occurred_at < %(until)s) as unknown
        returning event_name, name_id
    ),
    new_users as (
        insert into users (user_id, ordinal)
        select user_id,
               greatest((select coalesce(max(ordinal), 0) from users),
                        (select highest from erased_ordinals))
               + row_number() over ()
        from   (select distinct user_id
                from   taken
                where  ordinal is null
                and    user_id <> ''
                and    occurred_at < %(until)s) as unknown
        returning user_id, ordinal
    )
    select occurred_at,
           coalesce(taken.name_id, new_names.name_id, 0),
           coalesce(taken.ordinal, new_users.ordinal, 0),
           event_id
    from   taken
    left   join new_names using (event_name)
    left   join new_users using (user_id)
) to stdout (format binary);

-- name: fold_read_gaps
copy (
    select found.*
    from   unnest(%(starts)s::int[], %(ends)s::int[]) as gap (start_slot, end_slot)
    cross  join lateral (
        select slot, name_id, events, users
        from   slots
        where  generation = %(generation)s
        and    slot >= start_slot
        and    slot < end_slot
        offset 0  -- one look into the index for each gap, whatever the planner knows
    ) as found
) to stdout (format binary);

-- name: fold_sizes
-- Bytes of the sets of users in each slot of a range; they are not read for it.
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

-- name: fold_sealed
-- Sealed spans that reach into another one.
select start_slot, end_slot
from   sealed_spans
where  generation = %(generation)s
and    start_slot < %(end)s
and    end_slot > %(start)s;

-- name: fold_read_spans
copy (
    select start_slot, end_slot, name_id, events, users
    from   spans
    join   unnest(%(starts)s::int[], %(ends)s::int[]) as wanted (start_slot, end_slot)
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
-- These spans are sealed, or changed, as of this version.
insert into sealed_spans (generation, start_slot, end_slot, version)
select %(generation)s, start_slot, end_slot, %(version)s
from   unnest(%(starts)s::int[], %(ends)s::int[]) as span (start_slot, end_slot)
on conflict (generation, start_slot, end_slot)
do update set version = excluded.version;

-- name: fold_unseal
-- Spans that are kept no longer.
with gone as (
    delete from sealed_spans
    where  generation = %(generation)s
    and    end_slot <= %(before)s
    and    end_slot - start_slot = %(length)s
    returning start_slot, end_slot
)
delete from spans
using  gone
where  generation = %(generation)s
and    spans.start_slot = gone.start_slot
and    spans.end_slot = gone.end_slot;

-- name: fold_late
-- Months that events change after they were answered for.
insert into month_versions (month, version)
select unnest(%(months)s::int[]), %(version)s
on conflict (month)
do update set version = excluded.version;

-- name: fold_heartbeat
-- A transaction that has an id leaves the time of its commit for replicas, and nothing else.
select pg_current_xact_id() where exists (select from pg_stat_replication);

-- name: fold_store
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
-- From now on questions ask this generation.
update fold_state set is_current = false where is_current;
update fold_state set is_current = true where generation = %(generation)s;
-- Versions begin anew, perhaps below those of the past; another lineage makes all kept answers old.
delete from month_versions;

-- name: fold_forget
-- The rollups of all other generations.
delete from slots where generation <> %(generation)s;
delete from spans where generation <> %(generation)s;
delete from sealed_spans where generation <> %(generation)s;
delete from future_events where generation <> %(generation)s;
delete from fold_state where generation <> %(generation)s;

-- name: fold_adopt
-- Events that are seen, though they bear ids of transactions which are not over here, or have not
-- begun: they were restored from another cluster. They get the id of this one, some at a time.
set local analytics.reason = 'adopt';
update events
set    ingested_xid = pg_current_xact_id()
where  ctid = any (array(
    select ctid
    from   events
    where  ingested_xid >= pg_snapshot_xmin(pg_current_snapshot())
    and    not pg_visible_in_snapshot(ingested_xid, pg_current_snapshot())
    limit  %(most)s
));
