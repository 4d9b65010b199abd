-- name: adopt_table
-- The table of a name, with or without its schema. Without one, a table in `public` comes first, then those of
-- other schemas except PostgreSQL's and ours. Two rows mean that the name is ambiguous.
with candidates as (
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
from   candidates
where  rank = (select min(rank) from candidates)
order  by oid
limit  2;

-- name: adopt_table_names
-- Tables of the platform, for a suggestion: not all of a database with very many.
select   nspname, relname
from     pg_class c
join     pg_namespace n on n.oid = relnamespace
where    relkind in ('r', 'p')
and      not relispartition
and      nspname not in ('pg_catalog', 'information_schema')
and      nspname !~ '^pg_(temp|toast)'
and      not (nspname = current_schema() and relname = any(%(own_names)s))
order by nspname, relname
limit    10000;

-- name: adopt_columns
-- The columns of a table. The type of a domain is its base type.
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
cross    join unnest(indkey::int2[]) with ordinality as key_columns (attnum, position)
join     pg_attribute a on attrelid = indrelid and a.attnum = key_columns.attnum
where    indrelid = %(oid)s
and      indisprimary
and      position <= indnkeyatts
order    by position;

-- name: adopt_estimate_size
-- The estimated number of rows, and the bytes, of a table with its partitions.
select coalesce(sum(greatest(reltuples, 0)), 0)::bigint, coalesce(sum(pg_table_size(oid)), 0)::bigint
from   pg_class
where  relkind = 'r'
and    (oid = %(oid)s or oid in (select relid from pg_partition_tree(%(oid)s)));

-- name: adopt_own_schema
-- The schema of the tables of this service.
select nspname
from   pg_class c
join   pg_namespace n on n.oid = relnamespace
where  c.oid = 'events'::regclass;

-- name: adopt_original_name
-- The name of the table when it was first adopted, or else its present name.
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
where  table_name = %(original_name)s;

-- name: adopt_register
-- The upsert locks the row until the end of the transaction, so that adoptions of a table take turns.
insert into adopted_tables (table_name, fields)
values (%(original_name)s, %(fields)s)
on conflict (table_name) do update set table_name = excluded.table_name
returning adoption_id, fields, released_at is not null;

-- name: adopt_update
update adopted_tables
set    fields = %(fields)s, released_at = null
where  adoption_id = %(adoption_id)s;

-- name: adopt_delete_parts
delete from adopted_parts where adoption_id = %(adoption_id)s;

-- name: adopt_trigger_state
-- Whether the trigger fires: `O` and `A` mean enabled.
select tgenabled::text in ('O', 'A')
from   pg_trigger
join   pg_proc p on p.oid = tgfoid
join   pg_namespace n on n.oid = pronamespace and nspname = current_schema()
where  tgrelid = %(oid)s
and    proname ~ '^adopted_rows_\d+$';

-- name: adopt_lock_holder
-- The longest transaction with a lock on the table, and its seconds.
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
-- The rows of a table as events; `reason` says why a row is not a valid event. No expression may fail on any
-- value, since this would abort the transaction of the platform.
select key, event_id, user_id, event_name, occurred_at, properties,
       case
           when event_id is null then 'event_id is missing'
           when event_name is null or event_name = '' then 'event_name is missing'
           when octet_length(event_name) > 200 then 'event_name must be at most 200 bytes long'
           when octet_length(user_id) > 256 then 'user_id must be at most 256 bytes long'
           when not has_time then 'occurred_at is missing'
           when occurred_at is null
             or occurred_at < '2000-01-01 00:00:00+00' or occurred_at >= '2100-01-01 00:00:00+00'
           then 'occurred_at must be within the years 2000 to 2099'
           when jsonb_typeof(properties) <> 'object' then 'properties must be an object'
           when octet_length(properties::text) >= 65536
           then 'properties must be an object of less than 64 kB'
           when has_repeated_key then 'properties must not have a key twice'
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
           {time_column} is not null as has_time, {properties} as properties,
           {has_repeated_key} as has_repeated_key, {conflict} as conflict
    from   {rows} r
    offset 0  -- computes each expression once
) computed

