-- Release the lease and the concurrency slot of a request, and store the response that it computed.
--
-- KEYS  response, flight, slots, time of the last erasure of users
-- ARGV  token of the request, token of the lease ('' for none), the response ('' for none),
--       ms that the response is fresh, ms that it is kept, time of the request's lookup in ms,
--       ms to keep the time of an erasure
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Release first: every return below must leave neither a lease nor a slot behind.
if redis.pcall('GET', KEYS[2]) == ARGV[2] then
    redis.call('DEL', KEYS[2])
end
redis.pcall('ZREM', KEYS[3], ARGV[1])
if ARGV[3] == '' then
    return redis.status_reply('OK')
end

-- If the clock was set back during the request, the order of its lookup and of an erasure is
-- unknown: store nothing.
local looked_up_at = tonumber(ARGV[6])
if looked_up_at > now then
    return redis.status_reply('OK')
end

-- A response whose computation began before an erasure may contain events of the erased user.
-- An erasure "in the future" means that the clock was set back: move it to now, so that it precedes
-- every lookup from now on.
local erasure = redis.pcall('GET', KEYS[4])
local erased_at = type(erasure) == 'string' and tonumber(erasure) or 0
if erased_at > now then
    redis.call('SET', KEYS[4], string.format('%.0f', now), 'PX', ARGV[7])
end
if looked_up_at <= erased_at then
    return redis.status_reply('OK')
end

-- A slow request must not replace the response of a request that did its lookup later, and thus saw
-- more events.
local stored = redis.pcall('GET', KEYS[1])
local fresh_until = type(stored) == 'string' and tonumber(string.sub(stored, 14, 26)) or 0
local stored_lookup_at = type(stored) == 'string' and tonumber(string.sub(stored, 27, 39)) or 0
if fresh_until > now and stored_lookup_at > looked_up_at and stored_lookup_at <= now then
    return redis.status_reply('OK')
end
-- 13 digits hold milliseconds until the year 2286.
local timestamps = string.format('%013.0f%013.0f%013.0f', now, now + ARGV[4], ARGV[6])
redis.call('SET', KEYS[1], timestamps .. ARGV[3], 'PX', ARGV[5])
return redis.status_reply('OK')
