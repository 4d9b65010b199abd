-- Events are added, and seldom leave: each page is frozen when it is first looked at, so that nobody
-- has to go through all of them later, and what is erased makes room before it is a fifth of all.
alter table events set (
    autovacuum_vacuum_insert_scale_factor = 0.02,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_freeze_min_age = 0
);

-- Every fold writes the rows of the present anew, and late events those of the past. What that
-- leaves behind is a matter of time, not of how much is kept.
alter table slots set (
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_scale_factor = 0.01
);
alter table spans set (
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_scale_factor = 0.01,
    toast.autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_scale_factor = 0.01
);
