-- KEYS stream, register; ARGV group, consumer, idle time in ms, then names and incarnations that may be struck off
-- removes consumers that were idle for that long and own nothing, and strikes those off the register that the group does
-- not have and that nobody has registered anew
-- answers { 'swept', names that were removed, names and incarnations that are registered and not in the group }, or
-- { 'type', key, wanted }
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'hash' then
  return { 'type', KEYS[2], 'hash' }
end
local gone, known, absent = {}, {}, {}
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #row, 2 do
    consumer[row[i]] = row[i + 1]
  end
  known[consumer.name] = true
  if consumer.name ~= ARGV[2] and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    redis.call('HDEL', KEYS[2], 'i:' .. consumer.name, 't:' .. consumer.name, 'j:' .. consumer.name)
    forget(KEYS[2], consumer.name)
    gone[#gone + 1] = consumer.name
  end
end
for i = 4, #ARGV, 2 do
  if not known[ARGV[i]] and redis.call('HGET', KEYS[2], 'i:' .. ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[2], 'i:' .. ARGV[i], 't:' .. ARGV[i], 'j:' .. ARGV[i])
    forget(KEYS[2], ARGV[i])
  end
end
local fields = redis.call('HGETALL', KEYS[2])
for i = 1, #fields, 2 do
  local name = string.match(fields[i], '^i:(.*)$')
  if name and not known[name] and name ~= ARGV[2] then
    absent[#absent + 1] = name
    absent[#absent + 1] = fields[i + 1]
  end
end
return { 'swept', gone, absent }
