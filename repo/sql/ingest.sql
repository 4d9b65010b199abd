-- name: ingest_copy
copy events (event_id, user_id, event_name, occurred_at, properties)
from stdin (encoding 'utf8');

-- name: ingest_staging
-- Where a batch waits until it is known which of its events are new.
create temporary table if not exists staging (
    event_id    uuid,
    user_id     text,
    event_name  text,
    occurred_at timestamptz,
    properties  jsonb
) on commit delete rows;

-- name: ingest_stage
copy staging (event_id, user_id, event_name, occurred_at, properties)
from stdin (encoding 'utf8');

-- name: ingest_expired
-- Which of the batch are older than what is kept. The lock is that of the insert: what is kept does
-- not change before its end.
lock table events in row exclusive mode;
select takes_from, place
from   retention
join   (select occurred_at, row_number() over (order by ctid) - 1 as place from staging) as given
on     occurred_at < takes_from
order  by place;

-- name: ingest_insert
-- In the order of ids, so that two writers never wait for each other; the first of an id counts. Nobody
-- of these is on the list of suppressed users, which the lock keeps as it is: the trigger need not look.
-- (A snapshot of before the lock may not show the list: there it must.)
select set_config('analytics.suppressed', 'none', true)
where  current_setting('transaction_isolation') = 'read committed';
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     staging
where    not exists (select from suppressed_users)
or       (select true
          from   suppressed_users
          where  digest = sha256(convert_to(user_id, 'UTF8'))) is null
order    by event_id, ctid
on conflict (event_id) do nothing;

-- name: ingest_delete_suppressed
-- The others, which the trigger leaves out and counts.
select set_config('analytics.suppressed', '', true);
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     staging
where    (select true
          from   suppressed_users
          where  digest = sha256(convert_to(user_id, 'UTF8')))
order    by event_id, ctid
on conflict (event_id) do nothing;

-- name: ingest_has_long_list
-- Whether the trigger for suppressed users has to look at more than one event in three.
select exists (select from suppressed_users offset 1700);

-- name: ingest_own_id
-- By which what this transaction stores can be known afterwards.
select pg_current_xact_id()::text;

-- name: ingest_stored_before
-- Of the batch, what earlier tries have stored whose commit was not answered.
select count(*)
from   events
where  event_id in (select event_id from staging)
and    ingested_xid = any (%s::text[]::xid8[]);

-- name: ingest_broken
-- Which of the staged batch break which constraint of events, the first of each.
select   place, broken
from     (select row_number() over (order by ctid) - 1 as place,
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
                 end as broken
          from   staging) as measured
where    broken is not null
order by place;

-- name: ingest_checked
-- What events takes, this takes: a batch is read into it to learn which of its events is at fault.
create temporary table checked
    (like event_checks including defaults including constraints)
    on commit drop;

-- name: ingest_check
copy checked (event_id, user_id, event_name, occurred_at, properties)
from stdin (encoding 'utf8');

-- name: ingest_suppressed
-- Rows of the batch whose users are suppressed. Whoever has inserted holds a lock that keeps the list as
-- it was.
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
