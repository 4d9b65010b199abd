-- name: commit_outcome_own_id
-- The id of this transaction, for commit_outcome_status; null if it has written nothing.
select pg_current_xact_id_if_assigned()::text;

-- name: commit_outcome_status
-- `committed`, `aborted` or `in progress`; null if the transaction is so old that PostgreSQL has forgotten it.
select pg_xact_status(%(xid)s::xid8);
