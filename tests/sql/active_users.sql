-- name: active_users
-- Changes of the number of active users per window and day. A user who is active on a day counts in a
-- window of n days on this day and the n - 1 days after it, or until the next active day: each interval
-- is +1 at its start and -1 at its end, and intervals of a user never overlap.
with days as (
    select distinct user_id, width_bucket(occurred_at, %(starts)s::timestamptz[]) - 1 as day
    from   events
    where  occurred_at >= %(start)s
    and    occurred_at <  %(end)s
    and    user_id <> ''
    and    (%(names)s::text[] is null or event_name = any(%(names)s))
),
active_days as (
    select day, lead(day) over (partition by user_id order by day) as next_day
    from   days
),
intervals as (
    select window_name, day as start_day, least(next_day, expiry_day) as end_day
    from   active_days
    cross  join lateral (values
        ('dau', day + 1),
        ('wau', day + 7),
        ('mau', day + 30),
        ('active', day + %(window)s),
        ('calendar_week', (%(week_ends)s::int[])[day + 1]),
        ('calendar_month', (%(month_ends)s::int[])[day + 1])
    ) as windows (window_name, expiry_day)
)
select window_name, day, sum(change)
from   intervals
cross  join lateral (values (start_day, 1), (end_day, -1)) as changes (day, change)
group  by window_name, day;

-- name: first_days
-- The number of users by the day of their first event; -1 is any day before.
select width_bucket(first_at, %(starts)s::timestamptz[]) - 1 as day, count(*)
from   (select min(occurred_at) as first_at
        from   events
        where  occurred_at < %(end)s
        and    user_id <> ''
        and    (%(names)s::text[] is null or event_name = any(%(names)s))
        group  by user_id) as users
group  by day;
