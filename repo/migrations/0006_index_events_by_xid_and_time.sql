-- Questions look for what is not folded yet in a range of time: a long tail elsewhere costs them less.
create index events_by_ingestion_and_time on events (ingested_xid, occurred_at);
drop index events_by_ingestion;
