-- Record the time of an erasure. `store_and_release.lua` stores no response about users whose
-- computation began before it.
--
-- KEYS  time of the last erasure of this database; time of the last erasure of any database, which
--       older versions of the service read
-- ARGV  ms to keep these times: longer than the longest request
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', now), 'PX', ARGV[1])
end
return redis.status_reply('OK')
