-- What tells this database apart from others that are reached by the same host, port and name.
create table installation (
    is_only_row     boolean not null primary key default true check (is_only_row),
    installation_id uuid    not null default gen_random_uuid()
);

comment on table installation is 'One row: whatever is shared outside of this database bears its id';

insert into installation default values;
