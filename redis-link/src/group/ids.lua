-- what several scripts ask of ids and groups

-- ids have more digits than a number of Lua
local function later(one, other)
  local millis, count = string.match(one, '^(%d+)-(%d+)$')
  local than, than_count = string.match(other, '^(%d+)-(%d+)$')
  if millis == than then
    millis, than = count, than_count
  end
  if #millis ~= #than then
    return #millis > #than
  end
  return millis > than
end

-- the newest id that a group has given to anybody
local function delivered(stream, group)
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local facts = {}
    for i = 1, #row, 2 do
      facts[row[i]] = row[i + 1]
    end
    if facts.name == group then
      return facts['last-delivered-id']
    end
  end
end

-- the register's note that somebody has claimed an entry from a consumer
local function note(id, consumer)
  return 'c:' .. id .. ' ' .. consumer
end

-- the notes of everything that was claimed from a consumer
local function notes(register, consumer)
  local found, suffix = {}, ' ' .. consumer
  local fields = redis.call('HGETALL', register)
  for i = 1, #fields, 2 do
    if string.match(fields[i], '^c:%d+%-%d+ ') and string.match(fields[i], '^c:%d+%-%d+( .*)$') == suffix then
      found[#found + 1] = fields[i]
    end
  end
  return found
end

local function forget(register, consumer)
  local fields = notes(register, consumer)
  for from = 1, #fields, 1000 do
    redis.call('HDEL', register, unpack(fields, from, math.min(from + 999, #fields)))
  end
end

