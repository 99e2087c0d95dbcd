-- Makes a filled build the state, only if nothing is there or still the build that it replaces. The build that goes,
-- the old one or ours, is dropped with its holders.
-- KEYS[1]  PREFIX:{PARTITION}:state; holders as in apply.lua
-- ARGV[1]  build that may be replaced, or ''
-- ARGV[2]  our build
-- ARGV[3]  n, the number of sales
-- ARGV[4]  m, the number of plain fields
-- then n times three: coupon id, text of its totals and terms, text of its changes
-- then m times two: field and value of the state
-- Returns 1 when ours is the state now, 0 when another is there.

local stateKey = KEYS[1]
local replaces = ARGV[1]
local build = ARGV[2]
local saleCount = tonumber(ARGV[3])
local fieldCount = tonumber(ARGV[4])
local salesAt = 5
local fieldsAt = salesAt + 3 * saleCount
local holdersPrefix = string.sub(stateKey, 1, -6) .. 'holders:'
local unpackMax = 2000

local there = redis.call('HGET', stateKey, 'build')
local wins = not there or there == replaces

if not wins then
  for i = 0, saleCount - 1 do redis.call('UNLINK', holdersPrefix .. build .. ':' .. ARGV[salesAt + 3 * i]) end
  return 0
end

local fields = {}
for i = 0, saleCount - 1 do
  local at = salesAt + 3 * i
  fields[#fields + 1] = 's:' .. ARGV[at]
  fields[#fields + 1] = ARGV[at + 1]
  fields[#fields + 1] = 'c:' .. ARGV[at]
  fields[#fields + 1] = ARGV[at + 2]
end
for i = fieldsAt, fieldsAt + 2 * fieldCount - 1 do fields[#fields + 1] = ARGV[i] end

local goes = {}
if there then
  for _, field in ipairs(redis.call('HKEYS', stateKey)) do
    if string.sub(field, 1, 2) == 's:' then
      goes[#goes + 1] = holdersPrefix .. there .. ':' .. string.sub(field, 3)
    end
  end
end

redis.call('UNLINK', stateKey)
for first = 1, #fields, unpackMax do
  redis.call('HSET', stateKey, unpack(fields, first, math.min(first + unpackMax - 1, #fields)))
end
for i = 0, saleCount - 1 do redis.call('PERSIST', holdersPrefix .. build .. ':' .. ARGV[salesAt + 3 * i]) end
for i = 1, #goes do redis.call('UNLINK', goes[i]) end
return 1
