-- Says that a worker is there.
-- KEYS: what workers say of themselves, when they were last heard of (hashes, by worker).
-- ARGV: name of the worker, what it says.
-- Returns 1.
local now = redis.call("TIME")
redis.call("HSET", KEYS[1], ARGV[1], ARGV[2])
redis.call("HSET", KEYS[2], ARGV[1], string.format("%d", now[1] * 1000 + math.floor(now[2] / 1000)))
return 1
