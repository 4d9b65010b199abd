-- What SQL readers see: a bitmap can be counted by this program alone. The folder writes numbers for
-- the days of each declared zone, soon after they change; days that wait for it stand in numbers_due.

create table day_events (
    zone       text        not null,
    day        date        not null,
    event_name text        not null,
    events     bigint      not null,
    users      integer     not null,
    primary key (zone, day, event_name)
);

create table day_users (
    zone       text        not null,
    day        date        not null,
    starts_at  timestamptz not null,
    ends_at    timestamptz not null,
    events     bigint      not null,
    dau        integer     not null,
    wau        integer     not null,
    mau        integer     not null,
    counted_at timestamptz not null,
    primary key (zone, day)
);

create table numbers_due (
    zone text not null,
    day  date not null,
    primary key (zone, day)
);

create view daily_events as
select zone, day, starts_at, event_name, day_events.events, users, ends_at > counted_at as partial
from   day_events
join   day_users using (zone, day);

create view daily_users as
select zone, day, starts_at, events, dau, wau, mau, dau::float8 / nullif(mau, 0) as stickiness,
       ends_at > counted_at as partial, counted_at
from   day_users;

comment on view daily_events is 'Events and users of each day of a zone and each event name';
comment on view daily_users is 'Events of each day, and its daily, weekly and monthly active users';
comment on column daily_users.partial is 'Whether time has not finished the day';
