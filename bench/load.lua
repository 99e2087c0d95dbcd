-- One POST after the other, each from another user. Arguments: path, prefix of the user ids, body (may be empty).
local head, tail
local n = 0

function init(args)
  local path, prefix, body = args[1], args[2], args[3] or ""
  head = "POST " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User-Id: " .. prefix
  tail = "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  if #body > 0 then tail = "\r\nContent-Type: application/json" .. tail end
end

function request()
  n = n + 1
  return head .. n .. tail
end

-- Times in microseconds.
function done(summary, latency)
  local e = summary.errors
  local form = '{"duration":%d,"requests":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d}'
  local broken = e.connect + e.read + e.write + e.timeout
  io.write("\n" .. string.format(form, summary.duration, summary.requests, e.status, broken,
    latency:percentile(50), latency:percentile(99)) .. "\n")
end
