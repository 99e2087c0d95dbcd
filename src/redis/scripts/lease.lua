-- Takes a lease, makes it last, or gives it back.
-- KEYS[1]  PREFIX:lease:NAME, a string: who holds it
-- ARGV[1]  who asks   ARGV[2] how long it is to last, ms; 0 gives it back
-- Returns 1 when the asker holds it (or held it until now), 0 when another does.

local leaseKey = KEYS[1]
local asker = ARGV[1]
local lastsMs = ARGV[2]

local holder = redis.call('GET', leaseKey)
if holder and holder ~= asker then return 0 end
if lastsMs == '0' then
  redis.call('DEL', leaseKey)
else
  redis.call('SET', leaseKey, asker, 'PX', lastsMs)
end
return 1
