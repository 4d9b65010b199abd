-- Elsewhere new users are those who were never active before. These may have been, more than 29 days ago.
create or replace view daily_users as
select zone, day, starts_at, events, dau, wau, mau, dau::float8 / nullif(mau, 0) as stickiness,
       ends_at > counted_at as partial, counted_at,
       new_users, dau - new_users as returning_users,
       ends_at,
       new_users as new_or_resurrected_users
from   day_users;

comment on column daily_users.new_or_resurrected_users is
    'Users active on the day and on none of the 29 days before. Null until computed';
comment on column daily_users.new_users is 'Deprecated: use new_or_resurrected_users';
comment on column day_users.new_users is
    'Users active on the day and on none of the 29 days before. Null until computed';
