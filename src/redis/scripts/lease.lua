-- Takes a lease, makes it last, or gives it back. Who took it last is kept when it has lapsed: whoever finds another
-- there has lost it, even if nobody holds it any more.
-- KEYS[1]  PREFIX:lease:NAME, a string: who holds it. Who took it last is at KEYS[1]:taken, without an expiry.
-- ARGV[1]  who asks   ARGV[2] how long it is to last, ms; 0 gives it back
-- ARGV[3]  '1' to make last what the asker has
-- Returns 1 when the asker holds it (or held it until now), 0 when another does or did meanwhile.

local leaseKey = KEYS[1]
local takenKey = leaseKey .. ':taken'
local asker = ARGV[1]
local lastsMs = ARGV[2]
local isRenewal = ARGV[3] == '1'

local holder = redis.call('GET', leaseKey)
if holder and holder ~= asker then return 0 end
local taker = redis.call('GET', takenKey)
if isRenewal and taker and taker ~= asker then return 0 end
if lastsMs == '0' then
  redis.call('DEL', leaseKey)
else
  redis.call('SET', leaseKey, asker, 'PX', lastsMs)
  redis.call('SET', takenKey, asker)
end
return 1
