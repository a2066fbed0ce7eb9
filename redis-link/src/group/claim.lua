-- KEYS stream, register; ARGV group, consumer, incarnation, idle time in ms, cursor, count
-- takes over entries that nobody has touched for that long, and notes for whom they were before that they are taken: those
-- live perhaps, and cannot tell an entry that was claimed and done from one that was lost with their consumer
-- answers { 'claimed', next cursor, ids, how many were deleted }, { 'type', key, wanted } or { 'denied', command, key }
local stream, register, group, consumer = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local kind = redis.call('TYPE', register).ok
if kind ~= 'none' and kind ~= 'hash' then
  return { 'type', register, 'hash' }
end
local may = redis.acl_check_cmd
if may and not may('XAUTOCLAIM', stream, group, consumer, ARGV[4], ARGV[5], 'COUNT', ARGV[6], 'JUSTID') then
  return { 'denied', 'XAUTOCLAIM', stream }
end
local owners = {}
for _, other in ipairs(redis.call('XPENDING', stream, group)[4] or {}) do
  if other[1] ~= consumer then
    -- as many as XAUTOCLAIM looks at
    for _, row in ipairs(redis.call('XPENDING', stream, group, ARGV[5], '+', 10 * ARGV[6])) do
      owners[row[1]] = row[2]
    end
    break
  end
end
local answer = redis.call('XAUTOCLAIM', stream, group, consumer, ARGV[4], ARGV[5], 'COUNT', ARGV[6], 'JUSTID')
local registered = {}
for _, id in ipairs(answer[2]) do
  local owner = owners[id]
  if owner and owner ~= consumer then
    if registered[owner] == nil then
      registered[owner] = redis.call('HGET', register, 'i:' .. owner)
    end
    if registered[owner] then
      redis.call('HSET', register, note(id, owner), '1')
    end
  end
  redis.call('HDEL', register, note(id, consumer))
end
return { 'claimed', answer[1], answer[2], answer[3] and #answer[3] or 0 }
