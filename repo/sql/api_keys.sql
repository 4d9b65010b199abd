-- name: api_keys_active
-- Keys that work now. The clock may be set back, which brings no revoked one back. Names are in the
-- order in which they were first created: rotation gives a name a new key and does not move it.
with keys as (
    select key_id, name, digest, scopes, revoked_at, ends_at,
           min(key_id) over (partition by name) as first_id
    from   api_keys
)
select   key_id, name, digest, scopes
from     keys
where    revoked_at is null
and      (ends_at is null or ends_at > now())
order by first_id, key_id;

-- name: api_keys_ever
-- Whether there ever was a key: those that ended stay.
select exists (select from api_keys);

-- name: api_keys_all
-- Keys that work and keys that worked, by name, the newest first.
select   name, hint, scopes, created_at, ends_at, last_used_at
from     api_keys
order    by name, key_id desc;

-- name: api_keys_insert
insert into api_keys (name, digest, hint, scopes)
values (%(name)s, %(digest)s, %(hint)s, %(scopes)s);

-- name: api_keys_insert_first
-- Who comes at the same moment waits, and has come second.
insert into api_keys (name, digest, hint, scopes)
select %(name)s, %(digest)s, %(hint)s, %(scopes)s
where  not exists (select from api_keys)
on     conflict do nothing;

-- name: api_keys_end
-- The key of a name goes on for a while, or is revoked now.
update api_keys
set    ends_at = now() + %(grace)s,
       revoked_at = case when %(grace)s <= interval '0' then now() end
where  name = %(name)s
and    ends_at is null
returning scopes;

-- name: api_keys_revoke
-- Also those that were about to end, or have ended. Whether one of them worked.
with revoked as (
    update api_keys
    set    revoked_at = now(), ends_at = least(ends_at, now())
    where  name = %(name)s
    and    revoked_at is null
    returning key_id
)
select exists (
    select
    from   revoked
    join   api_keys before_now using (key_id)
    where  ends_at is null or ends_at > now()
);

-- name: api_keys_used
update api_keys
set    last_used_at = greatest(last_used_at, to_timestamp(used.at))
from   unnest(%(key_ids)s::bigint[], %(moments)s::float8[]) as used (key_id, at)
where  api_keys.key_id = used.key_id;
