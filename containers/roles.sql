-- Create the logins, and set their passwords to those of .env on each run.
\getenv owner OWNER_PASSWORD
\getenv questions QUESTIONS_PASSWORD
\getenv ingestion INGESTION_PASSWORD
\getenv rollup ROLLUP_PASSWORD
\getenv dashboards DASHBOARDS_PASSWORD
\set schema ''
\getenv schema ANALYTICS_SCHEMA
select coalesce(nullif(:'schema', ''), 'public') as schema \gset

-- Otherwise the log would show a failed statement with its password.
set log_min_error_statement = panic;

select format('create role %I', name)
from   unnest(array['analytics', 'questions', 'ingestion', 'rollup', 'dashboards',
                    'analytics_reader', 'analytics_writer', 'analytics_rollup',
                    'analytics_grafana']) as name
where  to_regrole(name) is null
\gexec

alter role analytics login password :'owner';
alter role questions login password :'questions';
alter role ingestion login password :'ingestion';
alter role rollup login password :'rollup';
alter role dashboards login password :'dashboards' connection limit 10;
alter role dashboards set statement_timeout = '30s';
alter role dashboards set default_transaction_read_only = on;
alter role dashboards set search_path = :"schema";

grant analytics_reader to questions;
grant analytics_writer to ingestion;
grant analytics_rollup to rollup;
grant analytics_grafana to dashboards;

-- The login `folding` of version 0.1.0 goes on working: its role becomes a member of the new one.
-- PostgreSQL rejects the grant if an administrator has granted membership the other way round.
select 'grant analytics_rollup to analytics_folder'
from   pg_roles
where  rolname = 'analytics_folder'
and    not pg_has_role('analytics_rollup', oid, 'member')
\gexec

select 'create database analytics owner analytics'
where  not exists (select from pg_database where datname = 'analytics')
\gexec
revoke all on database analytics from public;
