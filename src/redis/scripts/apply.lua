-- Decides one batch of entries of one partition. The twin of PartitionFold in src/sale.ts: same entries, same
-- decisions, same order of precedence. Everything is read and decided first; after the first write nothing can fail.
--
-- KEYS[1]  PREFIX:{PARTITION}:state, a hash; the fields are described in src/redis/texts.ts.
--          Holders are in PREFIX:{PARTITION}:holders:BUILD:COUPON. Their names come from the build that the state
--          names, so they cannot be declared; they share the hash tag and thus the slot of KEYS[1].
-- ARGV[1]  build expected
-- ARGV[2]  from, ARGV[3] next: offsets of the batch
-- ARGV[4]  hash of the last entry before next
-- ARGV[5]  the greatest stock of a coupon, units
-- ARGV[6]  n, the number of coupons named; ARGV[7 .. 6 + n] their ids
-- then four for each entry, in the order of the log; i is the place 1..n of its coupon in the list above:
--          request      i         userId                          offset:key:at   at, ms since 1970
--          opened       'o' .. i  stock:opensAt:closesAt, ms|-    offset          at
--          stock added  'a' .. i  add:key                         offset          at
--          closed       'c' .. i  ''                              offset          at
--          malformed    'm'       ''                              offset          at
--
-- Returns {'missing'} | {'damaged', why} | {'gap', next, told}
--   | {'applied', decided, next, clock, hash, malformed, unknown, marks, recorded, changes, coupons}
--   marks     a letter an entry: 'w' won now, with the slot after the coupon's one before; 'h' won before; '-' neither.
--             It spares a number's text for each winner, which is what costs most here.
--   recorded  for each 'h' the holder's text
--   changes   flat pairs {place of the entry 1.., sale change's text}, in order
--   coupons   one each: 'taken:duplicated:closed:not_open:sold_out', taken as of before, the rest as of after; or ''
--             without state
-- Offsets and times in replies and texts are decimal text: Lua and cjson would shorten numbers above 1e14.

local ARGV = ARGV
local stateKey = KEYS[1]
local buildExpected = ARGV[1]
local from = tonumber(ARGV[2])
local nextWanted = tonumber(ARGV[3])
local hashWanted = ARGV[4]
local stockMax = tonumber(ARGV[5])
local couponCount = tonumber(ARGV[6])
local couponsAt = 6
local entriesAt = 7 + couponCount
local entryCount = (#ARGV - entriesAt + 1) / 4
local unpackMax = 2000

local match, byte, find, sub = string.match, string.byte, string.find, string.sub
local function int(n) return string.format('%.0f', n) end

local function hmget(key, fields)
  if #fields <= unpackMax then return #fields == 0 and {} or redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for first = 1, #fields, unpackMax do
    local part = redis.call('HMGET', key, unpack(fields, first, math.min(first + unpackMax - 1, #fields)))
    for i = 1, #part do values[first + i - 1] = part[i] end
  end
  return values
end

local function hset(key, pairsFlat)
  for first = 1, #pairsFlat, unpackMax do
    redis.call('HSET', key, unpack(pairsFlat, first, math.min(first + unpackMax - 1, #pairsFlat)))
  end
end

-- Where the partition is. ---------------------------------------------------------------------------------------

local head = redis.call('HMGET', stateKey,
  'next', 'told', 'clock', 'hash', 'build', 'strays_malformed', 'strays_unknown', 'malformed')
if not head[1] then return {'missing'} end
local build = head[5]
if build ~= buildExpected then return {'damaged', 'build ' .. build .. ' is there, not ' .. buildExpected} end
local next = tonumber(head[1])
if from > next then return {'gap', head[1], head[2]} end
local clock = tonumber(head[3])
local straysMalformed = tonumber(head[6])
local straysUnknown = tonumber(head[7])
local malformedKept = tonumber(head[8])

-- The coupons named. --------------------------------------------------------------------------------------------

-- By their place as text, as the entries name them.
local holdersPrefix = sub(stateKey, 1, -6) .. 'holders:' .. build .. ':'
local sales = {}
local saleFields = {}
for i = 1, couponCount do saleFields[i] = 's:' .. ARGV[couponsAt + i] end
local saleTexts = hmget(stateKey, saleFields)

local function parseTime(text) return text ~= '-' and tonumber(text) or nil end

for i = 1, couponCount do
  if saleTexts[i] then
    local taken, duplicated, closed, notOpen, soldOut, stock, opensAt, closesAt, isClosed, phase =
      match(saleTexts[i], '^(%d+):(%d+):(%d+):(%d+):(%d+):(%d+):([%d-]+):([%d-]+):([01]):([a-z_]+)$')
    local couponId = ARGV[couponsAt + i]
    local holdersKey = holdersPrefix .. couponId
    local holders = redis.call('HLEN', holdersKey)
    if holders ~= tonumber(taken) then
      return {'damaged', couponId .. ' has ' .. taken .. ' slots taken and ' .. holders .. ' holders'}
    end
    sales[int(i)] = {
      taken = holders, takenBefore = taken, stock = tonumber(stock), isClosed = isClosed == '1', phase = phase,
      opensAtText = opensAt, closesAtText = closesAt, opensAt = parseTime(opensAt), closesAt = parseTime(closesAt),
      duplicated = tonumber(duplicated), closed = tonumber(closed),
      not_open = tonumber(notOpen), sold_out = tonumber(soldOut),
      holdersKey = holdersKey, asked = {}, askedBy = {}, fresh = {}, freshPairs = {},
    }
  end
end

-- Who of the users holds one already: one read a coupon. --------------------------------------------------------

local held = {}
for e = 1, entryCount do
  local at = entriesAt + 4 * (e - 1)
  local sale = sales[ARGV[at]]
  if sale then
    local n = #sale.asked + 1
    sale.asked[n] = ARGV[at + 1]
    sale.askedBy[n] = e
  end
end
for i = 1, couponCount do
  local sale = sales[int(i)]
  if sale and sale.taken > 0 then
    local texts = hmget(sale.holdersKey, sale.asked)
    for n = 1, #texts do held[sale.askedBy[n]] = texts[n] end
  end
end

-- A coupon's changes, read when the first entry needs them.
local function changesOf(sale, i)
  if not sale.changes then sale.changes = redis.call('HGET', stateKey, 'c:' .. ARGV[couponsAt + tonumber(i)]) end
  return sale.changes
end

-- Decide. -------------------------------------------------------------------------------------------------------

local function phaseAt(sale)
  if sale.isClosed or (sale.closesAt and clock >= sale.closesAt) then return 'closed' end
  if sale.opensAt and clock < sale.opensAt then return 'not_open' end
  if sale.taken >= sale.stock then return 'sold_out' end
  return 'open'
end

local marks, holdersRecorded, changes = {}, {}, {}
local function emitChange(e, text)
  changes[#changes + 1] = e
  changes[#changes + 1] = text
end

-- Notes the sale's terms with a new phase; `key` is that of a stock entry, else '-'.
local function change(sale, i, e, offset, at, phase, key)
  local text = offset .. ':' .. at .. ':' .. int(sale.stock) .. ':' .. sale.opensAtText .. ':' .. sale.closesAtText
    .. ':' .. (sale.isClosed and '1' or '0') .. ':' .. phase .. ':' .. key
  sale.phase = phase
  sale.changes = sale.isNew and not sale.changes and text or changesOf(sale, i) .. ';' .. text
  sale.changed = true
  emitChange(e, text)
end

-- What an entry before `next` changed when it was decided.
local function recorded(e, i, offset)
  local sale = sales[i]
  if not sale then return end
  local holder = held[e]
  if holder and match(holder, '^%d+:(%d+):') == offset then
    marks[e] = 'h'
    holdersRecorded[#holdersRecorded + 1] = holder
  end
  local all = ';' .. changesOf(sale, i) .. ';'
  local start = find(all, ';' .. offset .. ':', 1, true)
  if start then emitChange(e, sub(all, start + 1, find(all, ';', start + 1, true) - 1)) end
end

local function decideRequest(e, i, userId, tail, at)
  local sale = sales[i]
  if not sale then
    straysUnknown = straysUnknown + 1
    return
  end
  sale.touched = true
  local phase = phaseAt(sale)
  if held[e] or sale.fresh[userId] then
    sale.duplicated = sale.duplicated + 1
  elseif phase == 'open' then
    local slot = sale.taken + 1
    local freshPairs = sale.freshPairs
    local n = #freshPairs
    freshPairs[n + 1] = userId
    freshPairs[n + 2] = slot .. ':' .. tail
    sale.fresh[userId] = true
    sale.taken = slot
    marks[e] = 'w'
    phase = phaseAt(sale)
  else
    sale[phase] = sale[phase] + 1
  end
  if phase ~= sale.phase then change(sale, i, e, match(tail, '^%d+'), at, phase, '-') end
end

local function decideTerms(e, kind, i, terms, offset, at)
  local sale = sales[i]
  local changed = false
  local keyNoted = '-'
  if kind == 'o' and not sale then
    local stock, opensAt, closesAt = match(terms, '^(%d+):([%d-]+):([%d-]+)$')
    sale = {
      taken = 0, takenBefore = '0', stock = tonumber(stock), isClosed = false, isNew = true,
      opensAtText = opensAt, closesAtText = closesAt, opensAt = parseTime(opensAt), closesAt = parseTime(closesAt),
      duplicated = 0, closed = 0, not_open = 0, sold_out = 0,
      holdersKey = holdersPrefix .. ARGV[couponsAt + tonumber(i)], fresh = {}, freshPairs = {},
    }
    sales[i] = sale
    changed = true
  elseif kind == 'a' and sale then
    local add, key = match(terms, '^(%d+):(%x+)$')
    local stock = sale.stock + tonumber(add)
    local refused = phaseAt(sale) == 'closed' or stock > stockMax
    if not refused and not find(changesOf(sale, i) .. ';', ':' .. key .. ';', 1, true) then
      sale.stock = stock
      keyNoted = key
      changed = true
    end
  elseif kind == 'c' and sale and not sale.isClosed then
    sale.isClosed = true
    changed = true
  end
  if not sale then return end
  local phase = phaseAt(sale)
  if changed or phase ~= sale.phase then
    sale.touched = true
    change(sale, i, e, offset, at, phase, keyNoted)
  end
end

local decided = 0
local malformedNew = {}
local replaying = from < next
-- Entries appended together have the same time: its text is read once.
local atBefore = nil
for e = 1, entryCount do
  local a = entriesAt + 4 * (e - 1)
  local what, tail, at = ARGV[a], ARGV[a + 2], ARGV[a + 3]
  marks[e] = '-'
  if replaying then
    local offset = match(tail, '^%d+')
    replaying = tonumber(offset) < next
    if replaying and what ~= 'm' then recorded(e, match(what, '%d+'), offset) end
  end
  if not replaying then
    decided = decided + 1
    if at ~= atBefore then
      atBefore = at
      clock = math.max(clock, tonumber(at))
    end
    if what == 'm' then
      straysMalformed = straysMalformed + 1
      malformedNew[#malformedNew + 1] = tail
    elseif byte(what) <= 57 then
      decideRequest(e, what, ARGV[a + 1], tail, at)
    else
      decideTerms(e, sub(what, 1, 1), sub(what, 2), ARGV[a + 1], tail, at)
    end
  end
end

-- Write. --------------------------------------------------------------------------------------------------------

local function countsText(sale)
  return int(sale.duplicated) .. ':' .. int(sale.closed) .. ':' .. int(sale.not_open) .. ':' .. int(sale.sold_out)
end

local hash = head[4]
if nextWanted > next then
  next = nextWanted
  hash = hashWanted
  local fields = {
    'next', int(next), 'clock', int(clock), 'hash', hash, 'strays_malformed', int(straysMalformed),
    'strays_unknown', int(straysUnknown), 'malformed', int(malformedKept + #malformedNew),
  }
  local function set(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  for n = 1, #malformedNew do set('m:' .. malformedNew[n], '1') end
  for i = 1, couponCount do
    local sale = sales[int(i)]
    if sale and sale.touched then
      set('s:' .. ARGV[couponsAt + i], int(sale.taken) .. ':' .. countsText(sale) .. ':' .. int(sale.stock)
        .. ':' .. sale.opensAtText .. ':' .. sale.closesAtText .. ':' .. (sale.isClosed and '1' or '0')
        .. ':' .. sale.phase)
      if sale.changed then set('c:' .. ARGV[couponsAt + i], sale.changes) end
      hset(sale.holdersKey, sale.freshPairs)
    end
  end
  hset(stateKey, fields)
end

local coupons = {}
for i = 1, couponCount do
  local sale = sales[int(i)]
  coupons[i] = sale and sale.takenBefore .. ':' .. countsText(sale) or ''
end
return {
  'applied', decided, int(next), int(clock), hash, int(straysMalformed), int(straysUnknown),
  table.concat(marks), holdersRecorded, changes, coupons,
}
