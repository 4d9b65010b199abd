-- name: filtered_events
select count(*) as events
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_users
select count(*) as events, count(distinct user_id) filter (user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: filtered_per_day
-- Counts of each user and day, for the days and for their total; grouping sets take longer.
with counts as materialized (
    select   epoch_us(occurred_at) // 86400000000 as day, user_id, count(*) as events
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}' and {filter}
    group by day, user_id
)
select   day, sum(events)::bigint as events, count(*) filter (user_id <> '') as users
from     counts
group by day
union    all
select   null, sum(events)::bigint, count(distinct user_id) filter (user_id <> '')
from     counts
order by day nulls last

-- name: wide_users
select count(*) as events, count(distinct user_id) filter (user_id <> '') as users
from   events
where  occurred_at >= '{start}' and occurred_at < '{end}' and {filter}

-- name: breakdown
-- The ten values with the most events, all others if there are any, and the total.
with counts as materialized (
    select   {by}, user_id, count(*) as events
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}'
    group by all
), top as materialized (
    select   {by}, sum(events)::bigint as events, count(*) filter (user_id <> '') as users
    from     counts
    group by all
    order by events desc, {by}
    limit    10
)
select events, users
from   (
    select 0 as part, events, users
    from   top
    union  all
    select 1, sum(events)::bigint, count(distinct user_id) filter (user_id <> '')
    from   counts
    anti   join top using ({by})
    having count(*) > 0
    union  all
    select 2, sum(events)::bigint, count(distinct user_id) filter (user_id <> '')
    from   counts
)
order by part, events desc

-- name: funnel
-- The users who reach each step by events after an entry that is at most 7 days before. For each
-- event, `began` is the latest entry of a chain that has reached the step before it.
with steps as (
    select user_id, occurred_at, occurred_at < '{end}' as may_enter,
           case event_name when '{steps[0]}' then 1 when '{steps[1]}' then 2 else 3 end as step
    from   events
    where  occurred_at >= '{start}' and occurred_at < '{until}'
    and    event_name in {steps} and user_id <> ''
), second as (
    select *, max(case when step = 1 and may_enter then occurred_at end) over chain as began
    from   steps
    window chain as (partition by user_id order by occurred_at, step)
), third as (
    select *, max(case when step = 2 and occurred_at <= began + interval '7 days' then began end)
              over chain as began_second
    from   second
    window chain as (partition by user_id order by occurred_at, step)
)
select count(distinct user_id) filter (where step = 1 and may_enter),
       count(distinct user_id) filter (where step = 2 and occurred_at <= began + interval '7 days'),
       count(distinct user_id) filter (
           where step = 3 and occurred_at <= began_second + interval '7 days'
       )
from   third

-- name: numbers
-- Both percentiles at once sort the numbers once.
with numbers as materialized (
    select occurred_at::date as day, amount
    from   events
    where  occurred_at >= '{start}' and occurred_at < '{end}' and amount is not null
), statistics as (
    select   day, count(*) as count, sum(amount) as sum,
             quantile_cont(amount::double, [0.5, 0.95]) as percentiles
    from     numbers
    group by grouping sets ((day), ())
)
select   day, count, sum, percentiles[1], percentiles[2]
from     statistics
order by day nulls last

-- name: funnel_times
-- The chain of each user that reaches furthest, and of these the first. `second` is the next event
-- of the second step, `third` the next one of the third step after that.
with steps as (
    select user_id, occurred_at, plan,
           case event_name when '{steps[0]}' then 1 when '{steps[1]}' then 2 else 3 end as step
    from   events
    where  occurred_at >= '{start}' and occurred_at < '{until}'
    and    event_name in {steps} and user_id <> ''
), followed as (
    select *, min(case when step = 2 then occurred_at end) over later as second,
           min(case when step = 3 then occurred_at end) over later as next_third
    from   steps
    window later as (partition by user_id order by occurred_at desc, step desc)
), chains as (
    select *, min(case when step = 2 then next_third end) over later as third
    from   followed
    window later as (partition by user_id order by occurred_at desc, step desc)
), entries as (
    select user_id, plan, occurred_at,
           case when second <= occurred_at + interval '7 days' then second end as second,
           case when third <= occurred_at + interval '7 days' then third end as third
    from   chains
    where  step = 1 and occurred_at < '{end}'
), reported as (
    select   distinct on (user_id) plan,
             (epoch_us(second) - epoch_us(occurred_at)) / 1e6 as to_second,
             (epoch_us(third) - epoch_us(second)) / 1e6 as to_third,
             (epoch_us(third) - epoch_us(occurred_at)) / 1e6 as whole
    from     entries
    order by user_id, third is null, second is null, occurred_at
), statistics as (
    select   plan, count(*) as entered, count(to_second) as reached, count(whole) as converted,
             avg(to_second) as avg_second, quantile_cont(to_second, [0.5, 0.9]) as second,
             avg(to_third) as avg_third, quantile_cont(to_third, [0.5, 0.9]) as third,
             avg(whole) as avg_whole, quantile_cont(whole, [0.5, 0.9]) as whole
    from     reported
    group by grouping sets ((plan), ())
)
select   plan, entered, reached, converted, avg_second, second[1], second[2],
         avg_third, third[1], third[2], avg_whole, whole[1], whole[2]
from     statistics
order by plan nulls last

-- name: retention_day
-- The days of a user as bits, from the first day of the range.
with users as (
    select   bit_or(1::bigint << (occurred_at::date - date '{first_day}')) as active,
             min(occurred_at)::date - date '{first_day}' as cohort
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
    select   bit_or(1::bigint << ((occurred_at::date - date '{first_monday}') // 7)) as active,
             min(occurred_at) as entered
    from     events
    where    occurred_at < '{until}' and user_id <> '' and {filter}
    group by user_id
), cohorts as (
    select active, (entered::date - date '{first_monday}') // 7 as cohort
    from   users
    where  entered >= '{start}' and entered < '{end}'
)
select   cohort,
       {counts}
from     cohorts
group by cohort
order by cohort

-- name: lifecycle
-- The days of a user as bits, from the day before the range, and the day of the first event.
with users as (
    select   min(occurred_at)::date - date '{first_day}' as entered,
             bit_or(
                 case when occurred_at >= '{day_before}'
                      then 1::bigint << (occurred_at::date - date '{first_day}' + 1) else 0 end
             ) as active
    from     events
    where    occurred_at < '{end}' and user_id <> ''
    group by user_id
)
select   count(*) filter (entered = day),
         count(*) filter (((active >> day) & 3) = 3),
         count(*) filter (((active >> day) & 3) = 2 and entered < day),
         count(*) filter (((active >> day) & 3) = 1)
from     users, range({days}) as days (day)
group by day
order by day

-- name: stickiness
with users as (
    select   bit_count(bit_or(1::bigint << (occurred_at::date - date '{first_day}'))) as days
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}' and user_id <> ''
    group by user_id
)
select   days, count(*)
from     users
group by days
order by days

-- name: did_not
select count(*)
from   (
    select   user_id
    from     events
    where    occurred_at >= '{start}' and occurred_at < '{end}'
    and      event_name in {did} and user_id <> ''
    group by user_id
    having   bool_or(event_name = '{did[0]}' and {filter})
    and      not bool_or(event_name = '{did[1]}')
)