-- name: adopt_has_repeated_key
-- Whether a JSON text has a repeated key: jsonb keeps only the last one, so its text has fewer colons. Colons
-- may be escaped in the text; removing pairs of backslashes first tells an escape from a backslash before
-- `u003a`.
(
    select length(unescaped) - length(replace(unescaped, ':', ''))
        <> length(parsed) - length(replace(parsed, ':', ''))
    from   (
        select replace(replace(replace({text}, repeat(chr(92), 2), ''),
                               chr(92) || 'u003a', ':'), chr(92) || 'u003A', ':') as unescaped,
               {parsed}::text as parsed
        offset 0  -- computes each once
    ) texts
)

-- name: adopt_conflict
-- The first mapped column whose name is a key of the properties with a different value.
(
    select   key
    from     jsonb_each({from_columns}) as from_columns (key, value)
    where    {from_properties} ? key
    and      {from_properties} -> key is distinct from value
    order by key
    limit    1
)

-- name: adopt_instant
-- A local time as an instant: the offsets apply before, between and after the times.
({local} - ({offsets})[1 + width_bucket({local}, {times})]) at time zone 'UTC'

-- name: adopt_local_function
-- The function that triggers use to read local times. It is replaced when the rules of the zone change.
create or replace function {function}(timestamp) returns timestamptz
language sql immutable
as {body};
comment on function {function}(timestamp) is {rules};
revoke all on function {function}(timestamp) from public;

-- name: adopt_may_update
-- False for logins that may only store events.
select has_table_privilege('adopted_tables', 'select, update');

-- name: adopt_stale_rules
-- Functions with the rules of another version of tzdata, which this session may replace.
select table_name, adoption_id, nspname, fields ->> 'tz'
from   adopted_tables
join   pg_proc p on proname = 'adopted_moment_' || adoption_id
join   pg_namespace n on n.oid = pronamespace and nspname = current_schema()
where  obj_description(p.oid, 'pg_proc') is distinct from %(rules)s
and    pg_has_role(proowner, 'usage')
for    update of adopted_tables;

-- name: adopt_count_adjusted
-- The number of rows with repeated or skipped local times: those shortly before a change of the offset, by no
-- more than the change.
select   case when offset_now > offset_next then 'repeated' else 'skipped' end, count(*)
from     (
    select {local}::timestamp as local, ({times})[position] as change,
           ({offsets})[position] as offset_now, ({offsets})[position + 1] as offset_next
    from   {rows} r
    cross  join lateral (select 1 + width_bucket({local}::timestamp, {times}) as position) located
    where  {in_range}
) changes
where    local >= change - greatest(offset_now - offset_next, offset_next - offset_now)
group    by 1
order    by 1;

-- name: adopt_knows_zone
select exists (select from pg_timezone_names where name = %(tz)s);

-- name: adopt_count_other_rules
-- The number of rows whose local time is another instant by PostgreSQL's own rules of the zone: these show other
-- local times at our instants. Skipped times are shown as they are moved forward.
select   count(*)
from     (
    select local, local - offset_now as utc,
           coalesce(offset_next > offset_now and local >= change - (offset_next - offset_now), false) as is_skipped,
           offset_next - offset_now as gap
    from   (
        select {local}::timestamp as local, ({times})[position] as change,
               ({offsets})[position] as offset_now, ({offsets})[position + 1] as offset_next
        from   {rows} r
        cross  join lateral (select 1 + width_bucket({local}::timestamp, {times}) as position) located
        where  {in_range}
    ) changes
) instants
where    utc at time zone 'UTC' at time zone {tz} <> local + case when is_skipped then gap else interval '0' end;

