-- Takes values from the head of a queue: they are gone from it.
-- A counter that is behind what was read before came back with an older copy: it is put there, for processes that know
-- less.
-- KEYS[1]  PREFIX:{PARTITION}:queue:LOG, as in queue_push.lua
-- ARGV[1]  how many at most
-- ARGV[2]  where the reader is
-- ARGV[3]  lease that the reader holds, ARGV[4] under which name, as in queue_push.lua
-- Returns {the counter or '', then 'offset|at|value' each}, or false, with nothing taken, when the lease is another's.

local queueKey = KEYS[1]
local max = ARGV[1]
local from = ARGV[2]
local leaseKey = ARGV[3]
local holder = ARGV[4]

if leaseKey ~= '' and redis.call('GET', leaseKey .. ':taken') ~= holder then return false end

local counterKey = queueKey .. ':next'
local counter = redis.call('GET', counterKey)
if counter and tonumber(counter) < tonumber(from) then
  counter = from
  redis.call('SET', counterKey, counter)
end
local answer = {counter or ''}
for _, item in ipairs(redis.call('LPOP', queueKey, max) or {}) do answer[#answer + 1] = item end
return answer
