-- name: adopt_table
-- What is called so, with its schema before it or not: then it is that of `public`, else one that is
-- neither PostgreSQL's nor ours.
with called as (
    select c.oid, nspname, relname, relkind::text as kind, relispartition,
           case when nspname || '.' || relname = %(name)s then 1
                when nspname = 'public' then 2
                else 3
           end as rank
    from   pg_class c
    join   pg_namespace n on n.oid = relnamespace
    where  relkind in ('r', 'p', 'v', 'm', 'f')
    and    (nspname || '.' || relname = %(name)s
            or relname = %(name)s
               and (nspname = 'public'
                    or nspname not in (current_schema(), 'pg_catalog', 'information_schema')
                       and nspname !~ '^pg_(temp|toast)'))
)
select oid, nspname, relname, kind, relispartition,
       exists (select from pg_inherits where inhparent = oid) as has_children,
       has_table_privilege(oid, 'select') as may_read,
       has_table_privilege(oid, 'trigger') as may_trigger,
       row_security_active(oid) as is_filtered,
       oid = to_regclass('events') as is_events
from   called
where  rank = (select min(rank) from called)
order  by oid
limit  2;

-- name: adopt_columns
-- With the type that a domain is made of.
with recursive types as (
    select attnum, attname, attgenerated::text as generated, atttypid as declared, atttypid as type
    from   pg_attribute
    where  attrelid = %(oid)s
    and    attnum > 0
    and    not attisdropped
    union  all
    select attnum, attname, generated, declared, typbasetype
    from   types
    join   pg_type t on t.oid = type
    where  typtype = 'd'
)
select   attname, generated, format('%%I.%%I', n.nspname, d.typname), format_type(d.oid, null),
         t.typname, t.typcategory::text
from     types
join     pg_type t on t.oid = type
join     pg_type d on d.oid = declared
join     pg_namespace n on n.oid = d.typnamespace
where    t.typtype <> 'd'
order    by attnum;

-- name: adopt_key
-- The columns of the primary key, in its order.
select   attname
from     pg_index
cross    join unnest(indkey::int2[]) with ordinality as k (attnum, place)
join     pg_attribute a on attrelid = indrelid and a.attnum = k.attnum
where    indrelid = %(oid)s
and      indisprimary
and      place <= indnkeyatts
order    by place;

-- name: adopt_size
-- About how many rows there are, and bytes.
select coalesce(sum(greatest(reltuples, 0)), 0)::bigint, coalesce(sum(pg_table_size(oid)), 0)::bigint
from   pg_class
where  relkind = 'r'
and    (oid = %(oid)s or oid in (select relid from pg_partition_tree(%(oid)s)));

-- name: adopt_home
-- The schema of our tables.
select nspname
from   pg_class c
join   pg_namespace n on n.oid = relnamespace
where  c.oid = 'events'::regclass;

-- name: adopt_known_as
-- What the table was called when it was adopted; its name where it never was.
select coalesce(
    (select table_name
     from   pg_trigger
     join   pg_proc p on p.oid = tgfoid
     join   pg_namespace n on n.oid = pronamespace and nspname = current_schema()
     join   adopted_tables on proname = 'adopted_rows_' || adoption_id
     where  tgrelid = %(oid)s),
    format('%%I.%%I', %(schema)s::text, %(name)s::text)
);

-- name: adopt_find
select adoption_id, fields, released_at is not null
from   adopted_tables
where  table_name = %(known_as)s;

-- name: adopt_remember
-- The row is locked until the end: two who adopt the same table take turns.
insert into adopted_tables (table_name, fields)
values (%(known_as)s, %(fields)s)
on conflict (table_name) do update set table_name = excluded.table_name
returning adoption_id, fields, released_at is not null;

-- name: adopt_change
update adopted_tables
set    fields = %(fields)s, released_at = null
where  adoption_id = %(adoption_id)s;

-- name: adopt_delete_parts
delete from adopted_parts where adoption_id = %(adoption_id)s;

-- name: adopt_trigger_state
-- `O` and `A`: it fires.
select tgenabled::text in ('O', 'A')
from   pg_trigger
join   pg_proc p on p.oid = tgfoid
join   pg_namespace n on n.oid = pronamespace and nspname = current_schema()
where  tgrelid = %(oid)s
and    proname ~ '^adopted_rows_\d+$';

-- name: adopt_holders
-- Whose transactions hold the table, the longest first.
select   pid, extract(epoch from now() - xact_start)::int
from     pg_locks
join     pg_stat_activity using (pid)
where    relation = %(oid)s
and      locktype = 'relation'
and      granted
and      pid <> pg_backend_pid()
order    by xact_start
limit    1;

