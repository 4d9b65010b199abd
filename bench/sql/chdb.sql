-- name: events_per_day
select   toDate(occurred_at, '{tz}') as day, count() as events
from     events
where    occurred_at >= '{start}' and occurred_at < '{end}'
group by day
order by day

-- name: top_events
select   event_name, count() as events
from     events
where    occurred_at >= '{start}' and occurred_at < '{end}'
group by event_name
order by events desc, event_name
limit    10

-- name: unique_users
select uniqExact(user_id) as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and user_id <> ''

-- name: unique_users_per_day
select   day, count() as users
from     (
    select   toDate(occurred_at, '{tz}') as day, user_id
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}' and user_id <> ''
    group by day, user_id
)
group by day
order by day

-- name: active_users
-- A bit per active day of a user; each window of each day is then a mask.
with people as (
    select   groupBitOr(bitShiftLeft(
                 toUInt64(1), toUInt32(toDate(occurred_at, '{tz}')) - {first_reached})) as days
    from     events
    where    occurred_at >= '{reached_start}' and occurred_at < '{reached_end}' and user_id <> ''
    group by user_id
)
select {windows}
from   people

-- name: user_events
select   event_id, event_name, occurred_at, properties
from     events
where    user_id = '{user}' and occurred_at >= '{start}' and occurred_at < '{end}'
order by occurred_at desc, toString(event_id) desc
limit    50
