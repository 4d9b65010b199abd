-- name: suppression_missing
-- Those that are not on the list.
select digest
from   unnest(%(digests)s::bytea[]) as digest
where  not exists (select from suppressed_users where suppressed_users.digest = digest.digest);

-- name: suppression_lock
-- Once it is had nobody is in the middle of writing events. Whoever begins to write waits behind it.
set local lock_timeout = %(patience_ms)s;
lock table events in share row exclusive mode;

-- name: suppression_add
insert into suppressed_users (digest)
select unnest(%(digests)s::bytea[])
on conflict do nothing;

-- name: suppression_remove
delete from suppressed_users where digest = any(%(digests)s::bytea[]);

-- name: suppression_state
-- How many are on the list, and what its trigger is told.
select (select count(*) from suppressed_users),
       pg_current_xact_id()::text,
       system_identifier::text
from   pg_control_system();

-- name: suppression_count
select count(*), min(since) from suppressed_users;

-- name: suppression_prefilter
-- Digests by their first 12 bits.
select distinct (get_byte(digest, 0) << 4) | (get_byte(digest, 1) >> 4) from suppressed_users;

-- name: suppression_enable
-- Only of events whose users may be on the list the list is asked, since that costs ten times as much;
-- and of none where the whole batch was looked up before.
create or replace trigger events_suppressed
    before insert on events
    for each row when (
        current_setting('analytics.suppressed', true) is distinct from 'none'
        and get_bit(%(sieve)s, ('x' || left(encode(sha256(
            convert_to(new.user_id, 'UTF8')), 'hex'), 3))::bit(12)::int) = 1
    )
    execute function leave_out_suppressed_event(%(xid)s, %(cluster)s);

-- name: suppression_disable
drop trigger if exists events_suppressed on events;
