-- Replaces the whole board of a partition, unless it is there, not older, and not the one to replace; wakes those who
-- wait.
-- KEYS[1]  PREFIX:{PARTITION}:board, as in board_commit.lua
-- ARGV[1]  changeNext   ARGV[2] committedNext   ARGV[3] channel   ARGV[4] message
-- ARGV[5]  changeNext of the board to replace, '' for none
-- then     offsets set aside
-- Returns 1 when written, else 0.

local boardKey = KEYS[1]
local changeNext = tonumber(ARGV[1])
local committedNext = ARGV[2]
local channel = ARGV[3]
local message = ARGV[4]
local replaces = ARGV[5]
local setAsideAt = 6

local there = redis.call('HGET', boardKey, 'changeNext')
if there and there ~= replaces and tonumber(there) >= changeNext then return 0 end

redis.call('PUBLISH', channel, message)
redis.call('UNLINK', boardKey)
redis.call('HSET', boardKey, 'changeNext', ARGV[1], 'committedNext', committedNext)
for i = setAsideAt, #ARGV do redis.call('HSET', boardKey, 'a:' .. ARGV[i], '1') end
return 1
