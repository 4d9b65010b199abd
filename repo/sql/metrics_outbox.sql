-- name: metrics_outbox_add
-- Adds the events of a fold by name.
insert into metrics_outbox (name_id, events)
select name_id, events
from   unnest(%(name_ids)s::int[], %(events)s::bigint[]) as folded (name_id, events)
on conflict (name_id)
do update set events = metrics_outbox.events + excluded.events;

-- name: metrics_outbox_add_missed
-- Adds the events that this generation has folded and the current one has not; after a restore into another
-- cluster, those that were inserted since this generation was created.
with counted_until as (
    select snapshot, sweeping_to, swept_until, swept_id
    from   fold_state
    where  is_current
    and    cluster = (select system_identifier from pg_control_system())
    union  all
    select begun, '3:3:', '-infinity', '00000000-0000-0000-0000-000000000000'
    from   fold_state
    where  generation = %(generation)s
    and    exists (select
                   from   fold_state
                   where  is_current
                   and    cluster <> (select system_identifier from pg_control_system()))
),
missed as (
    select event_name
    from   counted_until
    join   events on (ingested_xid >= pg_snapshot_xmax(snapshot)
                      or ingested_xid = any(array(select pg_snapshot_xip(snapshot))))
                 and not ((occurred_at, event_id) <= (swept_until, swept_id)
                          and pg_visible_in_snapshot(ingested_xid, sweeping_to))
    where  occurred_at < %(until)s
    and    occurred_at >= coalesce((select horizon from retention), '-infinity')
    union  all
    select event_name
    from   future_events
    join   fold_state using (generation)
    where  is_current
    and    occurred_at < %(until)s
)
insert into metrics_outbox (name_id, events)
select name_id, count(*)
from   missed
join   event_names using (event_name)
group  by name_id
on conflict (name_id)
do update set events = metrics_outbox.events + excluded.events;

-- name: metrics_outbox_delete_foreign
-- After a restore into another cluster: the service of the old cluster publishes these counts.
delete from metrics_outbox
where  exists (select
               from   fold_state
               where  is_current
               and    cluster <> (select system_identifier from pg_control_system()));

-- name: metrics_outbox_pop
-- Takes all counts, by name or as `other`, so that each event is published once.
with taken as (
    delete from metrics_outbox
    returning name_id, events
)
select   case when event_name = any(%(event_names)s) then event_name else %(other)s end as label,
         sum(events)::bigint
from     taken
join     event_names using (name_id)
group    by label;

-- name: metrics_outbox_active_users
-- The statistics of the present day in a zone; no row if they are not computed yet.
select   dau, wau, mau
from     day_users
where    zone = %(zone)s
and      starts_at <= now()
and      ends_at > now()
order    by day desc
limit    1;

-- name: metrics_outbox_rejected_rows
select count(adoption_id) from rejected_rows;
