-- Takes or keeps the right to give new cycles to the fleet, which one coordinator has.
-- KEYS: who has it.
-- ARGV: name of the coordinator, seconds for which it has the right; 0 gives it back.
-- Returns "", or the name of another one that has it.
local known = redis.call("HGET", KEYS[1], "name")
if known and known ~= ARGV[1] then
	return known
end
redis.call("HSET", KEYS[1], "name", ARGV[1])
redis.call("EXPIRE", KEYS[1], ARGV[2])
return ""
