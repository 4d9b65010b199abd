-- Statements of version 0.1.0 that use the table names of that version.

-- name: fold_take_ripe
delete from ahead
where  generation = %(generation)s
and    occurred_at < %(until)s
returning '00000000-0000-0000-0000-000000000000'::uuid as event_id, occurred_at, event_name, user_id

-- name: fold_ripe_until
select   occurred_at + interval '1 microsecond'
from     ahead
where    generation = %(generation)s
and      occurred_at < %(until)s
order    by occurred_at
limit    1
offset   %(most)s - 1;

-- name: fold_users_each
left   join lateral (
    select ordinal from users where users.user_id = source.user_id offset 0
) as known on true

-- name: fold_batch
copy (
    with waiting as ({source}),
    source as (
        select event_id, occurred_at, event_name, user_id from waiting
        union  all
        select null, null, null, null from generate_series(1, 500000) where (select false)
    ),
    taken as materialized (
        select occurred_at, name_id, ordinal, event_id, event_name, source.user_id
        from   source
        left   join event_names using (event_name)
        {users}
    ),
    early as (
        insert into ahead (generation, occurred_at, event_name, user_id)
        select %(generation)s, occurred_at, event_name, user_id
        from   taken
        where  occurred_at >= %(until)s
    ),
    new_names as (
        insert into event_names (event_name, name_id)
        select event_name, (select coalesce(max(name_id), 0) from event_names) + row_number() over ()
        from   (select distinct event_name
                from   taken
                where  name_id is null
                and    occurred_at < %(until)s) as unknown
        returning event_name, name_id
    ),
    new_users as (
        insert into users (user_id, ordinal)
        select user_id,
               greatest((select coalesce(max(ordinal), 0) from users),
                        (select highest from erased_ordinals))
               + row_number() over ()
        from   (select distinct user_id
                from   taken
                where  ordinal is null
                and    user_id <> ''
                and    occurred_at < %(until)s) as unknown
        returning user_id, ordinal
    )
    select occurred_at,
           coalesce(taken.name_id, new_names.name_id, 0),
           coalesce(taken.ordinal, new_users.ordinal, 0),
           event_id
    from   taken
    left   join new_names using (event_name)
    left   join new_users using (user_id)
) to stdout (format binary);

-- name: fold_forget
delete from slots where generation <> %(generation)s;
delete from spans where generation <> %(generation)s;
delete from sealed_spans where generation <> %(generation)s;
delete from ahead where generation <> %(generation)s;
delete from fold_state where generation <> %(generation)s;

-- name: erase_forget_others
with gone as (
    delete from fold_state
    where  cluster <> (select system_identifier from pg_control_system())
    returning generation
),
slots_of_gone as (
    delete from slots where generation in (select generation from gone)
),
spans_of_gone as (
    delete from spans where generation in (select generation from gone)
),
sealed_of_gone as (
    delete from sealed_spans where generation in (select generation from gone)
)
delete from ahead where generation in (select generation from gone);

-- name: erase_ahead
delete from ahead where user_id = %(user_id)s;

-- name: numbers_mark
insert into numbers_due (zone, day)
select %(zone)s, unnest(%(days)s::date[])
on conflict do nothing;

-- name: numbers_settled
select day from day_users where zone = %(zone)s and counted_at >= ends_at
union  all
select day from numbers_due where zone = %(zone)s;

-- name: numbers_forget
delete from day_events where zone <> all(%(zones)s);
delete from day_users where zone <> all(%(zones)s);
delete from numbers_due where zone <> all(%(zones)s);

-- name: numbers_take
with postponed as (
    select * from unnest(%(zones)s::text[], %(days)s::date[]) as postponed (zone, day)
),
due as (
    select zone, day from numbers_due
    except
    select zone, day from postponed
),
first as (
    select   zone, day
    from     due
    order by zone in (select zone from postponed), zone, day
    limit    1
)
delete from numbers_due
using  first, due
where  numbers_due.zone = first.zone
and    numbers_due.day < first.day + %(most)s
and    due.zone = numbers_due.zone
and    due.day = numbers_due.day
returning numbers_due.zone, numbers_due.day;

-- name: numbers_count_due
select count(*)
from   numbers_due
where  (zone, day) not in (select * from unnest(%(zones)s::text[], %(days)s::date[]));

-- name: numbers_done
delete from numbers_due where zone = %(zone)s and day = any(%(days)s::date[]);

-- name: numbers_users
insert into day_users (zone, day, starts_at, ends_at, events, dau, wau, mau, new_users, counted_at)
select %(zone)s, day, starts_at, ends_at, events, dau, wau, mau, new_users, %(counted_at)s
from   unnest(%(days)s::date[], %(starts)s::timestamptz[], %(ends)s::timestamptz[],
              %(events)s::bigint[], %(dau)s::int[], %(wau)s::int[], %(mau)s::int[], %(new)s::int[])
       as counted (day, starts_at, ends_at, events, dau, wau, mau, new_users)
