-- Moves told forward: everything before it is known to be in the change log.
-- KEYS[1]  PREFIX:{PARTITION}:state
-- ARGV[1]  build expected   ARGV[2] from   ARGV[3] next: offsets
-- Returns the place of told as text, or false when refused: no state, another build, from beyond told, next beyond
-- what is decided.

local stateKey = KEYS[1]
local buildExpected = ARGV[1]
local from = tonumber(ARGV[2])
local wanted = tonumber(ARGV[3])

local head = redis.call('HMGET', stateKey, 'next', 'told', 'build')
if not head[1] or head[3] ~= buildExpected then return false end
local told = tonumber(head[2])
if from > told or wanted > tonumber(head[1]) then return false end
if wanted <= told then return head[2] end
local moved = string.format('%.0f', wanted)
redis.call('HSET', stateKey, 'told', moved)
return moved
