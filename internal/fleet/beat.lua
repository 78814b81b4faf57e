-- Says that a worker works on an attempt of a cycle: the first time, that it begins.
-- KEYS: the cycle.
-- ARGV: token of the cycle, attempt, run, host, progress.
-- Returns {"ok", "1" if the cycle is to be canceled, else "", the targets that need not be decided
-- as a JSON list, or "" while that is not known}; {"late"} if it is too late to begin; else as
-- guard.lua.
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not known[4] and known[9] and now > tonumber(known[9]) then
	return {"late"}
end
redis.call("HSET", KEYS[1], "run", ARGV[3], "host", ARGV[4], "progress", ARGV[5], "beat", string.format("%d", now))
return {"ok", known[6] or "", known[7] or ""}
