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
-- In the order of ids, so that two writers never wait for each other; the first of an id counts.
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     staging
order    by event_id, ctid
on conflict (event_id) do nothing;

-- name: ingest_is_empty
select not exists (select from events)
       and not exists (select from retention where horizon is not null);
