-- One batch's effects, all or none. Nothing is written before every check has passed: an error in the middle of a
-- script is not rolled back.
--
-- KEYS as they are met below; ARGV likewise, every list with its length in front.
-- answers { 'done' }, { 'done', why a message was not sent }, { 'again' }, { 'fenced' }, { 'lost', id... },
-- { 'unread', id... }, { 'stale', key... }, { 'type', key, wanted } or { 'denied', command, key }
local key, arg = 0, 0
local function next_key()
  key = key + 1
  return KEYS[key]
end
local function next_arg()
  arg = arg + 1
  return ARGV[arg]
end
local function next_list()
  local list = {}
  for i = 1, tonumber(next_arg()) do
    list[i] = next_arg()
  end
  return list
end

-- 1. the token: this commit has landed before, and its answer was lost
local token
if next_arg() == '1' then
  token = { key = next_key(), field = next_arg(), value = next_arg() }
  local kind = redis.call('TYPE', token.key).ok
  token.is_none = kind ~= 'none' and kind ~= 'hash'
  if not token.is_none and redis.call('HGET', token.key, token.field) == token.value then
    return { 'again' }
  end
end

-- 2. leases: one whose time is over counts until somebody else has it
local fences = {}
for i = 1, tonumber(next_arg()) do
  local fence = { key = next_key(), holder = next_arg() }
  fence.print = next_list()[1]
  fences[i] = fence
  local kind = redis.call('TYPE', fence.key).ok
  if kind ~= 'none' and kind ~= 'hash' then
    return { 'type', fence.key, 'hash' }
  end
  if redis.call('HGET', fence.key, 'holder') ~= fence.holder then
    return { 'fenced' }
  end
end

