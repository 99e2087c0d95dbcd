-- Begins to fill a build that is not yet the state: makes the key with an expiry, so that a build which is never
-- finished goes away. More holders are put beside the first by HSET, which leaves the expiry as it is.
-- KEYS[1]  PREFIX:{PARTITION}:holders:BUILD:COUPON
-- ARGV[1]  expiry, ms from now
-- ARGV[2]  userId, ARGV[3] its holder's text
-- Returns the number of holders that are new.

local holdersKey = KEYS[1]
local expiryMs = ARGV[1]
local userId = ARGV[2]
local holder = ARGV[3]

local added = redis.call('HSET', holdersKey, userId, holder)
redis.call('PEXPIRE', holdersKey, expiryMs)
return added
