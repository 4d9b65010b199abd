-- name: database_identity_exists
-- Whether the schema is migrated far enough to have an identity.
select to_regclass('installation') is not null;

-- name: database_identity
-- The identity of this installation, which no copy shares; the last erasure and the horizon; the server's
-- clock. A copy by pg_dump or from a template has the same row and another oid or cluster, one in another
-- schema another table, and a copy of the cluster's files another timeline once it is promoted. A read
-- replica has the same identity.
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
