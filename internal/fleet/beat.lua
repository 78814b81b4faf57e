-- Says that a worker works on an attempt of a cycle: the first time, that it begins.
-- KEYS: the cycle.
-- ARGV: token of the cycle, attempt, run, host, progress.
-- Returns {"ok", "1" if the cycle is to be canceled, else "", the targets that need not be decided
-- as a JSON list, or "" while that is not known}; else as guard.lua.
local now = redis.call("TIME")
redis.call("HSET", KEYS[1], "run", ARGV[3], "host", ARGV[4], "progress", ARGV[5],
	"beat", string.format("%d", now[1] * 1000 + math.floor(now[2] / 1000)))
return {"ok", known[6] or "", known[7] or ""}
