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
local unpackMax = 2000

local there = redis.call('HGET', boardKey, 'changeNext')
if there and there ~= replaces and tonumber(there) >= changeNext then return 0 end

redis.call('PUBLISH', channel, message)
redis.call('UNLINK', boardKey)
local fields = {'changeNext', ARGV[1], 'committedNext', committedNext}
for i = setAsideAt, #ARGV do
  fields[#fields + 1] = 'a:' .. ARGV[i]
  fields[#fields + 1] = '1'
end
for first = 1, #fields, unpackMax do
  redis.call('HSET', boardKey, unpack(fields, first, math.min(first + unpackMax - 1, #fields)))
end
return 1
