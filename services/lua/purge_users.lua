-- After an erasure: what began to be computed before is not to be stored.
--
-- KEYS  since when, of this database; the same for older versions, which have one for all databases
-- ARGV  ms that the longest request may take
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(KEYS) do
    redis.call('SET', key, string.format('%.0f', now), 'PX', ARGV[1])
end
return redis.status_reply('OK')
