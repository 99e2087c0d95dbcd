-- Adds holders to a build that is not yet the state. The keys of a build that is never finished expire.
-- KEYS[1]  PREFIX:{PARTITION}:holders:BUILD:COUPON
-- ARGV[1]  expiry, ms from now
-- then two for each holder: userId, its text
-- Returns the number of holders that are new.

local holdersKey = KEYS[1]
local expiryMs = ARGV[1]

local added = redis.call('HSET', holdersKey, unpack(ARGV, 2))
redis.call('PEXPIRE', holdersKey, expiryMs)
return added
