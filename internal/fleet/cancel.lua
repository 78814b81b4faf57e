-- Asks the worker of an attempt to end it.
-- KEYS: the cycle.
-- ARGV: token of the cycle, attempt.
-- Returns {"ok", run, host}; {"foreign"} if the cycle is another coordinator's, or another attempt
-- is the newest; {"unknown"} if nothing is known of the cycle, as when Redis has lost it.
local known = redis.call("HMGET", KEYS[1], "token", "attempt", "run", "host")
if not known[1] then
	return {"unknown"}
end
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then
	return {"foreign"}
end
redis.call("HSET", KEYS[1], "cancel", "1")
return {"ok", known[3] or "", known[4] or ""}
