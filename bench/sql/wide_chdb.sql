-- name: filtered_events
select count() as events
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_users
select count() as events, uniqExactIf(user_id, user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_per_day
-- The total comes last, with 1970-01-01 as its day.
select   toDate(occurred_at) as day, count() as events,
         uniqExactIf(user_id, user_id <> '') as users
from     events
where    occurred_at >= '{start}' and occurred_at < '{end}' and {filter}
group by day with totals
order by day

-- name: wide_users
select count() as events, uniqExactIf(user_id, user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: breakdown
-- The ten values with the most events, all others if there are any, and the total.
with top as (
    select   {by}
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}'
    group by {by}
    order by count() desc, {by}
    limit    10
)
select   count() as events, uniqExactIf(user_id, user_id <> '') as users
from     events
where    occurred_at >= '{start}' and occurred_at < '{end}'
group by if(({by}) in top, toString(tuple({by})), '') as value with totals
order by value = '', events desc

-- name: funnel
-- The users who reach each step by events after an entry that is at most 7 days before.
select countIf(level >= 1), countIf(level >= 2), countIf(level >= 3)
from   (
    select   windowFunnel(604800000000, 'strict_once')(
                 toUInt64(toUnixTimestamp64Micro(occurred_at)),
                 event_name = '{steps[0]}' and occurred_at < '{end}',
                 event_name = '{steps[1]}',
                 event_name = '{steps[2]}'
             ) as level
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{followed}'
    and      event_name in {steps} and user_id <> ''
    group by user_id
)
