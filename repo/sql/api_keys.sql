-- name: api_keys_active
-- Active keys. A revoked key stays revoked if the clock is set back. Names are in the order of their first
-- key: rotation gives a name a new key and does not move it.
with keys as (
    select key_id, name, digest, scopes, origins, rate, revoked_at, ends_at,
           min(key_id) over (partition by name) as first_id
    from   api_keys
)
select   key_id, name, digest, scopes, origins, rate
from     keys
where    revoked_at is null
and      (ends_at is null or ends_at > now())
order by first_id, key_id;

-- name: api_keys_ever
-- Whether a key was ever created. Rows of expired and revoked keys are never deleted.
select exists (select from api_keys);

-- name: api_keys_all
-- All keys, active or not, by name, the newest first.
select   name, hint, scopes, created_at, ends_at, last_used_at, rate, origins
from     api_keys
order    by name, key_id desc;

-- name: api_keys_insert
insert into api_keys (name, digest, hint, scopes, origins, rate)
values (%(name)s, %(digest)s, %(hint)s, %(scopes)s, %(origins)s, %(rate)s);

-- name: api_keys_insert_first
-- A concurrent insert waits for this one and then inserts nothing.
insert into api_keys (name, digest, hint, scopes)
select %(name)s, %(digest)s, %(hint)s, %(scopes)s
where  not exists (select from api_keys)
on     conflict do nothing;

-- name: api_keys_end
-- The key of a name expires after a grace period, or is revoked now if that is 0.
update api_keys
set    ends_at = now() + %(grace_period)s,
       revoked_at = case when %(grace_period)s <= interval '0' then now() end
where  name = %(name)s
and    ends_at is null
returning scopes, origins, rate;

-- name: api_keys_revoke
-- Revokes all keys of a name, expired ones too, and returns whether any of them was active.
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
    join   api_keys before_update using (key_id)
    where  ends_at is null or ends_at > now()
);

-- name: api_keys_used
update api_keys
set    last_used_at = greatest(last_used_at, to_timestamp(used.used_at))
from   unnest(%(key_ids)s::bigint[], %(used_at)s::float8[]) as used (key_id, used_at)
where  api_keys.key_id = used.key_id;
