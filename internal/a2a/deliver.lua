-- Adds one event of a producer to the stream, if it is the next one of that producer.
--
-- KEYS[1]  the stream
-- KEYS[2]  the marks, a hash: by producer, the number and the ID of its last event that
--          was added, as "NUMBER ID". In a cluster both keys are in one slot.
-- ARGV[1]  producer
-- ARGV[2]  number of the event, counted from 1 by producer; 0 asks for the mark only
-- ARGV[3]  ID of the event
-- ARGV[4]  ID of the event before it, "" when it is not known
-- ARGV[5]  base: the number of the last event that the producer no longer has. A mark
--          below it, or none, counts as the base: the events between are nowhere any more.
-- ARGV[6]  about how many entries the stream keeps, 0 for no bound
-- ARGV[7]  event_type
-- ARGV[8]  data
-- ARGV[9]  producer whose events come before all of this one, "" when there is none
-- ARGV[10] number of its last event
--
-- Returns {outcome, mark, ID at the mark, "" when it is the base}:
--   added      the event is in the stream now, and is the mark
--   duplicate  the number is at or below the mark: it had been added before
--   gap        the number is beyond mark + 1: the events between are missing here
--   conflict   the event at the mark is not the one before this: two have the producer's name
--   behind     nothing of the producer is here, and events of the one before it are missing
-- Only "added" changes anything. An error (of the keys' types, permissions, memory, a
-- replica) changes nothing either.

local bad = redis.error_reply('BADMARK the hash ' .. KEYS[2] .. ' holds something else than marks')

-- The mark of a producer: number and ID, 0 and '' where there is none; nil when it is bad.
local function mark_of(producer)
  local text = redis.call('HGET', KEYS[2], producer)
  if not text then
    return 0, '', text
  end
  local number, event = string.match(text, '^(%d+) (.*)$')
  return tonumber(number), event, text
end

local mark, id, known = mark_of(ARGV[1])
if not mark then
  return bad
end
local base = tonumber(ARGV[5])
if mark < base then
  mark, id = base, ''
end

local number = tonumber(ARGV[2])
if number <= mark then
  return {'duplicate', mark, id}
end
if number > mark + 1 then
  return {'gap', mark, id}
end
if id ~= '' and ARGV[4] ~= '' and id ~= ARGV[4] then
  return {'conflict', mark, id}
end
-- Once an event of the producer is here, all that came before it is, too.
if id == '' and ARGV[9] ~= '' then
  local before = mark_of(ARGV[9])
  if not before then
    return bad
  end
  if before < tonumber(ARGV[10]) then
    return {'behind', mark, id}
  end
end

-- The mark first: what refuses it has changed nothing. If the stream refuses the event
-- then, the mark, which may be written, goes back to where it was.
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. ARGV[3])
local fields = {'*', 'event_type', ARGV[7], 'event_id', ARGV[3], 'data', ARGV[8]}
local added
if ARGV[6] == '0' then
  added = redis.pcall('XADD', KEYS[1], unpack(fields))
else
  added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[6], unpack(fields))
end
if type(added) == 'table' and added.err then
  redis.call('HSET', KEYS[2], ARGV[1], known or '0 ')
  return added
end
return {'added', number, ARGV[3]}
