-- name: event_names_seen
-- When the first and the last events of names occurred: by their first and last slots, whose events are read up to
-- the first that has the name; and in the tail and among future events. Of dropped events only the slot is known.
with listed as (
    select event_name, name_id from event_names where event_name = any(%(names)s)
),
edges as (
    select event_name,
           to_timestamp(900.0 * (select slot
                               from   slots
                               where  generation = %(generation)s
                               and    slots.name_id = listed.name_id
                               order  by slot
                               limit  1)) as first_slot,
           to_timestamp(900.0 * (select slot
                               from   slots
                               where  generation = %(generation)s
                               and    slots.name_id = listed.name_id
                               order  by slot desc
                               limit  1)) as last_slot
    from   listed
),
folded as (
    select event_name,
           coalesce((select   occurred_at
                     from     events
                     where    occurred_at >= first_slot
                     and      occurred_at < first_slot + interval '15 minutes'
                     and      events.event_name = edges.event_name
                     order    by occurred_at
                     limit    1),
                    first_slot) as first_seen,
           coalesce((select   occurred_at
                     from     events
                     where    occurred_at >= last_slot
                     and      occurred_at < least(last_slot + interval '15 minutes', %(now)s)
                     and      events.event_name = edges.event_name
                     order    by occurred_at desc
                     limit    1),
                    last_slot) as last_seen
    from   edges
    where  first_slot is not null
),
unfolded as (
    select event_name, occurred_at
    from   unnest(%(first_xids)s::xid8[], %(end_xids)s::xid8[],
                  %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
           as tail (first_xid, end_xid, swept_until, swept_id)
    cross  join lateral (
        select event_name, occurred_at
        from   events
        where  ingested_xid >= first_xid
        and    ingested_xid < end_xid
        and    (occurred_at, event_id) > (swept_until, swept_id)
        order  by ingested_xid
        offset 0
    ) as tail_events
    where  occurred_at >= %(horizon)s
    union  all
    select event_name, occurred_at
    from   future_events
    where  generation = %(generation)s
    and    occurred_at >= %(folded_at)s
)
select   event_name, min(first_seen), max(last_seen)
from     (select event_name, first_seen, last_seen
          from   folded
          union  all
          select event_name, occurred_at, occurred_at
          from   unfolded
          where  occurred_at < %(now)s
          and    event_name = any(%(names)s)) as seen
group    by event_name;

-- name: event_names_seen_in_events
-- The same where there are no rollups.
select   event_name, min(occurred_at), max(occurred_at)
from     events
where    event_name = any(%(names)s)
and      occurred_at < %(now)s
group    by event_name;
