-- name: roles_missing
-- Roles that do not exist in the cluster.
select name
from   unnest(%(names)s::text[]) as name
where  to_regrole(name) is null;

-- name: roles_create
-- Ignores roles that another session has just created, and an owner without the right to create roles:
-- `migrate` then prints which ones are missing, and everything works as the owner.
do $$
declare
    name text;
begin
    foreach name in array array['analytics_reader', 'analytics_writer',
                                'analytics_rollup', 'analytics_grafana'] loop
        begin
            execute format('create role %I', name);
        exception
            when duplicate_object or unique_violation or insufficient_privilege then null;
        end;
    end loop;
end
$$;

-- name: roles_grant_to_deprecated
-- Logins may still be members of the role of version 0.1.0, which gets the rights of the one that replaced it
-- as a member of it. If the owner may not grant that, or an administrator has made the new role a member of
-- the old one, roles_missing_grants grants the same rights directly.
do $$
begin
    if to_regrole('analytics_folder') is not null
       and to_regrole('analytics_rollup') is not null
       and not pg_has_role('analytics_folder', 'analytics_rollup', 'usage')
       and not pg_has_role('analytics_rollup', 'analytics_folder', 'member') then
        grant analytics_rollup to analytics_folder;
    end if;
exception
    when insufficient_privilege or unique_violation then null;
end
$$;

-- name: roles_is_owner
-- Whether this session is the owner of the tables.
select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('events');

-- name: roles_lock
-- Serializes grants in this database, in all its schemas, since rights on the database are one catalog row.
select pg_advisory_xact_lock(%(lock)s);

-- name: roles_without_usage
-- Roles without the right to use the schema, if another role owns it.
select name
from   unnest(%(names)s::text[]) as name
where  to_regrole(name) is not null
and    not has_schema_privilege(to_regrole(name), current_schema(), 'usage');

-- name: roles_missing_grants
-- The rights of all roles. Returns the missing ones as GRANT statements. A new table is one more word in a list.
-- adopted_tables and adopted_parts are for commands of the owner only, and so is rejected_rows except for its
-- number of rows.
with on_tables (role, rights, tables) as (
    values
        ('analytics_reader', '{select}',
         '{events, users, event_names, fold_state, slots, sealed_spans, spans, future_events,
           month_versions, retention, installation, schema_migrations,
           column_state, column_chunks, column_data, column_paths, batch_log, columns_erasures,
           catalogue_counts, catalogue_names, catalogue_properties}'),
        -- On the whole table, since the right to lock it needs that.
        ('analytics_writer', '{insert}', '{events}'),
        ('analytics_writer', '{select}',
         '{event_checks, retention, suppressed_users, schema_migrations}'),
        ('analytics_rollup', '{select}',
         '{events, erased_ordinals, retention, schema_migrations}'),
        ('analytics_rollup', '{select, insert, update, delete}',
         '{users, event_names, fold_state, slots, sealed_spans, spans, future_events, month_versions,
           day_events, day_users, daily_stats_queue, refused_events, metrics_outbox,
           column_state, column_chunks, column_data, column_paths, batch_log, columns_erasures,
           catalogue_counts, catalogue_names, catalogue_properties}'),
        -- Deprecated names, for processes of version 0.1.0.
        ('analytics_reader', '{select}', '{ahead}'),
        ('analytics_rollup', '{select, insert, update, delete}',
         '{ahead, numbers_due, untold_events}'),
        ('analytics_grafana', '{select}', '{daily_events, daily_users, storage}')
),
on_columns (role, "right", "table", columns) as (
    values
        ('analytics_reader', 'select', 'api_keys',
         '{key_id, name, digest, scopes, ends_at, revoked_at, origins, rate}'),
        ('analytics_writer', 'select', 'api_keys',
         '{key_id, name, digest, scopes, ends_at, revoked_at, last_used_at, origins, rate}'),
        ('analytics_writer', 'update', 'api_keys', '{last_used_at}'),
        ('analytics_reader', 'select', 'erasures', '{number, erasure_id}'),
        -- For duplicates, and for events that an earlier attempt has stored.
        ('analytics_writer', 'select', 'events', '{event_id, ingested_xid}'),
        -- For events that were restored from another cluster: they get transaction ids of this one.
        ('analytics_rollup', 'update', 'events', '{ingested_xid}'),
        ('analytics_rollup', 'select', 'rejected_rows', '{adoption_id}'),
        -- For samples that the service verifies, and to notice erasures during a count.
        ('analytics_rollup', 'select', 'erasures', '{number, unknown_before}')
),
on_database (role, "right") as (
    values
        ('analytics_reader', 'connect'),
        ('analytics_writer', 'connect'),
        ('analytics_rollup', 'connect'),
        ('analytics_grafana', 'connect'),
        -- For their staging tables.
        ('analytics_writer', 'temporary'),
        ('analytics_rollup', 'temporary')
),
grantees (role, grantee) as (
    select role, role from on_database
    union
    select 'analytics_rollup', 'analytics_folder'
)
select format('grant %s on %I to %I', "right", "table", grantee)
from   on_tables
join   grantees using (role)
cross  join unnest(rights::text[]) as "right"
cross  join unnest(tables::text[]) as "table"
where  to_regrole(grantee) is not null
and    to_regclass("table") is not null
and    not has_table_privilege(to_regrole(grantee), to_regclass("table"), "right")
union  all
select format('grant %s (%s) on %I to %I', "right", string_agg(quote_ident(attname), ', '),
              "table", grantee)
from   on_columns
join   grantees using (role)
join   pg_attribute on attrelid = to_regclass("table") and attname = any(columns::name[])
where  to_regrole(grantee) is not null
and    not has_column_privilege(to_regrole(grantee), attrelid, attnum, "right")
group  by grantee, "right", "table"
union  all
select format('grant usage on schema %I to %I', current_schema(), grantee)
from   (select distinct grantee from grantees) as roles
where  to_regrole(grantee) is not null
and    has_schema_privilege(current_schema(), 'usage with grant option')
and    not has_schema_privilege(to_regrole(grantee), current_schema(), 'usage')
union  all
select format('grant %s on database %I to %I', "right", datname, grantee)
from   on_database
join   grantees using (role)
join   pg_database on datname = current_database() and pg_has_role(datdba, 'usage')
where  to_regrole(grantee) is not null
and    not has_database_privilege(to_regrole(grantee), datname, "right");

-- name: roles_with_login
select rolname from pg_roles where rolname = any(%(names)s) and rolcanlogin;

-- name: roles_revoke_public
-- For the embedded database, which only this program uses: no other role may connect, and readers may not create
-- temporary tables.
do $$
begin
    execute format('revoke all on database %I from public', current_database());
end
$$;
