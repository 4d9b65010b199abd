-- name: erase_forget_others
-- Rollups of another cluster, which no question asks: of which events they are made cannot be told here.
with gone as (
    delete from fold_state
    where  cluster <> (select system_identifier from pg_control_system())
    returning generation
),
slots_of_gone as (
    delete from slots where generation in (select generation from gone)
),
spans_of_gone as (
    delete from spans where generation in (select generation from gone)
),
sealed_of_gone as (
    delete from sealed_spans where generation in (select generation from gone)
)
delete from future_events where generation in (select generation from gone);

-- name: erase_has_others
select exists (select
               from   fold_state
               where  cluster <> (select system_identifier from pg_control_system()));

-- name: erase_generations
-- The others, and the version of what is changed in them now.
select   generation,
         is_current,
         first_slot,
         greatest(version + 1, (extract(epoch from now()) * 1000000)::bigint)
from     fold_state
order    by generation;

-- name: erase_count_events
select count(*) from events where user_id = any(%(user_ids)s);

-- name: erase_ordinal
select ordinal from users where user_id = %(user_id)s;

-- name: erase_counts
-- How many events of a user the slots of a generation hold, by name, and of all names together.
select   (extract(epoch from slot) / 900)::int, coalesce(name_id, 0), count(*)
from     (select date_bin('15 minutes', occurred_at, timestamptz 'epoch') as slot, name_id
          from   fold_state
          join   events on (pg_visible_in_snapshot(ingested_xid, snapshot)
                            or (pg_visible_in_snapshot(ingested_xid, sweeping_to)
                                and (occurred_at, event_id) <= (swept_until, swept_id)))
          join   event_names using (event_name)
          where  generation = %(generation)s
          and    user_id = %(user_id)s
          and    occurred_at >= %(since)s  -- some of those that are dropped may still be there
          and    occurred_at < folded_at) as folded
group    by grouping sets ((slot, name_id), (slot))
order    by slot;

-- name: erase_part
-- Parts of one transaction share the tables that rows come in by.
truncate fold_slots, fold_spans;

-- name: erase_slots
-- Rows that no event is left in.
delete from slots
using  unnest(%(slots)s::int[], %(names)s::int[]) as emptied (slot, name_id)
where  generation = %(generation)s
and    slots.slot = emptied.slot
and    slots.name_id = emptied.name_id;

-- name: erase_spans
delete from spans
using  unnest(%(starts)s::int[], %(ends)s::int[], %(names)s::int[])
       as emptied (start_slot, end_slot, name_id)
where  generation = %(generation)s
and    spans.start_slot = emptied.start_slot
and    spans.end_slot = emptied.end_slot
and    spans.name_id = emptied.name_id;

-- name: erase_sets_of_spans
-- Who was there, whatever they did.
copy (
    select start_slot, end_slot, users
    from   spans
    join   unnest(%(starts)s::int[], %(ends)s::int[]) as wanted (start_slot, end_slot)
    using  (start_slot, end_slot)
    where  generation = %(generation)s
    and    name_id = 0
) to stdout (format binary);

-- name: erase_sets_of_slots
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
-- All that this snapshot sees, and the slots that they were of.
set local analytics.reason = 'erase';
with gone as (
    delete from events where user_id = %(user_id)s returning occurred_at
)
select   (extract(epoch from date_bin('15 minutes', occurred_at, timestamptz 'epoch')) / 900)::int,
         count(*)
from     gone
group    by 1
order    by 1;

-- name: erase_future_events
-- Of all generations.
delete from future_events where user_id = %(user_id)s;

-- name: erase_user
with gone as (
    delete from users where user_id = %(user_id)s returning ordinal
)
update erased_ordinals
set    highest = greatest(highest, ordinal)
from   gone;

-- name: erase_adopted
-- One that was released may be adopted again as long as it is there. The catalog tells that without the
-- rights in its schema that `to_regclass` would need.
select   table_name
from     adopted_tables
where    released_at is null
or       exists (select
                 from   pg_class c
                 join   pg_namespace n on n.oid = relnamespace
                 where  format('%I.%I', nspname, relname) = table_name)
order    by table_name;

-- name: erase_receipt
insert into erasures (erasure_id, proof, events, slots, spans, days, first_month, last_month,
                      suppressed, unknown_before)
values (gen_random_uuid(), %(proof)s, %(events)s, %(slots)s, %(spans)s, %(days)s, %(first_month)s,
        %(last_month)s, %(suppressed)s, %(unknown_before)s)
returning erasure_id::text, erased_at;
