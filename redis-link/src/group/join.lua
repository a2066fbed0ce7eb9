-- KEYS stream, register; ARGV group, consumer, incarnation, where the group begins, '1' to take the name over, a mark for a
-- group that is made; then what is known of the group that was joined before: the stream's life, '1' where the stream cannot
-- be the same, its mark, the newest id that was read from it ('' for none), and the ids that were read from it and are not
-- done
-- answers { 'joined', the incarnation that has the name, whether the group was made, the newest id that it has given to
-- anybody, the group's mark, ids that are this consumer's in a group that took the place of the one before, ids that the
-- stream has not any more, the stream's life, 1 where it is another one than before }, or { 'type', key, wanted }
local stream, register, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local kind = redis.call('TYPE', register).ok
if kind ~= 'none' and kind ~= 'hash' then
  return { 'type', register, 'hash' }
end

-- a register that does not know the stream's life was lost with the server's data
local known, from, newest = ARGV[7], ARGV[4], ARGV[10]
local life = redis.call('HGET', register, 'l')
local is_another = known ~= '' and (life ~= known or ARGV[8] == '1')
local made = redis.pcall('XGROUP', 'CREATE', stream, group, is_another and '0' or from, 'MKSTREAM')
if made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' then
  return made
end
if made.err and life == known and (redis.call('HGET', register, 'g') or '') == ARGV[9] then
  -- of the same group what it has given out counts, whatever was done to its stream
  is_another = false
end
if not life or (is_another and life == known) then
  life = ARGV[6]
  redis.call('HSET', register, 'l', life)
end
if is_another then
  newest = ''
end
local reached = delivered(stream, group)
if not made.err then
  redis.call('HSET', register, 'g', ARGV[6] .. ' ' .. reached)
  redis.call('HDEL', register, 's')
end
-- servers before 6.2 make the consumer with its first read
redis.pcall('XGROUP', 'CREATECONSUMER', stream, group, consumer)
local holder = redis.call('HGET', register, 'i:' .. consumer)
if not holder or ARGV[5] == '1' then
  if holder then
    forget(register, consumer)
  end
  redis.call('HSET', register, 'i:' .. consumer, ARGV[3])
  holder = ARGV[3]
end

-- of a group without a mark nobody knows whether it is another one
local mark = redis.call('HGET', register, 'g') or ''
local here, deleted = {}, {}
if holder == ARGV[3] and mark ~= '' and mark ~= ARGV[9] and newest ~= '' then
  -- an answer that was lost: what came in by the last try may be done by now, and must not come in again
  local again = redis.call('HGET', register, 'j:' .. consumer) == mark
  local start = string.match(mark, ' (.*)$')
  local skipped = redis.call('HGET', register, 's') or ''
  local function is_skipped(id)
    for from, to in string.gmatch(skipped, '(%S+) (%S+);') do
      if later(id, from) and not later(id, to) then
        return true
      end
    end
    return false
  end
  for i = 11, #ARGV do
    local id = ARGV[i]
    local row = redis.call('XPENDING', stream, group, id, id, 1)[1]
    if row then
      if row[2] == consumer then
        here[#here + 1] = id
      end
    elseif again then
      if #redis.call('XRANGE', stream, id, id) == 0 then
        deleted[#deleted + 1] = id
      end
    elseif redis.call('HGET', register, note(id, consumer)) then
      -- claimed from this process, and done perhaps, before the last group was deleted
    elseif not later(id, start) or later(id, reached) or is_skipped(id) then
      -- nobody has had it from this group
      if #redis.call('XCLAIM', stream, group, consumer, 0, id, 'FORCE', 'JUSTID') > 0 then
        here[#here + 1] = id
      else
        deleted[#deleted + 1] = id
      end
    end
  end
  -- what this process has done comes to nobody again; what others have not, they bring along themselves
  if later(newest, reached) then
    redis.call('XGROUP', 'SETID', stream, group, newest)
    redis.call('HSET', register, 's', skipped .. reached .. ' ' .. newest .. ';')
  end
  redis.call('HSET', register, 'j:' .. consumer, mark)
end
return { 'joined', holder, made.err and 0 or 1, reached, mark, here, deleted, life, is_another and 1 or 0 }
