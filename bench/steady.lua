-- For wrk: each connection pauses PAUSE_MS before each request; prints percentiles in us at the end.
local pause = tonumber(os.getenv('PAUSE_MS'))

function delay()
    return pause
end

function done(_, latency, _)
    io.write('percentiles')
    for _, percent in ipairs({ 50, 99, 99.9 }) do
        io.write(' ', latency:percentile(percent))
    end
    io.write('\n')
end
