-- Describes all tables, and the columns whose names do not say it all.

comment on table schema_migrations is 'Migrations that are applied to this schema, with SHA-256 digests of their files';

comment on table installation is 'One row with the identity of this database, which cache keys in Redis contain';

comment on table api_keys is 'API keys. Of each secret only the SHA-256 digest is stored';
comment on column api_keys.digest is 'SHA-256 of the secret';
comment on column api_keys.hint is 'The first characters of the secret, to tell keys apart';
comment on column api_keys.ends_at is 'When the key expires; null: never';
comment on column api_keys.last_used_at is 'When the key was last used, within a few seconds; null: never';
comment on column api_keys.revoked_at is 'When the key was revoked, which is final; null: it was not';

comment on table events is
    'One row per event. Rows are never updated, and only erase and retain delete them';
comment on column events.event_id is 'Each event_id is stored and counted once';
comment on column events.user_id is
    'Empty if the event has no user: then it counts as an event and not as a user';
comment on column events.occurred_at is 'When the event happened, as its sender says';
comment on column events.properties is 'A JSON object of less than 65,536 bytes';
comment on column events.ingested_xid is
    'The transaction that inserted the row. Folds find new rows by it';

comment on table event_checks is
    'Always empty. It has the constraints of events, for writers that may not read events';

comment on table refused_events is
    'Events that triggers did not store, until the rollup worker counts them in a metric';
comment on column refused_events.reason is
    'expired: older than retention allows; suppressed: of a user on the denylist';

comment on table users is 'Dictionary of user ids. Bitmaps contain the ordinals';
comment on column users.ordinal is '1 for the first user, and so on. The ordinal of an erased user is not used again';

comment on table event_names is 'Dictionary of event names';

comment on table fold_state is
    'Generations of rollups: the current one, and one that is being built if there is a rebuild';
comment on column fold_state.lineage is
    'Identifier of this generation, which cache keys contain, so that answers of others are not used';
comment on column fold_state.is_current is 'Whether questions read this generation';
comment on column fold_state.cluster is
    'System identifier of the PostgreSQL cluster. In another one, as after a restore, transaction ids '
    'start over, and the rollups are rebuilt';
comment on column fold_state.snapshot is 'The watermark: all events that this snapshot sees are folded';
comment on column fold_state.sweeping_to is
    'Of the events that this snapshot sees and the watermark does not, a backfill has folded those up '
    'to (swept_until, swept_id)';
comment on column fold_state.swept_until is 'occurred_at of the last event that a backfill has folded';
comment on column fold_state.swept_id is 'event_id of the last event that a backfill has folded';
comment on column fold_state.folded_at is
    'Folded events that occurred before this time are in slots, and others in future_events';
comment on column fold_state.version is 'Version of the last fold. Each fold raises it';
comment on column fold_state.sealed is 'Version of the last fold that changed a sealed span';
comment on column fold_state.first_slot is 'The first slot that has events';
comment on column fold_state.begun is
    'Snapshot at the start of this generation. Metrics do not count events that it sees';

comment on table slots is
    'Number of events and set of users per slot (15 minutes) and event name';
comment on column slots.slot is 'Number of the 15-minute bucket since 1970-01-01 UTC';
comment on column slots.name_id is 'See event_names; 0: all event names together';
comment on column slots.users is 'Ordinals of the users: a roaring bitmap in its portable format';

comment on table sealed_spans is
    'Spans (hours, days and months) that are over. One without rows in spans has no events';
comment on column sealed_spans.end_slot is 'The slot after the last one';
comment on column sealed_spans.version is 'Version of the fold that last changed the span';

comment on table spans is 'Number of events and set of users per sealed span and event name';
comment on column spans.end_slot is 'The slot after the last one';
comment on column spans.name_id is 'See event_names; 0: all event names together';
comment on column spans.users is 'Ordinals of the users: a roaring bitmap in its portable format';

comment on table month_versions is
    'Months that late events have changed, and the fold that did. Cached answers from before it are not used';
comment on column month_versions.month is 'Months of UTC since the year 0: 12 * year + month - 1';
comment on column month_versions.version is 'Version of the last fold that changed the month';

