-- name: postgres_schema_own
-- The first schema of the search path, even if it does not exist or may not be used.
select coalesce(current_schema(), (parse_ident(current_setting('search_path')))[1]);

-- name: postgres_schema_exists
select exists (select from pg_namespace where nspname = %(schema)s);

-- name: postgres_schema_lock
-- Serializes migrations of one schema. That of `public` is the lock of versions without ANALYTICS_SCHEMA.
select pg_advisory_xact_lock(case when %(schema)s = 'public' then %(lock)s
                                  else hashtextextended(%(schema)s, %(lock)s) end);

-- name: postgres_schema_has_ledger
-- Whether the schema has a table of our migrations: other programs have tables of this name with other columns.
-- The qualified name makes PostgreSQL report an error if the role may not use the schema.
select count(*) = 3
from   pg_attribute
where  attrelid = to_regclass(quote_ident(%(schema)s) || '.schema_migrations')
and    attname in ('number', 'name', 'checksum');

-- name: postgres_schema_name_conflicts
-- The relations of the schema that have one of these names, and their owners.
select   relname, pg_get_userbyid(relowner)
from     pg_class
join     pg_namespace n on n.oid = relnamespace
where    nspname = %(schema)s
and      relname = any(%(names)s)
and      relkind in ('r', 'p', 'v', 'm', 'f')
order by relname;

-- name: postgres_schema_others
-- Other schemas of this database with tables of this service.
select   nspname
from     pg_class c
join     pg_namespace n on n.oid = relnamespace
join     pg_attribute on attrelid = c.oid
where    relname = 'schema_migrations'
and      attname in ('number', 'name', 'checksum')
and      nspname <> %(schema)s
and      exists (select from pg_class where relnamespace = n.oid and relname = 'fold_state')
group by nspname
having   count(*) = 3
order by nspname;
