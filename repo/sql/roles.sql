-- name: roles_missing
-- Those of the cluster that are not there.
select name
from   unnest(%(names)s::text[]) as name
where  to_regrole(name) is null;

-- name: roles_make
-- Another database of the cluster may make the same role at this moment, and an owner of tables may
-- not be allowed to: it is told what is missing, and works on as the owner.
do $$
declare
    name text;
begin
    foreach name in array array['analytics_reader', 'analytics_writer',
                                'analytics_folder', 'analytics_grafana'] loop
        begin
            execute format('create role %I', name);
        exception
            when duplicate_object or unique_violation or insufficient_privilege then null;
        end;
    end loop;
end
$$;

-- name: roles_owns
-- Whether this session is the owner of the tables.
select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('events');

-- name: roles_lacking
-- All rights that roles have stand here; those that they lack come out, as the statements that grant
-- them. A new table is one word in a line. What only commands of the owner need is nobody else's:
-- adopted_tables, adopted_parts, and rejected_rows but for how many there are.
with on_tables (role, rights, tables) as (
    values
        ('analytics_reader', '{select}',
         '{events, users, event_names, fold_state, slots, sealed_spans, spans, future_events,
           month_versions, retention, installation, schema_migrations}'),
        -- On the whole table: the right to lock it comes with that alone.
        ('analytics_writer', '{insert}', '{events}'),
        ('analytics_writer', '{select}',
         '{event_checks, retention, suppressed_users, schema_migrations}'),
        ('analytics_folder', '{select}',
         '{events, erased_ordinals, retention, schema_migrations}'),
        ('analytics_folder', '{select, insert, update, delete}',
         '{users, event_names, fold_state, slots, sealed_spans, spans, future_events, month_versions,
           day_events, day_users, daily_stats_queue, refused_events, metrics_outbox}'),
        -- Deprecated names, for processes of the version before this one.
        ('analytics_reader', '{select}', '{ahead}'),
        ('analytics_folder', '{select, insert, update, delete}',
         '{ahead, numbers_due, untold_events}'),
        ('analytics_grafana', '{select}', '{daily_events, daily_users, storage}')
),
on_columns (role, "right", "table", columns) as (
    values
        ('analytics_reader', 'select', 'api_keys',
         '{key_id, name, digest, scopes, ends_at, revoked_at}'),
        ('analytics_writer', 'select', 'api_keys',
         '{key_id, name, digest, scopes, ends_at, revoked_at, last_used_at}'),
        ('analytics_writer', 'update', 'api_keys', '{last_used_at}'),
        ('analytics_reader', 'select', 'erasures', '{number, erasure_id}'),
        -- What is there already, and what an earlier try has stored.
        ('analytics_writer', 'select', 'events', '{event_id, ingested_xid}'),
        -- After a restore events get ids of transactions of their new cluster.
        ('analytics_folder', 'update', 'events', '{ingested_xid}'),
        ('analytics_folder', 'select', 'rejected_rows', '{adoption_id}')
),
on_database (role, "right") as (
    values
        ('analytics_reader', 'connect'),
        ('analytics_writer', 'connect'),
        ('analytics_folder', 'connect'),
        ('analytics_grafana', 'connect'),
        -- What they write comes in by tables of their sessions.
        ('analytics_writer', 'temporary'),
        ('analytics_folder', 'temporary')
)
select format('grant %s on %I to %I', "right", "table", role)
from   on_tables
cross  join unnest(rights::text[]) as "right"
cross  join unnest(tables::text[]) as "table"
where  to_regrole(role) is not null
and    to_regclass("table") is not null
and    not has_table_privilege(to_regrole(role), to_regclass("table"), "right")
union  all
select format('grant %s (%s) on %I to %I', "right", string_agg(quote_ident(attname), ', '),
              "table", role)
from   on_columns
join   pg_attribute on attrelid = to_regclass("table") and attname = any(columns::name[])
where  to_regrole(role) is not null
and    not has_column_privilege(to_regrole(role), attrelid, attnum, "right")
group  by role, "right", "table"
union  all
select format('grant %s on database %I to %I', "right", datname, role)
from   on_database
join   pg_database on datname = current_database() and pg_has_role(datdba, 'usage')
where  to_regrole(role) is not null
and    not has_database_privilege(to_regrole(role), datname, "right");

-- name: roles_with_login
select rolname from pg_roles where rolname = any(%(names)s) and rolcanlogin;

-- name: roles_revoke_public
-- Nobody else comes in, and who only reads has no use for tables of its own. For a database that is
-- this program's alone.
do $$
begin
    execute format('revoke all on database %I from public', current_database());
end
$$;
