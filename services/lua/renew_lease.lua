-- Extend the lease of a request that still computes its response.
-- A lease that expired and was granted to another request is left alone.
--
-- KEYS  flight
-- ARGV  token of the request, ms that a lease lasts without renewal
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.status_reply('OK')
