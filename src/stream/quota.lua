-- Takes permits out of a bucket that all nodes share. Time is Redis's own, in microseconds.
-- KEYS: the bucket. ARGV: permits per second, burst, permits wanted.
-- Gives {permits, milliseconds until there is one when there was none}.
-- A bucket that is not there begins empty, so that a Redis that lost its keys gives nobody a second burst.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local rate, burst, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(known[1] or '0'), tonumber(known[2] or '0')
if at == 0 or now < at then
  at = now
end
level = math.min(burst, level + (now - at) * rate / 1000000)
local got = math.min(want, math.floor(level))
level = level - got
-- Written out: Lua's own conversion keeps 14 digits, and the instant has 16.
redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], 3600000)
local wait = 0
if got == 0 then
  wait = math.ceil((1 - level) * 1000 / rate)
end
return {got, wait}
