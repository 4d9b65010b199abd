-- A revoked key stays revoked, whatever a clock shows later. Keys that ended before were revoked, or are
-- at the end of their grace: which of both is not known, and none is to come back.
alter table api_keys add column revoked_at timestamptz;

comment on column api_keys.revoked_at is 'When the key was revoked, after which it never works; null: it was not';

update api_keys set revoked_at = ends_at where ends_at <= now();
