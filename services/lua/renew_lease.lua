-- A sign of life of whoever computes a page; not of one who was taken for dead and replaced.
--
-- KEYS  flight
-- ARGV  token of the request, ms a flight lives without a sign of life
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.status_reply('OK')
