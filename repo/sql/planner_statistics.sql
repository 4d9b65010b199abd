-- name: planner_statistics_disable
-- Columns that hold ids of users, their properties, or sets of them. Statements look these up by their
-- indexes, whatever is in them. A target of 0 keeps samples from being taken, and leaves those that are
-- there: they are dropped in the way that the server has for it. Where only a superuser could, the
-- least possible sample is taken in their place: it is of rows that are there now. An empty table gives
-- no sample to take their place: there its column is altered to its own type, which drops them.
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
                       ('future_events', '{user_id}'),
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

-- name: planner_statistics_has_old_times
-- Whether a time in the samples is that of no event.
select exists (
    select
    from   pg_stats
    cross  join unnest(coalesce(most_common_vals::text::timestamptz[], '{}')
                       || coalesce(histogram_bounds::text::timestamptz[], '{}')) as moment
    where  schemaname = (select nspname
                         from   pg_class c
                         join   pg_namespace n on n.oid = relnamespace
                         where  c.oid = 'events'::regclass)
    and    tablename = 'events'
    and    attname = 'occurred_at'
    and    not exists (select from events where occurred_at = moment)
);

-- name: planner_statistics_refresh_times
-- Without events `analyze` would write nothing, and leave the old sample.
do $$
begin
    if exists (select from events) then
        analyze events (occurred_at);
    else
        alter table events alter occurred_at type timestamptz;
    end if;
end
$$;