-- name: adopt_mapped
-- The rows of a table as events, each with the reason why it cannot be one, if there is any. No
-- expression here may fail, whatever a row holds: it would fail the platform's transaction.
select key, event_id, user_id, event_name, occurred_at, properties,
       case
           when event_id is null then 'event_id is missing'
           when event_name is null or event_name = '' then 'event_name is missing'
           when octet_length(event_name) > 200 then 'event_name must be at most 200 bytes long'
           when octet_length(user_id) > 256 then 'user_id must be at most 256 bytes long'
           when not has_moment then 'occurred_at is missing'
           when occurred_at is null
             or occurred_at < '2000-01-01 00:00:00+00' or occurred_at >= '2100-01-01 00:00:00+00'
           then 'occurred_at must be within the years 2000 to 2099'
           when jsonb_typeof(properties) <> 'object' then 'properties must be an object'
           when octet_length(properties::text) >= 65536
           then 'properties must be an object of less than 64 kB'
           when repeats then 'properties must not have a key twice'
           when conflict is not null
           then 'properties must not have another value than the column ' || conflict
           when octet_length(properties::text) > 308
            and strpos(translate(properties::text, '123456789', '000000000'), repeat('0', 309)) > 0
            and jsonb_path_exists(
                properties,
                '$.** ? (@.type() == "number" && (@ > 1.797693134862315807e308
                                                  || @ < -1.797693134862315807e308))',
                '{{}}', true)
           then 'properties must not hold numbers beyond 1.8e308'
       end as reason
from   (
    select {key} as key, {event_id} as event_id, {occurred_at} as occurred_at,
           coalesce({user_id}, '') collate "C" as user_id, {event_name} collate "C" as event_name,
           {moment} is not null as has_moment, {properties} as properties,
           {repeats} as repeats, {conflict} as conflict
    from   {rows} r
    offset 0  -- each expression is computed once
) computed

-- name: adopt_repeats
-- Whether a key comes twice in a text of JSON: jsonb keeps the last of them, and so has fewer colons.
-- In the text they may be escaped, which is told from a backslash and `u003a` when pairs of backslashes
-- are removed.
(
    select length(plain) - length(replace(plain, ':', ''))
        <> length(kept) - length(replace(kept, ':', ''))
    from   (
        select replace(replace(replace({text}, repeat(chr(92), 2), ''),
                               chr(92) || 'u003a', ':'), chr(92) || 'u003A', ':') as plain,
               {read}::text as kept
        offset 0  -- each is computed once
    ) texts
)

-- name: adopt_conflict
-- The first column whose property is in the mapped properties as well, with another value.
(
    select   key
    from     jsonb_each({built}) as built (key, value)
    where    {given} ? key
    and      {given} -> key is distinct from value
    order by key
    limit    1
)

-- name: adopt_instant
-- A local time as an instant: from each of the times on another offset applies.
({local} - ({offsets})[1 + width_bucket({local}, {times})]) at time zone 'UTC'

-- name: adopt_local_function
-- What the trigger reads local times with: when rules of zones change it is replaced.
create or replace function {function}(timestamp) returns timestamptz
language sql immutable
as {body};
comment on function {function}(timestamp) is {rules};
revoke all on function {function}(timestamp) from public;

-- name: adopt_may_renew
-- False for a writer that only stores events: adopted tables are their owner's.
select has_table_privilege('adopted_tables', 'select, update');

-- name: adopt_stale_rules
-- Functions of other rules, where this session may replace them.
select table_name, adoption_id, nspname, fields ->> 'tz'
from   adopted_tables
join   pg_proc p on proname = 'adopted_moment_' || adoption_id
join   pg_namespace n on n.oid = pronamespace and nspname = current_schema()
where  obj_description(p.oid, 'pg_proc') is distinct from %(rules)s
and    pg_has_role(proowner, 'usage')
for    update of adopted_tables;

-- name: adopt_adjusted
-- Rows of hours that clocks show twice, or leave out: a change of clocks concerns times before the one
-- from which on its offset applies, for as long as it moves clocks.
select   case when offset_now > offset_next then 'repeated' else 'skipped' end, count(*)
from     (
    select {local}::timestamp as local, ({times})[place] as change,
           ({offsets})[place] as offset_now, ({offsets})[place + 1] as offset_next
    from   {rows} r
    cross  join lateral (select 1 + width_bucket({local}::timestamp, {times}) as place) found
    where  {in_range}
) changes
where    local >= change - greatest(offset_now - offset_next, offset_next - offset_now)
group    by 1
order    by 1;

-- name: adopt_body
-- What the trigger does. The first look only reads, and a subtransaction that only reads gets no id:
-- it costs other sessions nothing. It fails where a column has gone or changed its type.
declare
    is_same boolean;
    is_rejected boolean;
