-- name: ingest_staging
-- Where a batch waits until it is known which of its events are new.
create temporary table if not exists staging (
    event_id    uuid,
    user_id     text,
    event_name  text,
    occurred_at timestamptz,
    properties  jsonb
) on commit delete rows;

-- name: ingest_copy
copy staging (event_id, user_id, event_name, occurred_at, properties) from stdin;

-- name: ingest_insert
-- In the order of ids, so that two writers never wait for each other; the first of an id counts.
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     staging
order    by event_id, ctid
on conflict (event_id) do nothing;

-- name: ingest_suppressed
-- Rows of the batch that the trigger for suppressed users left out. Whoever has inserted holds a lock
-- that keeps the list as it was.
select count(*)
from   staging
where  exists (select from suppressed_users)
and    user_id <> ''
and    exists (select
               from   suppressed_users
               where  digest = sha256(convert_to(user_id, 'UTF8')));

-- name: ingest_is_empty
select not exists (select from events);
