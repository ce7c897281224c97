-- What wrk sends for `crossfade bench proxy`, and how it says what came back. Arguments: target, mean pause in ms, and
-- "same" when one request is to be sent again and again.
local target, pause, same, number, parts

function init(arguments)
  target, pause, same = arguments[1], tonumber(arguments[2]), arguments[3] == "same"
  number = 0
  -- Ordinary fields; the last two differ with every request, as tracing makes them. No credentials: those are no shadows.
  parts = " HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: wrk/4\r\nAccept: application/json\r\n" ..
    "Accept-Language: en-GB,en;q=0.8\r\nAccept-Encoding: identity\r\nX-Client: bench/1.0 (linux; x86_64)\r\n"
  if pause > 0 then
    delay = function() return math.floor(-math.log(1 - math.random()) * pause + 0.5) end
  end
end

function request()
  if not same then number = number + 1 end
  local id = string.format("%016x", number)
  return "GET " .. target .. "?n=" .. id .. parts .. "X-Request-Id: " .. id ..
    "\r\ntraceparent: 00-" .. id .. id .. "-" .. id .. "-01\r\n\r\n"
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "bytes": %d, "seconds": %.6f, "p50": %.6f, "p99": %.6f, "failed": %d}\n',
    summary.requests, summary.bytes, summary.duration / 1e6,
    latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
