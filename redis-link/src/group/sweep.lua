-- KEYS stream, register; ARGV group, consumer, idle time in ms
-- removes consumers that were idle for that long and own nothing, and answers their names
local gone = {}
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #row, 2 do
    consumer[row[i]] = row[i + 1]
  end
  if consumer.name ~= ARGV[2] and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
    redis.call('HDEL', KEYS[2], 'i:' .. consumer.name, 't:' .. consumer.name)
    gone[#gone + 1] = consumer.name
  end
end
return gone
