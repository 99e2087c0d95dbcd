-- One POST after the other, each from another user. Arguments: path, prefix of the user ids, body (may be empty). With
-- `*` in the path the requests go in turn to the paths that have 0 to 99 in its place. A fourth argument is the status
-- that each answer should have: others are counted.
local heads, tail = {}, nil
local n = 0
local placesMax = 100
local threads = {}
others = 0

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  local path, prefix, body = args[1], args[2], args[3] or ""
  local places = path:find("*", 1, true) and placesMax or 1
  for i = 1, places do
    local one = path:gsub("%*", tostring(i - 1))
    heads[i] = "POST " .. one .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User-Id: " .. prefix
  end
  tail = "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  if #body > 0 then tail = "\r\nContent-Type: application/json" .. tail end
  local expected = tonumber(args[4])
  -- With it the tool keeps the heads and bodies of answers for us, which costs it time.
  if expected then
    function response(status)
      if status ~= expected then others = others + 1 end
    end
  end
end

function request()
  n = n + 1
  return heads[n % #heads + 1] .. n .. tail
end

-- Times in microseconds.
function done(summary, latency)
  local e = summary.errors
  local form = '{"duration":%d,"requests":%d,"refused":%d,"others":%d,"broken":%d,"p50":%d,"p99":%d}'
  local broken = e.connect + e.read + e.write + e.timeout
  io.write("\n" .. string.format(form, summary.duration, summary.requests, e.status, threads[1]:get("others"), broken,
    latency:percentile(50), latency:percentile(99)) .. "\n")
end