-- 3. ownership
local ids = next_list()
local stream, group
if #ids > 0 then
  local register = next_key()
  stream, group = next_key(), next_arg()
  local consumer, incarnation, mark, first, last = next_arg(), next_arg(), next_arg(), next_arg(), next_arg()
  local lost, unread = { 'lost' }, { 'unread' }
  local kind = redis.call('TYPE', register).ok
  if kind ~= 'none' and kind ~= 'hash' then
    return { 'type', register, 'hash' }
  end
  local holder = redis.call('HGET', register, 'i:' .. consumer)
  local owned = {}
  if not holder or holder == incarnation then
    -- entries of other batches may lie in between
    for _, row in ipairs(redis.call('XPENDING', stream, group, first, last, 2 * #ids + 100, consumer)) do
      owned[row[1]] = true
    end
    for _, id in ipairs(ids) do
      owned[id] = owned[id] or #redis.call('XPENDING', stream, group, id, id, 1, consumer) > 0
    end
  end
  -- of a consumer that was deleted from its group nobody has the entries, nor has had them: they are still its own
  local is_that_one = holder == incarnation and mark == '=' .. (redis.call('HGET', register, 'g') or '')
  local reached
  for _, id in ipairs(ids) do
    if not owned[id] then
      local is_had = not is_that_one or #redis.call('XPENDING', stream, group, id, id, 1) > 0
      if is_had or redis.call('HGET', register, note(id, consumer)) then
        lost[#lost + 1] = id
      else
        reached = reached or delivered(stream, group) or '0-0'
        unread[#unread + 1] = later(id, reached) and id or nil
      end
    end
  end
  if #lost > 1 then
    return lost
  end
  if #unread > 1 then
    return unread
  end
end

-- 4. versions; whoever loads what is no hash says so
local states, stale = {}, { 'stale' }
for i = 1, tonumber(next_arg()) do
  local state = { key = next_key(), base = next_arg(), version = next_arg(), life = next_arg() }
  state.clear, state.ttl, state.set, state.remove = next_arg(), next_arg(), next_list(), next_list()
  states[i] = state
  local kind = redis.call('TYPE', state.key).ok
  local known = kind == 'hash' and redis.call('HMGET', state.key, 'v', 'l') or {}
  local is_that_one = state.base == '0' or (known[2] or '0') == state.life
  if (kind ~= 'none' and kind ~= 'hash') or (known[1] or '0') ~= state.base or not is_that_one then
    stale[#stale + 1] = state.key
  end
end
if #stale > 1 then
  return stale
end
-- not before: the token may lie beside a state
if token and token.is_none then
  return { 'type', token.key, 'hash' }
end

-- 5. types of what is added to
local writes, kinds = {}, {}
for i = 1, tonumber(next_arg()) do
  local write = { kind = next_arg() }
  if write.kind == 'add' then
    write.key, write.length, write.fields = next_key(), next_arg(), next_list()
    kinds[write.key] = kinds[write.key] or redis.call('TYPE', write.key).ok
    if kinds[write.key] ~= 'none' and kinds[write.key] ~= 'stream' then
      return { 'type', write.key, 'stream' }
    end
  elseif write.kind == 'set' then
    write.key, write.ttl, write.value = next_key(), next_arg(), next_arg()
  else
    write.channel, write.value = next_arg(), next_arg()
  end
  writes[i] = write
end

-- 6. permissions: a command that is refused further down would leave half of everything. Servers before 7.0 cannot tell
local may = redis.acl_check_cmd
if may then
  local needed = {}
  local function need(command, ...)
    needed[command] = needed[command] or { ... }
  end
  for _, write in ipairs(writes) do
    if write.kind == 'add' then
      need('XADD', write.key, '*', 'f', 'v')
    elseif write.kind == 'set' then
      need('SET', write.key, 'v')
    end
  end
  for _, state in ipairs(states) do
    need('HSET', state.key, 'v', '1')
    if state.clear == '1' then
      need('DEL', state.key)
    end
    if #state.remove > 0 then
      need('HDEL', state.key, 'f')
    end
    if state.ttl == 'keep' then
      need('PERSIST', state.key)
    elseif state.ttl ~= '0' then
      need('PEXPIRE', state.key, '1')
    end
  end
  for _, fence in ipairs(fences) do
    if fence.print then
      need('HSET', fence.key, 'f', '1')
    end
  end
  if #ids > 0 then
    need('XACK', stream, group, ids[1])
  end
  if token then
    need('HSET', token.key, token.field, token.value)
  end
  for command, args in pairs(needed) do
    if not may(command, unpack(args)) then
      return { 'denied', command, args[1] }
    end
  end
end

-- 7. outputs
for _, write in ipairs(writes) do
  if write.kind == 'add' then
    if write.length == '0' then
      redis.call('XADD', write.key, '*', unpack(write.fields))
    else
      redis.call('XADD', write.key, 'MAXLEN', '~', write.length, '*', unpack(write.fields))
    end
  elseif write.kind == 'set' then
    if write.ttl == '0' then
      redis.call('SET', write.key, write.value)
    else
      redis.call('SET', write.key, write.value, 'PX', write.ttl)
    end
  end
end

-- 8. states; unpack takes some thousands of values, a state may have more
for _, state in ipairs(states) do
  if state.clear == '1' then
    redis.call('DEL', state.key)
  end
  for from = 1, #state.remove, 1000 do
    redis.call('HDEL', state.key, unpack(state.remove, from, math.min(from + 999, #state.remove)))
  end
  for from = 1, #state.set, 1000 do
    redis.call('HSET', state.key, unpack(state.set, from, math.min(from + 999, #state.set)))
  end
  redis.call('HSET', state.key, 'v', state.version, 'l', state.life)
  if state.ttl == 'keep' then
    redis.call('PERSIST', state.key)
  elseif state.ttl ~= '0' then
    redis.call('PEXPIRE', state.key, state.ttl)
  end
end

-- 9. acknowledgement, and what it was made of
for _, fence in ipairs(fences) do
  if fence.print then
    redis.call('HSET', fence.key, 'f', fence.print)
  end
end
if #ids > 0 then
  redis.call('XACK', stream, group, unpack(ids))
end
if token then
  redis.call('HSET', token.key, token.field, token.value)
end

-- 10. messages, which are no data: one that is refused takes nothing back
local answer = { 'done' }
for _, write in ipairs(writes) do
  if write.kind == 'publish' then
    local sent = redis.pcall('PUBLISH', write.channel, write.value)
    if type(sent) == 'table' and sent.err then
      answer[2] = write.channel .. ': ' .. sent.err
    end
  end
end
return answer