on conflict (zone, day)
do update set starts_at = excluded.starts_at, ends_at = excluded.ends_at, events = excluded.events,
              dau = excluded.dau, wau = excluded.wau, mau = excluded.mau,
              new_users = excluded.new_users, counted_at = excluded.counted_at;

-- name: telling_add
insert into untold_events (name_id, events)
select name_id, events
from   unnest(%(name_ids)s::int[], %(events)s::bigint[]) as counted (name_id, events)
on conflict (name_id)
do update set events = untold_events.events + excluded.events;

-- name: telling_add_missed
with since as (
    select snapshot, sweeping_to, swept_until, swept_id
    from   fold_state
    where  is_current
    and    cluster = (select system_identifier from pg_control_system())
    union  all
    select begun, '3:3:', '-infinity', '00000000-0000-0000-0000-000000000000'
    from   fold_state
    where  generation = %(generation)s
    and    exists (select
                   from   fold_state
                   where  is_current
                   and    cluster <> (select system_identifier from pg_control_system()))
),
missed as (
    select event_name
    from   since
    join   events on (ingested_xid >= pg_snapshot_xmax(snapshot)
                      or ingested_xid = any(array(select pg_snapshot_xip(snapshot))))
                 and not ((occurred_at, event_id) <= (swept_until, swept_id)
                          and pg_visible_in_snapshot(ingested_xid, sweeping_to))
    where  occurred_at < %(until)s
    and    occurred_at >= coalesce((select horizon from retention), '-infinity')
    union  all
    select event_name
    from   ahead
    join   fold_state using (generation)
    where  is_current
    and    occurred_at < %(until)s
)
insert into untold_events (name_id, events)
select name_id, count(*)
from   missed
join   event_names using (event_name)
group  by name_id
on conflict (name_id)
do update set events = untold_events.events + excluded.events;

-- name: telling_take
with told as (
    delete from untold_events
    returning name_id, events
)
select   case when event_name = any(%(names)s) then event_name else %(other)s end as label,
         sum(events)::bigint
from     told
join     event_names using (name_id)
group    by label;

-- name: retain_is_counted
select (select count(*) from fold_state) = 1
       and not exists (select
                       from   unnest(%(firsts)s::xid8[], %(untils)s::xid8[],
                                     %(swept_untils)s::timestamptz[], %(swept_ids)s::uuid[])
                              as over (first, until, swept_until, swept_id)
                       cross  join lateral (
                           select occurred_at
                           from   events
                           where  ingested_xid >= first
                           and    ingested_xid < over.until
                           and    (occurred_at, event_id) > (swept_until, swept_id)
                           and    occurred_at < %(until)s
                           order  by ingested_xid
                           limit  1
                       ) as recent)
       and not exists (select
                       from   ahead
                       where  generation = %(generation)s
                       and    occurred_at < %(until)s);

-- name: statistics_settle
do $$
declare
    held record;
    has_rows boolean;
    is_superuser constant boolean := (select rolsuper from pg_roles where rolname = current_user);
begin
    for held in
        select nspname as schema, relname as "table", attname as "column", attrelid, attnum,
               format_type(atttypid, atttypmod) as type,
               attstattarget is distinct from 0 as is_sampled,
               exists (select
                       from   pg_stats s
                       where  (s.schemaname, s.tablename, s.attname) = (nspname, relname, a.attname)
                      ) as has_samples
        from   (values ('events', '{event_id, user_id, properties}'),
                       ('users', '{user_id}'),
                       ('ahead', '{user_id}'),
                       ('slots', '{users}'),
                       ('spans', '{users}'),
                       ('suppressed_users', '{digest}'),
                       ('erasures', '{erasure_id, proof}'),
                       ('rejected_rows', '{key}')) as personal ("table", columns)
        join   pg_class c on c.oid = to_regclass("table")
        join   pg_namespace n on n.oid = relnamespace
        join   pg_attribute a on attrelid = c.oid and attname = any(columns::name[])
    loop
        if held.is_sampled then
            execute format('alter table %I alter %I set statistics 0', held."table", held."column");
        end if;
        if not held.has_samples then
            continue;
        elsif current_setting('server_version_num')::int >= 180000 then
            perform pg_clear_attribute_stats(held.schema, held."table", held."column", false);
            continue;
        elsif is_superuser then
            delete from pg_statistic where starelid = held.attrelid and staattnum = held.attnum;
            continue;
        end if;
        execute format('select exists (select from %I)', held."table") into has_rows;
        if has_rows then
            execute format('alter table %I alter %I set statistics 1', held."table", held."column");
            execute format('analyze %I (%I)', held."table", held."column");
            execute format('alter table %I alter %I set statistics 0', held."table", held."column");
        else
            execute format('alter table %I alter %I type %s', held."table", held."column", held.type);
        end if;
    end loop;
end
$$;

-- name: verify_zones
select   zone, min(day), max(day)
from     (select zone, day from day_users
          union  all
          select zone, day from day_events
          union  all
          select zone, day from numbers_due
          union  all
          select unnest(%(declared)s::text[]), null) as days
group    by zone
order    by zone;
