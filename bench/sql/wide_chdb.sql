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
    where    occurred_at >= '{start}' and occurred_at < '{until}'
    and      event_name in {steps} and user_id <> ''
    group by user_id
)

-- name: numbers
-- Both percentiles at once sort the numbers once. The total comes last.
select   toDate(occurred_at) as day, count(), sum(amount),
         (quantilesExactInclusive(0.5, 0.95)(toFloat64(assumeNotNull(amount))) as percentiles)[1],
         percentiles[2]
from     events
where    occurred_at >= '{start}' and occurred_at < '{end}' and amount is not null
group by day with totals
order by day

-- name: funnel_times
-- The chain of each user that reaches furthest, and of these the first. `second` is the next event
-- of the second step, `third` the next one of the third step after that; 9e18 if there is none.
with steps as (
    select user_id, toUnixTimestamp64Micro(occurred_at) as moment, plan,
           multiIf(event_name = '{steps[0]}', 1, event_name = '{steps[1]}', 2, 3) as step,
           occurred_at < '{end}' as may_enter
    from   events
    where  occurred_at >= '{start}' and occurred_at < '{until}'
    and    event_name in {steps} and user_id <> ''
), followed as (
    select *, min(if(step = 2, moment, 9000000000000000000)) over later as second,
           min(if(step = 3, moment, 9000000000000000000)) over later as next_third
    from   steps
    window later as (partition by user_id order by moment desc, step desc)
), chains as (
    select *, min(if(step = 2, next_third, 9000000000000000000)) over later as third
    from   followed
    window later as (partition by user_id order by moment desc, step desc)
), first_chains as (
    select   argMin(
                 (plan, moment, second, third),
                 (third - moment > {within_us}, second - moment > {within_us}, moment)
             ) as chain
    from     chains
    where    step = 1 and may_enter
    group by user_id
), reported as (
    select chain.1 as plan, chain.3 - chain.2 as to_second, chain.4 - chain.2 as whole,
           chain.4 - chain.3 as to_third
    from   first_chains
)
select   plan, count(), countIf(to_second <= {within_us}), countIf(whole <= {within_us}),
         avgIf(to_second, to_second <= {within_us}) / 1e6,
         (quantilesExactInclusiveIf(0.5, 0.9)(to_second, to_second <= {within_us}) as second)[1] / 1e6,
         second[2] / 1e6,
         avgIf(to_third, whole <= {within_us}) / 1e6,
         (quantilesExactInclusiveIf(0.5, 0.9)(to_third, whole <= {within_us}) as third)[1] / 1e6,
         third[2] / 1e6,
         avgIf(whole, whole <= {within_us}) / 1e6,
         (quantilesExactInclusiveIf(0.5, 0.9)(whole, whole <= {within_us}) as last)[1] / 1e6,
         last[2] / 1e6
from     reported
group by plan with totals
order by plan

-- name: retention_day
-- The days of a user as bits, from the first day of the range. The function `retention` counts one
-- cohort of up to 32 conditions, so it would be asked for each day.
with users as (
    select   groupBitOr(
                 bitShiftLeft(toUInt64(1), toDate(occurred_at) - toDate('{first_day}'))
             ) as active,
             toDate(min(occurred_at)) - toDate('{first_day}') as cohort
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{until}' and user_id <> ''
    group by user_id
)
select   cohort,
       {counts}
from     users
where    cohort < {days}
group by cohort
order by cohort

-- name: retention_week
-- The weeks of a user as bits, from the first week of all events.
with users as (
    select   groupBitOr(
                 bitShiftLeft(
                     toUInt64(1), intDiv(toDate(occurred_at) - toDate('{first_monday}'), 7)
                 )
             ) as active,
             min(occurred_at) as entered
    from     events
    where    occurred_at < '{until}' and user_id <> '' and {filter}
    group by user_id
    having   entered >= '{start}' and entered < '{end}'
)
select   intDiv(toDate(entered) - toDate('{first_monday}'), 7) as cohort,
       {counts}
from     users
group by cohort
order by cohort

-- name: lifecycle
-- The days of a user as bits, from the day before the range, and the day of the first event.
with users as (
    select   toDate(min(occurred_at)) - toDate('{first_day}') as entered,
             groupBitOrIf(
                 bitShiftLeft(
                     toUInt64(1), greatest(toDate(occurred_at) - toDate('{first_day}') + 1, 0)
                 ),
                 occurred_at >= '{day_before}'
             ) as active
    from     events
    where    occurred_at < '{end}' and user_id <> ''
    group by user_id
)
select   countIf(entered = day),
         countIf(bitAnd(bitShiftRight(active, day), 3) = 3),
         countIf(bitAnd(bitShiftRight(active, day), 3) = 2 and entered < day),
         countIf(bitAnd(bitShiftRight(active, day), 3) = 1)
from     users array join range({days}) as day
group by day
order by day

-- name: stickiness
with users as (
    select   bitCount(
                 groupBitOr(bitShiftLeft(toUInt64(1), toDate(occurred_at) - toDate('{first_day}')))
             ) as days
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}' and user_id <> ''
    group by user_id
)
select   days, count()
from     users
group by days
order by days

-- name: did_not
select uniqExact(user_id)
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}'
and    event_name = '{did[0]}' and user_id <> '' and {filter}
and    user_id not in (
    select user_id
    from   events
    where  occurred_at >= '{start}' and occurred_at < '{end}' and event_name = '{did[1]}'
)
