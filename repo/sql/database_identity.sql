-- name: database_identity_exists
-- Whether there is a schema that has one.
select to_regclass('installation') is not null;

-- name: database_identity
-- What is kept elsewhere for this database, and for no other one; the last erasure in it, and before
-- which events are dropped; and this server's clock. A copy by a dump or from a template has the same
-- row and another oid or cluster, one in another schema another table, a copy of the cluster's files another
-- timeline once it is promoted; a replica is the same database.
select concat_ws('/',
                 (select installation_id from installation),
                 (select system_identifier from pg_control_system()),
                 (select greatest(timeline_id, min_recovery_end_timeline)
                  from   pg_control_checkpoint(), pg_control_recovery()),
                 (select oid from pg_database where datname = current_database()),
                 'installation'::regclass::oid),
       concat_ws('.',
                 (select erasure_id from erasures order by number desc limit 1),
                 (select extract(epoch from horizon)::bigint from retention)),
       now();
