-- Adds what a worker has found to the results of a cycle, in order, each once.
-- KEYS: the cycle, its results (a stream).
-- ARGV: token of the cycle, attempt, run, number (from 1 within the run), kind, data, seconds
-- to live, host.
-- Returns {"ok", mark}, where the mark is the number of the last one that is there: below the
-- number given when some before it are missing; else as guard.lua.
local mark = tonumber(known[8] or "0")
if tonumber(ARGV[4]) == mark + 1 then
	redis.call("XADD", KEYS[2], "*", "attempt", ARGV[2], "run", ARGV[3], "number", ARGV[4], "kind", ARGV[5], "data", ARGV[6])
	redis.call("EXPIRE", KEYS[2], ARGV[7])
	mark = mark + 1
	redis.call("HSET", KEYS[1], "mark", mark, "run", ARGV[3], "host", ARGV[8])
end
return {"ok", mark}
