-- Facts are changed by this program alone, and for reasons that have names. After a restore into
-- another cluster, where transaction ids start over, it gives events ids of that cluster.
create or replace function refuse_change_of_events() returns trigger language plpgsql as $$
begin
    if current_setting('analytics.reason', true) = 'adopt' and tg_op = 'UPDATE' then
        return null;
    end if;
    raise exception 'events are facts: % is refused', lower(tg_op)
        using errcode = 'object_not_in_prerequisite_state',
              hint = 'Use "python main.py erase" for a user and "python main.py retain" for age.';
end
$$;
