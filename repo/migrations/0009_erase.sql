-- A user is erased with all that was made of their events. What is left is a receipt, which names nobody:
-- its proof is the digest of a salt, which stands on the printed receipt alone, and the user's id.
create table erasures (
    number         bigint      generated always as identity primary key,
    erasure_id     uuid        not null unique,
    erased_at      timestamptz not null default now(),
    proof          bytea       not null,
    events         bigint      not null,
    slots          integer     not null,
    spans          integer     not null,
    days           integer     not null,
    first_month    date,
    last_month     date,
    suppressed     boolean     not null,
    unknown_before timestamptz,

    constraint erasures_proof_is_sha256
        check (octet_length(proof) = 32)
);

comment on table erasures is 'Receipts. The last one is part of the keys of answers that are kept';
comment on column erasures.proof is 'SHA-256 of the salt on the receipt, as it is printed, and the user id';
comment on column erasures.unknown_before is
    'Events before were dropped already: their users forgot this one, their counts stay';

-- Ordinals of erased users are not given again.
create table erased_ordinals (
    is_only_row boolean not null primary key default true check (is_only_row),
    highest     integer not null
);

insert into erased_ordinals (highest) values (0);

-- Users whose events are not to come back, by digests of their ids.
create table suppressed_users (
    digest bytea       not null primary key,
    since  timestamptz not null default now(),

    constraint suppressed_users_digest_is_sha256
        check (octet_length(digest) = 32)
);

comment on table suppressed_users is 'SHA-256 of user ids; a trigger on events leaves theirs out';

-- Of a trigger that is there for as long as anybody is on the list. Its arguments are the transaction
-- that put somebody there last, and its cluster: a writer whose snapshot is older cannot see the list.
create function leave_out_suppressed_event() returns trigger language plpgsql security definer as $$
begin
    if not pg_visible_in_snapshot(tg_argv[0]::xid8, pg_current_snapshot())
       and tg_argv[1] = (select system_identifier::text from pg_control_system()) then
        raise exception 'users were suppressed after this transaction began'
            using errcode = 'serialization_failure', hint = 'Begin the transaction anew.';
    end if;
    if exists (select
               from   suppressed_users
               where  digest = sha256(convert_to(new.user_id, 'UTF8'))) then
        insert into refused_events (reason) values ('suppressed');
        return null;
    end if;
    return new;
end
$$;

-- As its owner, so that whoever may insert events needs no right to the list; and with tables that
-- nobody else can put others before.
do $$
begin
    execute format('alter function leave_out_suppressed_event() '
                   'set search_path = pg_catalog, %I, pg_temp', current_schema());
end
$$;
