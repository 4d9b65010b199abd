-- After a question: store its page, and give back what the request held.
--
-- KEYS  page, flight, slots, since when users are forgotten
-- ARGV  token of the request, of the lease ('' for none), the page ('' where there is none),
--       ms it is fresh, ms it is kept, when the request looked it up, in ms, ms that an erasure counts
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if redis.pcall('GET', KEYS[2]) == ARGV[2] then
    redis.call('DEL', KEYS[2])
end
redis.pcall('ZREM', KEYS[3], ARGV[1])
if ARGV[3] == '' then
    return redis.status_reply('OK')
end

-- When the clock went back meanwhile, nobody can tell what the answer has seen.
local looked_up = tonumber(ARGV[6])
if looked_up > now then
    return redis.status_reply('OK')
end

-- An answer that began to be computed before an erasure may tell of who was erased. Was that at a
-- moment that is yet to come, the clock went back: the erasure is before what is looked up from now on.
local forgotten = redis.pcall('GET', KEYS[4])
local until_then = type(forgotten) == 'string' and tonumber(forgotten) or 0
if until_then > now then
    redis.call('SET', KEYS[4], string.format('%.0f', now), 'PX', ARGV[7])
end
if looked_up <= until_then then
    return redis.status_reply('OK')
end

-- Who came later saw more: an answer that took long must not replace what he stored meanwhile.
local stored = redis.pcall('GET', KEYS[1])
local till = type(stored) == 'string' and tonumber(string.sub(stored, 14, 26)) or 0
local since = type(stored) == 'string' and tonumber(string.sub(stored, 27, 39)) or 0
if till > now and since > looked_up and since <= now then
    return redis.status_reply('OK')
end
local moments = string.format('%013.0f%013.0f%013.0f', now, now + ARGV[4], ARGV[6])
redis.call('SET', KEYS[1], moments .. ARGV[3], 'PX', ARGV[5])
return redis.status_reply('OK')
