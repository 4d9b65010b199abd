-- Keys of web pages, which anybody can read: they only write, from pages of these origins, at this rate.

alter table api_keys
    add column origins text[]  not null default '{}',
    add column rate    integer,
    add constraint api_keys_rate_is_positive
        check (rate > 0),
    add constraint api_keys_of_origins_only_write
        check (origins = '{}' or scopes = '{write}');

comment on column api_keys.origins is 'Only pages of these origins may use the key; empty: no limit';
comment on column api_keys.rate is 'Requests per second; null: as set for all keys';
