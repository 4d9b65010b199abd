-- name: analytics_in_range
-- The dates of the range as the axis of time, in UTC, shows them. East of Greenwich the local day begins
-- before the UTC date does; it is part of each range that ends now.
day between $__timeFrom()::date and $__timeTo()::date + 1
and (day <= $__timeTo()::date or (partial and $__timeTo()::timestamptz > now() - interval '5 minutes'));

-- name: analytics_zones
select zone from daily_users group by zone order by zone <> 'UTC', zone;

-- name: analytics_names
select   event_name
from     daily_events
where    zone = '$zone'
and      $days
group    by event_name
order    by sum(events) desc, event_name
limit    500;

-- name: analytics_today
-- The current day of the zone, whatever the range; no row if its statistics are not computed yet.
select   day::timestamp as time, dau
from     daily_users
where    zone = '$zone'
and      starts_at <= now()
and      ends_at > now();

-- name: analytics_whole
-- Only complete days: the current one would look like a drop.
select   day::timestamp as time, $column
from     daily_users
where    zone = '$zone'
and      $days
and      not partial
order    by 1;

-- name: analytics_events
select   day::timestamp as time,
         case when not partial then events end as "whole days",
         case when partial then events end as "today so far"
from     daily_users
where    zone = '$zone'
and      $days
order    by day;

-- name: analytics_new
select   day::timestamp as time, returning_users as "returning",
         new_or_resurrected_users as "new or resurrected"
from     daily_users
where    zone = '$zone'
and      $days
order    by day;

-- name: analytics_moves
-- Monthly active users of a day = those of the day before + new or resurrected users - users who left.
with moved as (
    select day, partial, new_or_resurrected_users,
           lag(mau) over (order by day) + new_or_resurrected_users - mau as left_users
    from   daily_users
    where  zone = '$zone'
    and    day >= $__timeFrom()::date - 1
)
select   day::timestamp as time, new_or_resurrected_users as "came", -left_users as "left"
from     moved
where    $days
order    by day;

-- name: analytics_top
with counted as (
    select   event_name, sum(events) as events, max(users) as users
    from     daily_events
    where    zone = '$zone'
    and      $days
    group    by event_name
)
select   event_name as "Event", events as "Events", events / sum(events) over () as "Share",
         users as "Most users in a day"
from     counted
order    by events desc, event_name
limit    20;

-- name: analytics_top_days
-- The eight most frequent event names of the range, and all others together.
with held as (
    select day, event_name, events
    from   daily_events
    where  zone = '$zone'
    and    $days
),
top as (
    select   event_name
    from     held
    group    by event_name
    order    by sum(events) desc, event_name
    limit    8
)
select   day::timestamp as time, coalesce(top.event_name, 'all others') as metric,
         sum(events) as events
from     held
left     join top using (event_name)
group    by 1, 2
order    by 1, sum(sum(events)) over (partition by coalesce(top.event_name, 'all others')) desc, 2;

-- name: analytics_chosen
-- $column of each chosen event name; if all are chosen, of the eight most frequent.
with held as (
    select day, event_name, events, users
    from   daily_events
    where  zone = '$zone'
    and    $days
    and    event_name in ($event)
),
top as (
    select   event_name
    from     held
    group    by event_name
    order    by sum(events) desc, event_name
    limit    8
)
select   day::timestamp as time, event_name as metric, $column
from     held
join     top using (event_name)
order    by 1, 2;

-- name: analytics_days
select   to_char(day, 'Dy YYYY-MM-DD') || case when partial then ' so far' else '' end as "Day",
         events as "Events", dau as "Active", new_or_resurrected_users as "New or resurrected",
         returning_users as "Returning",
         wau as "In 7 days", mau as "In 30 days", stickiness as "Stickiness"
from     daily_users
where    zone = '$zone'
and      $days
order    by day desc;
