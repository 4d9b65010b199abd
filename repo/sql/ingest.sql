-- name: ingest_copy
copy events (event_id, user_id, event_name, occurred_at, properties)
from stdin (encoding 'utf8');

-- name: ingest_stage
-- Copies a batch into a table that holds it until its new events are known.
create temporary table if not exists staging (
    event_id    uuid,
    user_id     text,
    event_name  text,
    occurred_at timestamptz,
    properties  jsonb
) on commit delete rows;
copy staging (event_id, user_id, event_name, occurred_at, properties)
from stdin (encoding 'utf8');

-- name: ingest_insert
-- Stores the new events of the batch, none if some are too old. Returns how many were stored, the id of the
-- transaction, the time from which events are accepted, and the positions of those that are older.
-- The lock, which the insert takes too, keeps retention and the denylist from changing until the end of the
-- transaction. None of the stored users is on the denylist, so the trigger need not look it up. In other
-- isolation levels the snapshot may be older than the lock, and the trigger must.
-- In the order of ids, so that concurrent writers do not deadlock; the first row of an id is stored.
lock table events in row exclusive mode;
select set_config('analytics.suppressed', 'none', true)
where  current_setting('transaction_isolation') = 'read committed';
with expired as materialized (
    select takes_from, position
    from   retention
    join   (select occurred_at, row_number() over (order by ctid) - 1 as position from staging) as batch
    on     occurred_at < takes_from
),
inserted as (
    insert into events (event_id, user_id, event_name, occurred_at, properties)
    select   event_id, user_id, event_name, occurred_at, properties
    from     staging
    where    not exists (select from expired)
    and      (not exists (select from suppressed_users)
              or (select true
                  from   suppressed_users
                  where  digest = sha256(convert_to(user_id, 'UTF8'))) is null)
    order by event_id, ctid
    on conflict (event_id) do nothing
    returning 1
)
select (select count(*) from inserted),
       pg_current_xact_id()::text,
       (select min(takes_from) from expired),
       (select array_agg(position order by position) from expired);

-- name: ingest_delete_suppressed
-- Inserts the events of suppressed users, which the trigger does not store and counts.
select set_config('analytics.suppressed', '', true);
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     staging
where    (select true
          from   suppressed_users
          where  digest = sha256(convert_to(user_id, 'UTF8')))
order    by event_id, ctid
on conflict (event_id) do nothing;

-- name: ingest_has_long_denylist
-- Whether the prefilter of the trigger passes more than one event in three.
select exists (select from suppressed_users offset 1700);

-- name: ingest_already_stored
-- Events of the batch that earlier attempts have stored, whose commits got no answer.
select count(*)
from   events
where  event_id in (select event_id from staging)
and    ingested_xid = any (%s::text[]::xid8[]);

-- name: ingest_violations
-- Events of the batch that violate a constraint of events, with the name of the constraint.
select   position, violated
from     (select row_number() over (order by ctid) - 1 as position,
                 case
                     when octet_length(user_id) > 256
                     then 'events_user_id_is_short'
                     when octet_length(event_name) not between 1 and 200
                     then 'events_event_name_is_short'
                     when occurred_at < '2000-01-01 00:00:00+00'
                          or occurred_at >= '2100-01-01 00:00:00+00'
                     then 'events_occurred_at_is_of_these_years'
                     when jsonb_typeof(properties) <> 'object'
                          or octet_length(properties::text) >= 65536
                     then 'events_properties_is_a_small_object'
                 end as violated
          from   staging) as measured
where    violated is not null
order by position;

-- name: ingest_check
-- Copies a batch into a table with the constraints of events, to find its first invalid event.
create temporary table checked
    (like event_checks including defaults including constraints)
    on commit drop;
copy checked (event_id, user_id, event_name, occurred_at, properties)
from stdin (encoding 'utf8');

-- name: ingest_suppressed
-- Number of events of the batch whose users are suppressed. The lock of the insert keeps the denylist from
-- changing.
select count(*)
from   staging
where  exists (select from suppressed_users)
and    user_id <> ''
and    exists (select
               from   suppressed_users
               where  digest = sha256(convert_to(user_id, 'UTF8')));

-- name: ingest_is_empty
select not exists (select from events)
       and not exists (select from retention where horizon is not null);
