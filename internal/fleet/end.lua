-- Ends a cycle: no worker begins it any more, or adds results.
-- KEYS: the cycle, its results.
-- ARGV: token of the cycle, attempt, why, "1" to end it only if no worker has begun the attempt,
-- seconds to live.
-- Returns 1 if it is over, 0 if a worker has begun the attempt, or if the cycle is another
-- coordinator's, or has a newer attempt.
local known = redis.call("HMGET", KEYS[1], "token", "attempt", "run")
local attempt = tonumber(known[2] or "0")
if known[1] and known[1] ~= ARGV[1] or attempt > tonumber(ARGV[2]) then
	return 0
end
if ARGV[4] == "1" and known[3] and attempt == tonumber(ARGV[2]) then
	return 0
end
redis.call("HSET", KEYS[1], "token", ARGV[1], "attempt", ARGV[2], "ended", ARGV[3])
redis.call("EXPIRE", KEYS[1], ARGV[5])
redis.call("DEL", KEYS[2])
return 1
