-- name: active_users
-- How the number of active users changes from day to day, for each window.
-- A user who is active on a day counts in a window of n days on that day and the n - 1 after it,
-- or until active again: so each stay is one step up and one step down, and none overlap.
with days as (
    select distinct user_id, width_bucket(occurred_at, %(starts)s::timestamptz[]) - 1 as day
    from   events
    where  occurred_at >= %(start)s
    and    occurred_at <  %(end)s
    and    user_id <> ''
    and    (%(names)s::text[] is null or event_name = any(%(names)s))
),
visits as (
    select day, lead(day) over (partition by user_id order by day) as next
    from   days
),
stays as (
    select window_name, day as since, least(next, lapse) as until
    from   visits
    cross  join lateral (values
        ('dau', day + 1),
        ('wau', day + 7),
        ('mau', day + 30),
        ('active', day + %(window)s),
        ('calendar_week', (%(week_ends)s::int[])[day + 1]),
        ('calendar_month', (%(month_ends)s::int[])[day + 1])
    ) as windows (window_name, lapse)
)
select window_name, day, sum(step)
from   stays
cross  join lateral (values (since, 1), (until, -1)) as steps (day, step)
group  by window_name, day;
