-- Writes what became of one persist batch, and wakes those who wait.
-- KEYS[1]  PREFIX:{PARTITION}:board, a hash: changeNext, committedNext, 'a:OFFSET' for each winner set aside
-- ARGV[1]  base, ARGV[2] changeNext: places in the change log
-- ARGV[3]  committedNext: a place in the request log
-- ARGV[4]  channel   ARGV[5] message
-- ARGV[6]  n, the number of offsets set aside; ARGV[7 .. 6 + n] these offsets
-- then     offsets that are set aside no longer
-- Returns 'ok' or 'behind'.
-- The message is published first, since publishing may be refused and nothing may fail after a write. Whoever is
-- woken reads only after this script has ended.

local boardKey = KEYS[1]
local base = tonumber(ARGV[1])
local changeNext = tonumber(ARGV[2])
local committedNext = ARGV[3]
local channel = ARGV[4]
local message = ARGV[5]
local addedCount = tonumber(ARGV[6])
local addedAt = 7
local removedAt = addedAt + addedCount

local there = redis.call('HGET', boardKey, 'changeNext')
if not there then return 'behind' end
-- An update that was long on its way may name a base that it never saw: the board never goes back.
if tonumber(there) ~= base or changeNext < base then return tonumber(there) >= changeNext and 'ok' or 'behind' end

redis.call('PUBLISH', channel, message)
redis.call('HSET', boardKey, 'changeNext', ARGV[2], 'committedNext', committedNext)
for i = addedAt, removedAt - 1 do redis.call('HSET', boardKey, 'a:' .. ARGV[i], '1') end
for i = removedAt, #ARGV do redis.call('HDEL', boardKey, 'a:' .. ARGV[i]) end
return 'ok'
