-- Answers queries of one partition in one consistent read. Writes nothing.
-- KEYS[1]  PREFIX:{PARTITION}:state; holders as in apply.lua
-- ARGV[1]  n, the number of coupons; ARGV[2 .. 1 + n] their ids
-- then three for each query: place 1..n of its coupon, userId, offset
-- Returns false when missing, else {next, clock, coupons, holders, malformed}
--   coupons    one each: {changes} | {} without state | false when damaged
--   holders    one a query: the holder's text or ''
--   malformed  places 1.. of the queries whose offset holds an entry that could not be read

local stateKey = KEYS[1]
local couponCount = tonumber(ARGV[1])
local couponsAt = 1
local queriesAt = 2 + couponCount
local queryCount = (#ARGV - queriesAt + 1) / 3
local unpackMax = 2000

local function hmget(key, fields)
  if #fields <= unpackMax then return #fields == 0 and {} or redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for first = 1, #fields, unpackMax do
    local part = redis.call('HMGET', key, unpack(fields, first, math.min(first + unpackMax - 1, #fields)))
    for i = 1, #part do values[first + i - 1] = part[i] end
  end
  return values
end

local head = redis.call('HMGET', stateKey, 'next', 'build', 'malformed', 'clock')
if not head[1] then return false end
local holdersPrefix = string.sub(stateKey, 1, -6) .. 'holders:' .. head[2] .. ':'

local fields = {}
for i = 1, couponCount do
  fields[2 * i - 1] = 's:' .. ARGV[couponsAt + i]
  fields[2 * i] = 'c:' .. ARGV[couponsAt + i]
end
local texts = hmget(stateKey, fields)

local coupons, asked, askedBy = {}, {}, {}
for i = 1, couponCount do
  coupons[i] = {}
  if texts[2 * i - 1] then
    local taken = tonumber(string.match(texts[2 * i - 1], '^%d+'))
    local whole = taken == redis.call('HLEN', holdersPrefix .. ARGV[couponsAt + i])
    coupons[i] = whole and {texts[2 * i]} or false
    if whole and taken > 0 then asked[i], askedBy[i] = {}, {} end
  end
end

local holders, offsets = {}, {}
for q = 1, queryCount do
  local at = queriesAt + 3 * (q - 1)
  local i = tonumber(ARGV[at])
  holders[q] = ''
  offsets[q] = 'm:' .. ARGV[at + 2]
  if asked[i] then
    local n = #asked[i] + 1
    asked[i][n] = ARGV[at + 1]
    askedBy[i][n] = q
  end
end
for i = 1, couponCount do
  if asked[i] then
    local found = hmget(holdersPrefix .. ARGV[couponsAt + i], asked[i])
    for n = 1, #found do
      if found[n] then holders[askedBy[i][n]] = found[n] end
    end
  end
end

local malformed = {}
if head[3] ~= '0' then
  local found = hmget(stateKey, offsets)
  for q = 1, queryCount do
    if found[q] then malformed[#malformed + 1] = q end
  end
end
return {head[1], head[4], coupons, holders, malformed}
