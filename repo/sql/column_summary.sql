-- name: column_summary
-- The contents of the tables of columns for the current generation. What a backfill has not reached is known by slot,
-- from the rollups.
select generation,
       written_at,
       extract(epoch from now() - written_at)::float8,
       is_backfilling,
       case when is_backfilling
            then (select coalesce(sum(events), 0)
                  from   slots
                  where  slots.generation = current.generation
                  and    name_id = 0
                  and    slot >= extract(epoch from coalesce((select horizon from retention), '1970-01-01Z')) / 900
                  and    slot < extract(epoch from least(backfilled_from, '2101-01-01Z')) / 900)
            else 0
       end::bigint,
       case when is_backfilling and isfinite(backfilled_from) then backfilled_from end,
       (select count(*) from column_chunks where column_chunks.generation = current.generation),
       (select coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint
        from   unnest(array['column_data', 'column_chunks', 'column_paths', 'batch_log']) as name),
       (select count(*) from column_paths where column_paths.generation = current.generation),
       left_out,
       (select count(*) from columns_erasures),
       (select coalesce(extract(epoch from now() - min(erased_at)), 0) from columns_erasures)::float8
from   (select generation,
               nullif(written_at, '-infinity') as written_at,
               coalesce(backfilled_from <> '-infinity', false) as is_backfilling,
               backfilled_from,
               coalesce(left_out, false) as left_out
        from   fold_state
        left   join column_state using (generation)
        where  is_current
        and    cluster = (select system_identifier from pg_control_system())) as current;
