-- Keys of callers. A secret is shown once and kept as its SHA-256: it is 256 random bits.
create table api_keys (
    key_id       bigint      generated always as identity primary key,
    name         text        not null,
    digest       bytea       not null unique,
    hint         text        not null,
    scopes       text[]      not null,
    created_at   timestamptz not null default now(),
    ends_at      timestamptz,
    last_used_at timestamptz,

    constraint api_keys_name_is_short
        check (octet_length(name) between 1 and 100),
    constraint api_keys_digest_is_sha256
        check (octet_length(digest) = 32),
    constraint api_keys_scopes_are_known
        check (cardinality(scopes) > 0 and scopes <@ '{read,write,admin}'::text[])
);

comment on column api_keys.hint is 'The first characters of the secret, to tell keys apart';
comment on column api_keys.ends_at is 'When the key ceases to work; null: never';

-- A name has one key that goes on; those that it replaces may end a little later.
create unique index api_keys_name on api_keys (name) where ends_at is null;
