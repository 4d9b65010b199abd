-- name: status_begin
-- One read-only snapshot for all checks, with short timeouts.
begin isolation level repeatable read read only;
set local statement_timeout = '5s';
set local lock_timeout = '1s';

-- name: status_server
select current_setting('server_version'),
       current_database(),
       current_user::text,
       now(),
       extract(epoch from case when pg_is_in_recovery()
                               then now() - pg_last_xact_replay_timestamp() end)::float8;

-- name: status_sessions
-- Which commands of this installation are connected, by the names of their sessions, which every role
-- may read; a tag of the schema follows the name.
select   split_part(application_name, ' ', 1), count(*)
from     pg_stat_activity
where    datname = current_database()
and      application_name like 'analytics-%'
and      split_part(application_name, ' ', 2) = split_part(current_setting('application_name'), ' ', 2)
and      pid <> pg_backend_pid()
group by 1;

-- name: status_fold
-- The last fold of the current generation, seconds since then, and the number of generations that are being
-- built.
select nullif(max(folded_at) filter (where is_current), '-infinity'),
       extract(epoch from now() - nullif(max(folded_at) filter (where is_current), '-infinity'))::float8,
       count(*) filter (where not is_current)
from   fold_state
where  cluster = (select system_identifier from pg_control_system());

-- name: status_future_events
-- Future events: their number, and the first and last time.
select count(*), min(occurred_at), max(occurred_at)
from   future_events
join   fold_state using (generation)
where  is_current
and    occurred_at >= folded_at;

-- name: status_daily_stats
-- Seconds since daily statistics were last written.
select extract(epoch from now() - max(counted_at))::float8 from day_users;

-- name: status_catalogue
-- Seconds since properties were counted; null if there are no counts.
select max(extract(epoch from now() - counted_at))::float8 from catalogue_counts;

-- name: status_keys
-- The number of keys by state and scope. A key may have several scopes.
select count(*) filter (where works),
       count(*) filter (where works and 'read' = any(scopes)),
       count(*) filter (where works and 'write' = any(scopes)),
       count(*) filter (where works and 'admin' = any(scopes)),
       count(*) filter (where revoked_at is not null),
       count(*) filter (where revoked_at is null and not works)
from   (select scopes,
               revoked_at,
               revoked_at is null and (ends_at is null or ends_at > now()) as works
        from   api_keys) as keys;

-- name: status_keys_used
select max(last_used_at) from api_keys;

-- name: status_has_expired_events
-- Whether events before the horizon are still stored.
select exists (select
               from   events
               where  occurred_at < (select horizon from retention));

-- name: status_sizes
select   part, sum(table_bytes + index_bytes)::bigint
from     storage
group by part
order by part;

-- name: status_adopted_tables
-- Each adopted table: whether it is released, whether it exists, whether its trigger is enabled (null: there is
-- none), the pages that are not copied yet, and the rejected rows.
select   table_name,
         released_at is not null,
         to_regclass(table_name) is not null,
         (select bool_and(tgenabled::text in ('O', 'A'))
          from   pg_trigger
          join   pg_proc p on p.oid = tgfoid
          where  proname = 'adopted_rows_' || adoption_id
          and    pronamespace = (select relnamespace from pg_class where oid = 'events'::regclass)),
         coalesce((select sum(pages - least(copied, pages))
                   from   adopted_parts
                   where  adopted_parts.adoption_id = adopted_tables.adoption_id), 0)::bigint,
         (select count(*)
          from   rejected_rows
          where  rejected_rows.adoption_id = adopted_tables.adoption_id)
from     adopted_tables
order by table_name;
