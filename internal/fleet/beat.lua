-- Says that a worker works on an attempt of a cycle: the first time, that it begins.
-- KEYS: the cycle.
-- ARGV: token of the cycle, attempt, run (a name of the worker's own for this work), host,
-- progress.
-- Returns {"ok", "1" if the cycle is to be canceled, else "", the targets that need not be decided
-- as a JSON list, or "" while that is not known}; {"superseded"} if another
-- attempt is the newest, or the cycle is over; {"taken", host} if another worker has begun it;
-- {"unknown"} if nothing is known of the cycle, as when Redis has lost it.
local known = redis.call("HMGET", KEYS[1], "token", "attempt", "ended", "run", "host", "cancel", "fresh")
if not known[2] then
	return {"unknown"}
end
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] or known[3] then
	return {"superseded"}
end
if known[4] and known[4] ~= ARGV[3] then
	return {"taken", known[5] or ""}
end
local now = redis.call("TIME")
redis.call("HSET", KEYS[1], "run", ARGV[3], "host", ARGV[4], "progress", ARGV[5],
	"beat", string.format("%d", now[1] * 1000 + math.floor(now[2] / 1000)))
return {"ok", known[6] or "", known[7] or ""}
