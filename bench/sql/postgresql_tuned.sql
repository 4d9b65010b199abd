-- name: events_per_day
-- An index-only scan per day, without a computation per row.
select day, (select count(*) from events where occurred_at >= day and occurred_at < next) as events
from   unnest(cast(array[{day_starts}] as timestamptz[]), cast(array[{day_ends}] as timestamptz[]))
       as days (day, next)

-- name: top_events
select   event_name, count(*) as events
from     events
where    occurred_at >= '{start}Z' and occurred_at < '{end}Z'
group by event_name
order by events desc, event_name
limit    10

-- name: unique_users
-- Without an expression, users are read in the order of an index and need no sort.
select count(distinct user_id) as users
from   events
where  occurred_at >= '{start}Z' and occurred_at < '{end}Z' and user_id <> ''

-- name: unique_users_per_day
select day, (select count(*) from (
           select distinct user_id
           from   events
           where  occurred_at >= day and occurred_at < next and user_id <> ''
       ) as users) as users
from   unnest(cast(array[{day_starts}] as timestamptz[]), cast(array[{day_ends}] as timestamptz[]))
       as days (day, next)

-- name: active_users
-- A bit per active day of a user; each window of each day is then a mask.
with people as (
    select   bit_or(cast(1 as bigint) << (width_bucket(
                 occurred_at, cast(array[{reached_starts}] as timestamptz[])) - 1)) as days
    from     events
    where    occurred_at >= '{reached_start}Z' and occurred_at < '{reached_end}Z' and user_id <> ''
    group by user_id
)
select {windows}
from   people

-- name: user_events
select   event_id, event_name, occurred_at, properties
from     events
where    user_id = '{user}' and occurred_at >= '{start}Z' and occurred_at < '{end}Z'
order by occurred_at desc, event_id desc
limit    50
