-- Letters that go back to where they came from, each removed and added in one step: one that is gone already is not
-- added. Nothing is removed before every stream is known to be one.
--
-- KEYS dead stream, then that of every entry; ARGV number of letters; each: id, number of its entries; each of those:
-- number of its words, words. Answers { 'fed', count }, { 'type', key, wanted } or { 'denied', command, key }
local arg, key = 1, 1
local function next_arg()
  arg = arg + 1
  return ARGV[arg]
end
for i = 1, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= 'stream' then
    return { 'type', KEYS[i], 'stream' }
  end
end
-- a letter that is removed and cannot be added would be lost. Servers before 7.0 cannot tell
local may = redis.acl_check_cmd
if may and not may('XDEL', KEYS[1], '0-1') then
  return { 'denied', 'XDEL', KEYS[1] }
end
if may and #KEYS > 1 and not may('XADD', KEYS[2], '*', 'f', 'v') then
  return { 'denied', 'XADD', KEYS[2] }
end
local fed = 0
for _ = 1, tonumber(ARGV[1]) do
  local id, entries = next_arg(), tonumber(next_arg())
  local there = redis.call('XDEL', KEYS[1], id) == 1
  for _ = 1, entries do
    key = key + 1
    local fields = {}
    for i = 1, tonumber(next_arg()) do
      fields[i] = next_arg()
    end
    if there then
      redis.call('XADD', KEYS[key], '*', unpack(fields))
    end
  end
  if there then
    fed = fed + 1
  end
end
return { 'fed', tostring(fed) }
