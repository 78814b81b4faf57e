-- Begins beat.lua and append.lua: it returns where a worker must not go on.
-- KEYS: the cycle, first. ARGV: token of the cycle, attempt, run (a name of the worker's own for
-- this work), first.
-- Returns {"superseded", why} if the cycle is over, or another attempt is the newest, with why "";
-- {"taken", host} if another worker has begun it; {"unknown"} if nothing is known of the cycle, as
-- when Redis has lost it.
local known = redis.call("HMGET", KEYS[1], "token", "attempt", "ended", "run", "host", "cancel", "fresh", "mark", "until")
if not known[2] then
	return {"unknown"}
end
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] or known[3] then
	return {"superseded", known[3] or ""}
end
if known[4] and known[4] ~= ARGV[3] then
	return {"taken", known[5] or ""}
end
