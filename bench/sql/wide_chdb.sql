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
