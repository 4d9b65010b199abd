-- name: suppression_missing
-- The digests, of those in the parameter, that are not on the denylist.
select digest
from   unnest(%(digests)s::bytea[]) as digest
where  not exists (select from suppressed_users where suppressed_users.digest = digest.digest);

-- name: suppression_lock
-- When this lock is granted, no transaction is writing events. New writers wait for it.
set local lock_timeout = %(lock_timeout_ms)s;
lock table events in share row exclusive mode;

-- name: suppression_add
insert into suppressed_users (digest)
select unnest(%(digests)s::bytea[])
on conflict do nothing;

-- name: suppression_remove
delete from suppressed_users where digest = any(%(digests)s::bytea[]);

-- name: suppression_state
-- The number of digests, and the arguments of the trigger function.
select (select count(*) from suppressed_users),
       pg_current_xact_id()::text,
       system_identifier::text
from   pg_control_system();

-- name: suppression_count
select count(*), min(since) from suppressed_users;

-- name: suppression_prefilter
-- The first 12 bits of each digest.
select distinct (get_byte(digest, 0) << 4) | (get_byte(digest, 1) >> 4) from suppressed_users;

-- name: suppression_enable
-- The function looks up the denylist, which costs ten times as much as the prefilter: so it is called only
-- for events whose users may be on it, and not if the whole batch was looked up before.
create or replace trigger events_suppressed
    before insert on events
    for each row when (
        current_setting('analytics.suppressed', true) is distinct from 'none'
        and get_bit(%(prefilter)s, ('x' || left(encode(sha256(
            convert_to(new.user_id, 'UTF8')), 'hex'), 3))::bit(12)::int) = 1
    )
    execute function leave_out_suppressed_event(%(xid)s, %(cluster)s);

-- name: suppression_disable
drop trigger if exists events_suppressed on events;
