-- Takes values from the head of a queue: they are gone from it.
-- KEYS[1]  PREFIX:{PARTITION}:queue:LOG, as in queue_push.lua
-- ARGV[1]  how many at most
-- Returns {the counter or '', then 'offset|at|value' each}.

local queueKey = KEYS[1]
local max = ARGV[1]

local answer = {redis.call('GET', queueKey .. ':next') or ''}
for _, item in ipairs(redis.call('LPOP', queueKey, max) or {}) do answer[#answer + 1] = item end
return answer
