-- KEYS stream, register; ARGV group, consumer, incarnation, idle time in ms, then ids that were read and never given out
-- makes what is still this consumer's old enough to be claimed at once, and answers { 'left', how many }; a consumer that
-- owns nothing goes. { 'type', key, wanted } where the register is none
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'hash' then
  return { 'type', KEYS[2], 'hash' }
end
local holder = redis.call('HGET', KEYS[2], 'i:' .. ARGV[2])
if holder and holder ~= ARGV[3] then
  return { 'left', 0 }
end
local untouched = {}
for i = 5, #ARGV do
  untouched[ARGV[i]] = true
end
local rows = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10000, ARGV[2])
for _, row in ipairs(rows) do
  local count = row[4]
  if untouched[row[1]] then
    count = math.max(count - 1, 0)
  end
  redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, row[1], 'IDLE', ARGV[4], 'RETRYCOUNT', count, 'JUSTID')
end
if #rows == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  redis.call('HDEL', KEYS[2], 'i:' .. ARGV[2], 't:' .. ARGV[2], 'j:' .. ARGV[2])
  forget(KEYS[2], ARGV[2])
  -- the group's mark is for those who know it
  local fields = redis.call('HGETALL', KEYS[2])
  local anybody = false
  for i = 1, #fields, 2 do
    anybody = anybody or #fields[i] > 1
  end
  if not anybody then
    redis.call('HDEL', KEYS[2], 'g', 's', 'l')
  end
end
return { 'left', #rows }
