-- Before a question: the caller's limits, the page, and else who computes it, in one round trip.
-- A page begins with three moments of 13 digits, in ms: when it was stored, until when it is fresh,
-- and when the request that computed it was here. What stands in these keys may be anybody's garbage:
-- it must neither stop answers nor let anybody through.
--
-- KEYS  page, flight, bucket, slots
-- ARGV  token of the request, ms a lease lasts without a sign of life (0: there is none to grant),
--       requests per second (0: any), requests at a time (0: any), ms a request may take,
--       '1' to overlook the page, 'rate' where there is none, and the rate alone is looked at
-- Returns what was found ('hit', 'miss'; 'rate', 'slots' where a limit was met), requests left,
-- ms until the bucket is full, or until another try, the token that holds the lease ('': none does),
-- age of the page and how long it stays fresh in ms, the time, and the page, also one not fresh.
local page_key, flight_key, bucket_key, slots_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, flight_ms = ARGV[1], ARGV[2]
local rate, at_once, request_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- GCRA: the bucket is one number, the moment when it will be full again.
local left, full_in = -1, 0
if rate > 0 then
    local step = 1000 / rate
    local stored = redis.pcall('GET', bucket_key)
    local full_at = type(stored) == 'string' and tonumber(stored) or now
    if not (full_at > now and full_at <= now + 1000) then
        full_at = now
    end
    local room = 1000 - (full_at - now)
    if room < step then
        return { 'rate', 0, math.ceil(step - room), '', 0, 0, now, false }
    end
    full_in = full_at + step - now
    left = math.floor((1000 - full_in) / step + 0.0001)
    redis.call('SET', bucket_key, string.format('%.3f', full_at + step), 'PX', 2000)
end

if ARGV[6] == 'rate' then
    return { 'miss', left, full_in, '', 0, 0, now, false }
end

local page, age, fresh_for = false, 0, 0
if ARGV[6] ~= '1' then
    local stored = redis.pcall('GET', page_key)
    local since = type(stored) == 'string' and tonumber(string.sub(stored, 1, 13))
    local till = since and tonumber(string.sub(stored, 14, 26))
    -- Of what was stored later than now the age cannot be told: the clock went back. A second is none.
    if till and since <= now + 1000 then
        page, age, fresh_for = stored, math.max(now - since, 0), till - now
    end
end
if page and fresh_for > 0 then
    return { 'hit', left, full_in, '', age, fresh_for, now, page }
end

if at_once > 0 then
    local ended = redis.pcall('ZREMRANGEBYSCORE', slots_key, '-inf', now)
    if type(ended) == 'table' then
        redis.call('DEL', slots_key)
    end
    redis.call('ZREMRANGEBYSCORE', slots_key, '(' .. now + request_ms, '+inf')
    if redis.call('ZCARD', slots_key) >= at_once then
        return { 'slots', left, full_in, '', age, fresh_for, now, page }
    end
    redis.call('ZADD', slots_key, now + request_ms, token)
    redis.call('PEXPIRE', slots_key, request_ms)
end

local holder = ''
if tonumber(flight_ms) > 0 then
    -- A lease lasts `flight_ms` at most: what stays longer is none.
    local lasts = redis.call('PTTL', flight_key)
    if lasts < 0 or lasts > tonumber(flight_ms) then
        redis.call('SET', flight_key, token, 'PX', flight_ms)
        holder = token
    else
        local held = redis.pcall('GET', flight_key)
        holder = type(held) == 'string' and held or 'garbage'
    end
end
return { 'miss', left, full_in, holder, age, fresh_for, now, page }
