-- Where days end, for SQL readers: which day it is in a zone is told by the edges that were counted,
-- whatever rules PostgreSQL has for the zone.

create or replace view daily_users as
select zone, day, starts_at, events, dau, wau, mau, dau::float8 / nullif(mau, 0) as stickiness,
       ends_at > counted_at as partial, counted_at,
       new_users, dau - new_users as returning_users,
       ends_at
from   day_users;
