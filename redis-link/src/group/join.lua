-- KEYS stream, register; ARGV group, consumer, incarnation, where the group begins, '1' to take the name over
-- answers the incarnation that has the name, and whether the group was made
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[4], 'MKSTREAM')
if made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP' then
  return made
end
-- servers before 6.2 make the consumer with its first read
redis.pcall('XGROUP', 'CREATECONSUMER', KEYS[1], ARGV[1], ARGV[2])
local holder = redis.call('HGET', KEYS[2], 'i:' .. ARGV[2])
if not holder or ARGV[5] == '1' then
  redis.call('HSET', KEYS[2], 'i:' .. ARGV[2], ARGV[3])
  holder = ARGV[3]
end
return { holder, made.err and 0 or 1 }
