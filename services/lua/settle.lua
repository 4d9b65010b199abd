-- After a question: store its page, and give back what the request held.
--
-- KEYS  page, flight, slots
-- ARGV  token of the request, the page ('' where there is none), ms it is fresh, ms it is kept
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('DEL', KEYS[2])
end
redis.call('ZREM', KEYS[3], ARGV[1])
if ARGV[2] ~= '' then
    local moments = string.format('%013.0f%013.0f', now, now + ARGV[3])
    redis.call('SET', KEYS[1], moments .. ARGV[2], 'PX', ARGV[4])
end
return redis.status_reply('OK')
