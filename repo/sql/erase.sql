-- name: erase_delete_foreign_generations
-- Generations of another cluster, which questions do not read: which events they contain is unknown here.
delete from fold_state
where  cluster <> (select system_identifier from pg_control_system())
returning generation;

-- name: erase_has_foreign_rollups
select exists (select
               from   fold_state
               where  cluster <> (select system_identifier from pg_control_system()));

-- name: erase_generations
-- All generations, and the version that this change of them gets.
select   generation,
         is_current,
         first_slot,
         greatest(version + 1, (extract(epoch from now()) * 1000000)::bigint)
from     fold_state
order    by generation;

-- name: erase_next_number
-- The number of the next receipt.
select nextval(pg_get_serial_sequence('erasures', 'number'));

-- name: erase_count_events
select count(*) from events where user_id = any(%(user_ids)s);

-- name: erase_ordinal
select ordinal from users where user_id = %(user_id)s;

-- name: erase_event_counts
-- The number of folded events of a user by slot and name, and by slot (name 0).
select   (extract(epoch from slot) / 900)::int, coalesce(name_id, 0), count(*)
from     (select date_bin('15 minutes', occurred_at, timestamptz 'epoch') as slot, name_id
          from   fold_state
          join   events on (pg_visible_in_snapshot(ingested_xid, snapshot)
                            or (pg_visible_in_snapshot(ingested_xid, sweeping_to)
                                and (occurred_at, event_id) <= (swept_until, swept_id)))
          join   event_names using (event_name)
          where  generation = %(generation)s
          and    user_id = %(user_id)s
          and    occurred_at >= %(since)s  -- rows of dropped events may be left
          and    occurred_at < folded_at) as folded
group    by grouping sets ((slot, name_id), (slot))
order    by slot;

-- name: erase_delete_slots
-- Rows whose last event is erased. The next rows go through the same staging table.
delete from slots
using  unnest(%(slots)s::int[], %(name_ids)s::int[]) as emptied (slot, name_id)
where  generation = %(generation)s
and    slots.slot = emptied.slot
and    slots.name_id = emptied.name_id;
truncate fold_slots;

-- name: erase_delete_spans
delete from spans
using  unnest(%(starts)s::int[], %(ends)s::int[], %(name_ids)s::int[])
       as emptied (start_slot, end_slot, name_id)
where  generation = %(generation)s
and    spans.start_slot = emptied.start_slot
and    spans.end_slot = emptied.end_slot
and    spans.name_id = emptied.name_id;
truncate fold_spans;

-- name: erase_user_sets_of_spans
-- The sets of users of all names together.
copy (
    select start_slot, end_slot, users
    from   spans
    join   unnest(%(starts)s::int[], %(ends)s::int[]) as requested (start_slot, end_slot)
    using  (start_slot, end_slot)
    where  generation = %(generation)s
    and    name_id = 0
) to stdout (format binary);

-- name: erase_user_sets_of_slots
copy (
    select slot, users
    from   slots
    where  generation = %(generation)s
    and    name_id = 0
    and    slot >= %(start)s
    and    slot < %(end)s
) to stdout (format binary);

-- name: erase_version
update fold_state
set    version = %(version)s,
       sealed = case when %(is_sealed)s then %(version)s else sealed end
where  generation = %(generation)s;

-- name: erase_events
-- Deletes all events that this snapshot sees; returns how many there were by slot.
set local analytics.reason = 'erase';
with deleted as (
    delete from events where user_id = %(user_id)s returning occurred_at
)
select   (extract(epoch from date_bin('15 minutes', occurred_at, timestamptz 'epoch')) / 900)::int,
         count(*)
from     deleted
group    by 1
order    by 1;

-- name: erase_future_events
-- The rows of all generations.
delete from future_events where user_id = %(user_id)s;

-- name: erase_user
with deleted as (
    delete from users where user_id = %(user_id)s returning ordinal
)
update erased_ordinals
set    highest = greatest(highest, ordinal)
from   deleted;

-- name: erase_adopted_tables
-- Adopted tables, and released ones that exist, since they may be adopted again. Unlike `to_regclass`, the
-- catalog needs no rights in their schemas.
select   table_name
from     adopted_tables
where    released_at is null
or       exists (select
                 from   pg_class c
                 join   pg_namespace n on n.oid = relnamespace
                 where  format('%I.%I', nspname, relname) = table_name)
order    by table_name;

-- name: erase_receipt
insert into erasures (number, erasure_id, proof, events, slots, spans, days, first_month, last_month,
                      suppressed, unknown_before)
overriding system value
values (%(number)s, gen_random_uuid(), %(proof)s, %(events)s, %(slots)s, %(spans)s, %(days)s, %(first_month)s,
        %(last_month)s, %(suppressed)s, %(unknown_before)s)
returning erasure_id::text, erased_at;
