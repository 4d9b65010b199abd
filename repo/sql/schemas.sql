-- name: schemas_own
-- The first schema of the search path, whether it exists and may be used or not.
select coalesce(current_schema(), (parse_ident(current_setting('search_path')))[1]);

-- name: schemas_exists
select exists (select from pg_namespace where nspname = %(schema)s);

-- name: schemas_lock
-- Of migrations in one schema; `public` has the lock of versions that knew no other.
select pg_advisory_xact_lock(case when %(schema)s = 'public' then %(lock)s
                                  else hashtextextended(%(schema)s, %(lock)s) end);

-- name: schemas_has_ledger
-- Other programs have tables of this name, too, with other columns. A role that may not use the schema
-- is told so, since the name is qualified.
select count(*) = 3
from   pg_attribute
where  attrelid = to_regclass(quote_ident(%(schema)s) || '.schema_migrations')
and    attname in ('number', 'name', 'checksum');

-- name: schemas_name_conflicts
-- Which of these names belong to something in the schema, and to whom.
select   relname, pg_get_userbyid(relowner)
from     pg_class
join     pg_namespace n on n.oid = relnamespace
where    nspname = %(schema)s
and      relname = any(%(names)s)
and      relkind in ('r', 'p', 'v', 'm', 'f')
order by relname;

-- name: schemas_others
-- Schemas of this database with another installation.
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
