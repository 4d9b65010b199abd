-- Check the caller's limits, read the cached response, and on a miss grant or refuse the lease to
-- compute it, in one round trip.
--
-- A stored response starts with three timestamps of 13 digits each, in ms: when it was stored, when
-- it stops being fresh, and when the request that computed it did its lookup.
--
-- The keys may hold anything, since other programs may write to the same Redis. A value of the wrong
-- type or out of range must neither make the script fail nor lift a limit: hence `pcall` and the
-- checks of types and ranges.
--
-- KEYS  response, flight, bucket, slots
-- ARGV  token of the request,
--       ms that a lease lasts without renewal (0: grant no lease),
--       requests per second (0: unlimited), concurrent questions (0: unlimited),
--       ms that a request may take,
--       '1' to skip the cached response, 'rate' to check the rate alone
-- Returns {verdict, remaining, wait_ms, holder, age_ms, fresh_ms, now_ms, response}:
--       verdict: 'hit', 'miss', or the limit that was reached: 'rate' or 'slots'
--       remaining: requests left in this second, -1 without a limit
--       wait_ms: until the bucket is full, or after 'rate' until the next request is allowed
--       holder: token of the request that holds the lease, '' for none
--       response: also one that is no longer fresh; false where there is none
local response_key, flight_key, bucket_key, slots_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, flight_ms = ARGV[1], ARGV[2]
local rate, concurrency, request_ms = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

-- The clock of Redis is the only one that all worker processes share.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- GCRA (generic cell rate algorithm): the whole state of a bucket is the time at which it is full.
local remaining, full_in = -1, 0
if rate > 0 then
    local step = 1000 / rate
    local stored = redis.pcall('GET', bucket_key)
    local full_at = type(stored) == 'string' and tonumber(stored) or now
    -- A bucket fills within a second: a later time is garbage, or the clock was set back.
    if not (full_at > now and full_at <= now + 1000) then
        full_at = now
    end
    local room = 1000 - (full_at - now)
    if room < step then
        return { 'rate', 0, math.ceil(step - room), '', 0, 0, now, false }
    end
    full_in = full_at + step - now
    -- The bucket is stored with 3 decimals, and this rounding must not cost a request.
    remaining = math.floor((1000 - full_in) / step + 0.0001)
    redis.call('SET', bucket_key, string.format('%.3f', full_at + step), 'PX', 2000)
end

if ARGV[6] == 'rate' then
    return { 'miss', remaining, full_in, '', 0, 0, now, false }
end

local response, age, fresh_for = false, 0, 0
if ARGV[6] ~= '1' then
    local stored = redis.pcall('GET', response_key)
    local stored_at = type(stored) == 'string' and tonumber(string.sub(stored, 1, 13))
    local fresh_until = stored_at and tonumber(string.sub(stored, 14, 26))
    -- After the clock was set back, the age of a response that was stored "in the future" is unknown, so it is
    -- not served. One second is tolerated.
    if fresh_until and stored_at <= now + 1000 then
        response, age, fresh_for = stored, math.max(now - stored_at, 0), fresh_until - now
    end
end
if response and fresh_for > 0 then
    return { 'hit', remaining, full_in, '', age, fresh_for, now, response }
end

if concurrency > 0 then
    -- A sorted set of tokens by the time at which they expire: a worker process that dies without
    -- releasing its slots loses them after `request_ms`.
    local expired = redis.pcall('ZREMRANGEBYSCORE', slots_key, '-inf', now)
    if type(expired) == 'table' then
        redis.call('DEL', slots_key)
    end
    -- No slot expires later than this, unless the clock was set back.
    redis.call('ZREMRANGEBYSCORE', slots_key, '(' .. now + request_ms, '+inf')
    if redis.call('ZCARD', slots_key) >= concurrency then
        return { 'slots', remaining, full_in, '', age, fresh_for, now, response }
    end
    redis.call('ZADD', slots_key, now + request_ms, token)
    redis.call('PEXPIRE', slots_key, request_ms)
end

local holder = ''
if tonumber(flight_ms) > 0 then
    -- A lease expires after `flight_ms` at most: a key that lasts longer, or does not expire, is
    -- not one.
    local ttl = redis.call('PTTL', flight_key)
    if ttl < 0 or ttl > tonumber(flight_ms) then
        redis.call('SET', flight_key, token, 'PX', flight_ms)
        holder = token
    else
        local held_by = redis.pcall('GET', flight_key)
        holder = type(held_by) == 'string' and held_by or 'garbage'
    end
end
return { 'miss', remaining, full_in, holder, age, fresh_for, now, response }
