-- name: transactions_own_id
-- By which the outcome of this transaction can be asked for afterwards; null where it wrote nothing.
select pg_current_xact_id_if_assigned()::text;

-- name: transactions_status
-- `committed`, `aborted` or `in progress`; null where it is so old that nobody knows.
select pg_xact_status(%(xid)s::xid8);
