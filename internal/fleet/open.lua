-- Says that an attempt of a cycle is the newest, and returns what is known of it.
-- KEYS: the cycle.
-- ARGV: token of the cycle, attempt, seconds to live, when it is too late for a worker to begin the
-- attempt (milliseconds since 1970), or "" for never.
-- Returns {"ok", run, host, milliseconds since it was last heard of or -1, progress}, where
-- run is "" before a worker has begun; {"foreign"} if the cycle is another coordinator's;
-- {"newer", attempt} if a newer attempt has begun; {"ended", why} if it is over.
local known = redis.call("HMGET", KEYS[1], "token", "attempt", "ended", "run", "host", "beat", "progress")
if known[1] and known[1] ~= ARGV[1] then
	return {"foreign"}
end
local attempt = tonumber(known[2] or "0")
if attempt > tonumber(ARGV[2]) then
	return {"newer", attempt}
end
if known[3] and attempt == tonumber(ARGV[2]) then
	return {"ended", known[3]}
end
redis.call("EXPIRE", KEYS[1], ARGV[3])
if attempt < tonumber(ARGV[2]) then
	redis.call("DEL", KEYS[1])
	redis.call("HSET", KEYS[1], "token", ARGV[1], "attempt", ARGV[2])
	if ARGV[4] ~= "" then
		redis.call("HSET", KEYS[1], "until", ARGV[4])
	end
	redis.call("EXPIRE", KEYS[1], ARGV[3])
	return {"ok", "", "", -1, ""}
end
local since = -1
if known[6] then
	local now = redis.call("TIME")
	since = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(known[6])
end
return {"ok", known[4] or "", known[5] or "", since, known[7] or ""}
