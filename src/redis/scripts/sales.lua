-- Reads the sales of some coupons of one partition. Writes nothing.
-- KEYS[1]  PREFIX:{PARTITION}:state; holders as in apply.lua
-- ARGV     coupon ids
-- Returns false when missing, else {next, clock in ms since 1970, then a coupon each: {taken, changes} | false}
--   false for a coupon without state or whose holders were lost

local stateKey = KEYS[1]
local couponIds = ARGV

local head = redis.call('HMGET', stateKey, 'next', 'clock', 'build')
if not head[1] then return false end
local holdersPrefix = string.sub(stateKey, 1, -6) .. 'holders:' .. head[3] .. ':'
local answer = {head[1], head[2]}
for i = 1, #couponIds do
  local texts = redis.call('HMGET', stateKey, 's:' .. couponIds[i], 'c:' .. couponIds[i])
  answer[2 + i] = false
  if texts[1] then
    local taken = string.match(texts[1], '^%d+')
    local holders = redis.call('HLEN', holdersPrefix .. couponIds[i])
    if tonumber(taken) == holders then answer[2 + i] = {taken, texts[2]} end
  end
end
return answer
