-- Puts values at the end of a queue. Their offsets come from the queue's counter, their time from the server's clock.
-- KEYS[1]  PREFIX:{PARTITION}:queue:LOG, a list of 'offset|at, ms since 1970|value'. The counter, the offset that the
--          next value gets, is at KEYS[1]:next, the run of the server that it was begun under at KEYS[1]:run: a server
--          that was started again, or another one, may have an older copy of both. They share the hash tag and thus
--          the slot.
-- ARGV[1]  least offset that the first of the values may get
-- ARGV[2]  '1' to begin the queue there when it has no counter of this run
-- ARGV[3]  lease that the caller holds or '': nothing is written when another than ARGV[4] has taken it last. Its key
--          is in another slot: the server is a single one.
-- ARGV[4]  under which name it holds it
-- then     the values
-- Returns the offset of the first as text, or, with nothing written, '' when the lease is another's, and false when
-- there is no counter of this run and none is begun.

local queueKey = KEYS[1]
local counterKey, runKey = queueKey .. ':next', queueKey .. ':run'
local least = tonumber(ARGV[1])
local isBeginning = ARGV[2] == '1'
local leaseKey = ARGV[3]
local holder = ARGV[4]
local valuesAt = 5
local unpackMax = 2000
local function int(n) return string.format('%.0f', n) end

if leaseKey ~= '' and redis.call('GET', leaseKey .. ':taken') ~= holder then return '' end

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local counter = redis.call('GET', counterKey)
local isOfRun = counter and redis.call('GET', runKey) == run
if not isOfRun and not isBeginning then return false end
-- A counter that is behind what the caller has seen came back from an older copy.
local base = math.max(least, tonumber(counter or '0'))

local time = redis.call('TIME')
local at = int(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local items = {}
for i = 0, #ARGV - valuesAt do items[i + 1] = int(base + i) .. '|' .. at .. '|' .. ARGV[valuesAt + i] end

redis.call('SET', counterKey, int(base + #items))
if not isOfRun then redis.call('SET', runKey, run) end
for first = 1, #items, unpackMax do
  redis.call('RPUSH', queueKey, unpack(items, first, math.min(first + unpackMax - 1, #items)))
end
return int(base)