comment on table day_events is 'Daily statistics per time zone, day and event name. See the view daily_events';
comment on table day_users is 'Daily statistics per time zone and day. See the view daily_users';
comment on column day_users.ends_at is 'When the next day starts';
comment on column day_users.dau is 'Users with an event on the day';
comment on column day_users.wau is 'Users with an event in the 7 days that end with the day';
comment on column day_users.mau is 'Users with an event in the 30 days that end with the day';
comment on column day_users.counted_at is 'When the row was computed';

comment on view daily_events is 'Number of events and users per time zone, day and event name';
comment on column daily_events.partial is 'Whether the day was not over when the row was computed';
comment on view daily_users is
    'Number of events, and daily, weekly and monthly active users, per time zone and day';
comment on column daily_users.starts_at is 'When the day starts in its time zone';
comment on column daily_users.ends_at is 'When the next day starts in its time zone';
comment on column daily_users.dau is 'Users with an event on the day';
comment on column daily_users.wau is 'Users with an event in the 7 days that end with the day';
comment on column daily_users.mau is 'Users with an event in the 30 days that end with the day';
comment on column daily_users.stickiness is 'dau divided by mau; null if mau is 0';
comment on column daily_users.partial is 'Whether the day was not over when the row was computed';
comment on column daily_users.counted_at is 'When the row was computed';
comment on column daily_users.returning_users is
    'Users active on the day and on at least one of the 29 days before';

comment on view storage is 'Size of each table and of its indexes, in bytes';

comment on table erasures is
    'Receipts of erasures, without personal data. Cache keys contain the number of the last one';
comment on column erasures.proof is
    'SHA-256 of the salt, as the receipt shows it, followed by the user id';
comment on column erasures.events is 'Number of events that were deleted';
comment on column erasures.slots is 'Number of slots that were changed';
comment on column erasures.spans is 'Number of sealed spans that were changed';
comment on column erasures.days is 'Number of days whose statistics were computed again';
comment on column erasures.first_month is 'First day of the first month with an event of the user';
comment on column erasures.last_month is 'First day of the last month with an event of the user';
comment on column erasures.suppressed is 'Whether the user was put on the denylist';
comment on column erasures.unknown_before is
    'Events before this time had been dropped: the sets of users lost this user, and the numbers of '
    'events stayed';

comment on table erased_ordinals is 'The highest ordinal of an erased user: new users get higher ones';

comment on table suppressed_users is 'Denylist: a trigger on events does not store events of these users';
comment on column suppressed_users.digest is 'SHA-256 of the user id';

comment on table retention is 'One row, or none if no events were ever dropped';
comment on column retention.takes_from is
    'Events before this time are not accepted. The trigger events_expired contains the same time';
comment on column retention.horizon is
    'Events before this time are dropped: questions never read them from events, even if rows are left';
comment on column retention.published_at is 'When the horizon was last set';

comment on table adopted_tables is
    'Tables of the platform whose rows are stored as events too. Rows stay after a release, so that a '
    'row of a table never gets another event_id';
comment on column adopted_tables.table_name is
    'The name of the table when it was adopted, from which event ids are made';
comment on column adopted_tables.fields is 'Which column of the table is which field of an event';
comment on column adopted_tables.released_at is 'When the trigger was removed; null: it is there';

comment on table adopted_parts is 'Progress of copying an adopted table, per table or partition';
comment on column adopted_parts.part is 'Oid of the table or partition';
comment on column adopted_parts.pages is 'Pages that it had when copying started';
comment on column adopted_parts.copied is 'Pages that are copied';

comment on table rejected_rows is 'Rows of adopted tables that are not valid events; the first 8 MB of them';
comment on column rejected_rows.key is 'Primary key of the row, as text';

comment on function refuse_change_of_events() is
    'Trigger function: allows changes of events only to transactions of this service';
comment on function leave_out_suppressed_event() is
    'Trigger function: does not store events of users on the denylist';
comment on function refuse_expired_event() is
    'Trigger function: does not store events that are older than retention allows';
comment on function adopted_json(text) is 'The text as jsonb; false if it is not valid';
