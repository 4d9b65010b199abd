-- name: api_keys_active
-- Keys that work now.
select key_id, name, digest, scopes
from   api_keys
where  ends_at is null or ends_at > now();

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
-- The key of a name goes on for a while, or ends now.
update api_keys
set    ends_at = now() + %(grace)s
where  name = %(name)s
and    ends_at is null
returning scopes;

-- name: api_keys_end_all
-- Also those that were about to end.
update api_keys
set    ends_at = now()
where  name = %(name)s
and    (ends_at is null or ends_at > now());

-- name: api_keys_used
update api_keys
set    last_used_at = greatest(last_used_at, to_timestamp(used.at))
from   unnest(%(key_ids)s::bigint[], %(moments)s::float8[]) as used (key_id, at)
where  api_keys.key_id = used.key_id;