begin
    begin
        select {shape} into is_same from {rows} r limit 1;
    exception when others then
        is_same := false;
    end;
    if is_same then
        with given as materialized ({mapped}),
        taken as (
            insert into {events} (event_id, user_id, event_name, occurred_at, properties)
            select   event_id, user_id, event_name, occurred_at, properties
            from     given
            where    reason is null
            order    by event_id
            on conflict (event_id) do nothing
        )
        select coalesce(bool_or(reason is not null), false) into is_rejected from given;
        if is_rejected then
            insert into {rejected} (adoption_id, key, reason)
            select {adoption_id}, coalesce(left(key, 200), ''), reason
            from   ({mapped}) given
            where  reason is not null
            and    (select pg_relation_size({rejected_name}::regclass)) < {most_bytes}
            limit  {most_rows};
        end if;
    elsif not is_same then
        insert into {rejected} (adoption_id, key, reason)
        select {adoption_id}, '', 'the columns of the table are others than when it was adopted'
        where  pg_relation_size({rejected_name}::regclass) < {most_bytes};
    end if;
    return null;
end

-- name: adopt_function
create or replace function {function}() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as {body};
revoke all on function {function}() from public;

-- name: adopt_trigger_statement
create trigger {trigger} after insert on {table}
referencing new table as arriving
for each statement execute function {function}();

-- name: adopt_trigger_row
create trigger {trigger} after insert on {table}
for each row execute function {function}();

-- name: adopt_disable_trigger
-- From now on the trigger does nothing; this takes no lock of the table.
create or replace function {function}() returns trigger
language plpgsql as 'begin return null; end';

-- name: adopt_drop
-- With the triggers that call it, for which one must own it and not the table.
drop function if exists {function}() cascade;
drop function if exists {local}(timestamp);

-- name: adopt_released
update adopted_tables set released_at = now() where adoption_id = %(adoption_id)s;

-- name: adopt_note_parts
-- Each part as long as it is now: what comes later is the trigger's.
insert into adopted_parts (adoption_id, part, pages)
select %(adoption_id)s, oid, pg_relation_size(oid) / current_setting('block_size')::bigint
from   pg_class
where  relkind = 'r'
and    (oid = %(oid)s or oid in (select relid from pg_partition_tree(%(oid)s) where isleaf))
on conflict (adoption_id, part) do nothing;

-- name: adopt_parts
select   part, nspname, relname, pages, copied
from     adopted_parts
join     pg_class c on c.oid = part
join     pg_namespace n on n.oid = relnamespace
where    adoption_id = %(adoption_id)s
and      (part = %(oid)s or part in (select relid from pg_partition_tree(%(oid)s)))
order    by part;

-- name: adopt_advance
update adopted_parts
set    copied = %(copied)s
where  adoption_id = %(adoption_id)s
and    part = %(part)s;

-- name: adopt_staging
create temporary table if not exists adopting (
    key         text,
    event_id    uuid,
    user_id     text,
    event_name  text,
    occurred_at timestamptz,
    properties  jsonb,
    reason      text
) on commit delete rows;

-- name: adopt_pages
-- Some pages of a part, in the order in which they lie.
(select {columns} from only {part} where ctid >= {first}::tid and ctid < {beyond}::tid)

-- name: adopt_sample
(select {columns} from {table} limit {most})

-- name: adopt_stage
insert into adopting {mapped};

-- name: adopt_missing
-- Why a row can be no event here, though it could be one elsewhere.
case
    when given.occurred_at < (select takes_from from {retention}) then 'expired'
    when given.user_id <> ''
     and exists (select
                 from   {suppressed_users}
                 where  digest = sha256(convert_to(given.user_id, 'UTF8'))) then 'suppressed'
end

-- name: adopt_stage_missing
-- All rows that are no events and are not left out, as one snapshot sees them.
insert into adopting
select *
from   ({mapped}) given
where  not exists (select from {events} e where e.event_id = given.event_id)
and    (reason is not null or {left_out} is null);

-- name: adopt_insert_events
-- In the order of ids, so that two writers never wait for each other.
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     adopting
where    reason is null
order    by event_id
on conflict (event_id) do nothing;

-- name: adopt_reject
insert into rejected_rows (adoption_id, key, reason)
select %(adoption_id)s, coalesce(left(key, 200), ''), reason
from   adopting
where  reason is not null
and    (select pg_relation_size('rejected_rows')) < %(most_bytes)s
and    not exists (
    select
    from   rejected_rows r
    where  r.adoption_id = %(adoption_id)s
    and    r.key = coalesce(left(adopting.key, 200), '')
)
limit  %(most_rows)s;

-- name: adopt_compare
-- For each day: rows that cannot be events and why, rows that are events, rows whose id another event
-- has, rows that are left out and why, rows that are no events though they should be. In one snapshot.
select   case when reason is null then (given.occurred_at at time zone 'UTC')::date end as day,
         case
             when reason is not null then reason
             when e.event_id is null then coalesce({left_out}, 'missing')
             when (e.event_name, e.user_id, e.occurred_at)
                = (given.event_name, given.user_id, given.occurred_at) then 'event'
             else 'taken'
         end as state,
         count(*) as rows, count(distinct e.event_id) as events
from     ({mapped}) given
left     join {events} e on e.event_id = given.event_id
group    by day, state
order    by day, state;