-- name: adopt_body
-- The body of the trigger function. The first statement fails if a column is missing or has another type. It
-- only reads, so its subtransaction gets no id and costs other sessions nothing.
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
        with new_rows as materialized ({mapped}),
        inserted as (
            insert into {events} (event_id, user_id, event_name, occurred_at, properties)
            select   event_id, user_id, event_name, occurred_at, properties
            from     new_rows
            where    reason is null
            order    by event_id
            on conflict (event_id) do nothing
        )
        select coalesce(bool_or(reason is not null), false) into is_rejected from new_rows;
        if is_rejected then
            insert into {rejected} (adoption_id, key, reason)
            select {adoption_id}, coalesce(left(key, 200), ''), reason
            from   ({mapped}) new_rows
            where  reason is not null
            and    (select pg_relation_size({rejected_name}::regclass)) < {max_bytes}
            limit  {max_rows};
        end if;
    elsif not is_same then
        insert into {rejected} (adoption_id, key, reason)
        select {adoption_id}, '', 'the columns of the table have changed since it was adopted'
        where  pg_relation_size({rejected_name}::regclass) < {max_bytes};
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
-- Makes the trigger do nothing, without a lock on the table.
create or replace function {function}() returns trigger
language plpgsql as 'begin return null; end';

-- name: adopt_drop
-- Drops the function and its triggers, which needs no ownership of the table.
drop function if exists {function}() cascade;
drop function if exists {local}(timestamp);

-- name: adopt_release
update adopted_tables set released_at = now() where adoption_id = %(adoption_id)s;

-- name: adopt_insert_parts
-- The present number of pages of each part. The trigger copies rows that are inserted later.
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

-- name: adopt_update_part
update adopted_parts
set    copied = %(copied_pages)s
where  adoption_id = %(adoption_id)s
and    part = %(part)s;

-- name: adopt_create_staging
create temporary table if not exists adoption_staging (
    key         text,
    event_id    uuid,
    user_id     text,
    event_name  text,
    occurred_at timestamptz,
    properties  jsonb,
    reason      text
) on commit delete rows;

-- name: adopt_pages
-- A range of pages of a part.
(select {columns} from only {part} where ctid >= {first_tid}::tid and ctid < {end_tid}::tid)

-- name: adopt_sample
(select {columns} from {table} limit {limit})

-- name: adopt_stage
insert into adoption_staging {mapped};

-- name: adopt_exclusion
-- Why a valid event is not stored.
case
    when mapped.occurred_at < (select takes_from from {retention}) then 'expired'
    when mapped.user_id <> ''
     and exists (select
                 from   {suppressed_users}
                 where  digest = sha256(convert_to(mapped.user_id, 'UTF8'))) then 'suppressed'
end

-- name: adopt_stage_missing
-- All rows of one snapshot that should be events and are not.
insert into adoption_staging
select *
from   ({mapped}) mapped
where  not exists (select from {events} e where e.event_id = mapped.event_id)
and    (reason is not null or {exclusion} is null);

-- name: adopt_insert_events
-- In the order of ids, so that concurrent writers do not deadlock.
insert into events (event_id, user_id, event_name, occurred_at, properties)
select   event_id, user_id, event_name, occurred_at, properties
from     adoption_staging
where    reason is null
order    by event_id
on conflict (event_id) do nothing;

-- name: adopt_reject
insert into rejected_rows (adoption_id, key, reason)
select %(adoption_id)s, coalesce(left(key, 200), ''), reason
from   adoption_staging
where  reason is not null
and    (select pg_relation_size('rejected_rows')) < %(max_bytes)s
and    not exists (
    select
    from   rejected_rows r
    where  r.adoption_id = %(adoption_id)s
    and    r.key = coalesce(left(adoption_staging.key, 200), '')
)
limit  %(max_rows)s;

-- name: adopt_compare
-- The number of rows by day and state, in one snapshot: the reason why a row is not valid, `event`, `taken`
-- (another event has the id), the reason why the event is not stored, or `missing`.
select   case when reason is null then (mapped.occurred_at at time zone 'UTC')::date end as day,
         case
             when reason is not null then reason
             when e.event_id is null then coalesce({exclusion}, 'missing')
             when (e.event_name, e.user_id, e.occurred_at)
                = (mapped.event_name, mapped.user_id, mapped.occurred_at) then 'event'
             else 'taken'
         end as state,
         count(*) as rows, count(distinct e.event_id) as events
from     ({mapped}) mapped
left     join {events} e on e.event_id = mapped.event_id
group    by day, state
order    by day, state;
