-- KEYS stream, register; ARGV group, consumer, incarnation, the group's mark, ids
-- makes entries pending again that were this consumer's until it was deleted from the group: those that the group has given
-- out, that nobody has, and that nobody has claimed. Answers { 'revived', ids }, or { 'type', key, wanted }
local stream, register, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local kind = redis.call('TYPE', register).ok
if kind ~= 'none' and kind ~= 'hash' then
  return { 'type', register, 'hash' }
end
local here = {}
local reached = delivered(stream, group)
local is_that_one = (redis.call('HGET', register, 'g') or '') == ARGV[4]
if not reached or not is_that_one or redis.call('HGET', register, 'i:' .. consumer) ~= ARGV[3] then
  return { 'revived', here }
end
for i = 5, #ARGV do
  local id = ARGV[i]
  local is_had = #redis.call('XPENDING', stream, group, id, id, 1) > 0 or redis.call('HGET', register, note(id, consumer))
  if not is_had and not later(id, reached) then
    if #redis.call('XCLAIM', stream, group, consumer, 0, id, 'FORCE', 'JUSTID') > 0 then
      here[#here + 1] = id
    end
  end
end
return { 'revived', here }
