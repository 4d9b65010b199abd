-- After an erasure: what began to be computed before is not to be stored.
--
-- KEYS  since when
-- ARGV  ms that the longest request may take
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', ARGV[1])
return redis.status_reply('OK')
