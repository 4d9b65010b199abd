-- name: planner_statistics_privacy_disable
-- Columns with user ids, properties, sets of users, or times of single events. Queries do not need statistics
-- on them. A target of 0 stops sampling; existing samples are deleted separately: since PostgreSQL 18 by a
-- function, before by a superuser in the catalog. Other owners replace them with the smallest possible sample of
-- the present rows, or, if the table is empty, alter the column to its own type, which drops them.
do $$
declare
    target record;
    has_rows boolean;
    is_superuser constant boolean := (select rolsuper from pg_roles where rolname = current_user);
begin
    for target in
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
                       ('column_chunks', '{first, last}'),
                       ('column_data', '{data}'),
                       ('column_paths', '{path}'),
                       ('catalogue_names', '{first_seen, last_seen}'),
                       ('catalogue_properties', '{path, first_seen, last_seen, frequent_values}'),
                       ('suppressed_users', '{digest}'),
                       ('erasures', '{erasure_id, proof}'),
                       ('rejected_rows', '{key}')) as personal ("table", columns)
        join   pg_class c on c.oid = to_regclass("table")
        join   pg_namespace n on n.oid = relnamespace
        join   pg_attribute a on attrelid = c.oid and attname = any(columns::name[])
    loop
        if target.is_sampled then
            execute format('alter table %I alter %I set statistics 0', target."table", target."column");
        end if;
        if not target.has_samples then
            continue;
        elsif current_setting('server_version_num')::int >= 180000 then
            perform pg_clear_attribute_stats(target.schema, target."table", target."column", false);
            continue;
        elsif is_superuser then
            delete from pg_statistic where starelid = target.attrelid and staattnum = target.attnum;
            continue;
        end if;
        execute format('select exists (select from %I)', target."table") into has_rows;
        if has_rows then
            execute format('alter table %I alter %I set statistics 1', target."table", target."column");
            execute format('analyze %I (%I)', target."table", target."column");
            execute format('alter table %I alter %I set statistics 0', target."table", target."column");
        else
            execute format('alter table %I alter %I type %s', target."table", target."column", target.type);
        end if;
    end loop;
end
$$;

-- name: planner_statistics_privacy_has_old_times
-- Whether the samples contain a time at which there is no event.
select exists (
    select
    from   pg_stats
    cross  join unnest(coalesce(most_common_vals::text::timestamptz[], '{}')
                       || coalesce(histogram_bounds::text::timestamptz[], '{}')) as sampled_time
    where  schemaname = (select nspname
                         from   pg_class c
                         join   pg_namespace n on n.oid = relnamespace
                         where  c.oid = 'events'::regclass)
    and    tablename = 'events'
    and    attname = 'occurred_at'
    and    not exists (select from events where occurred_at = sampled_time)
);

-- name: planner_statistics_privacy_refresh_times
-- Without events, `analyze` would keep the old sample; altering the column drops it.
do $$
begin
    if exists (select from events) then
        analyze events (occurred_at);
    else
        alter table events alter occurred_at type timestamptz;
    end if;
end
$$;
