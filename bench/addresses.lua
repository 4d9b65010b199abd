-- For wrk: requests the URLs of the file ADDRESSES one after another, with no-cache.
local addresses = {}
local at = 0

function init(_)
    for line in io.lines(os.getenv('ADDRESSES')) do
        addresses[#addresses + 1] = line
    end
    wrk.headers['Cache-Control'] = 'no-cache'
end

function request()
    at = at % #addresses + 1
    return wrk.format('GET', addresses[at])
end
