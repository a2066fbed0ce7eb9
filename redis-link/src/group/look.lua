-- KEYS stream; ARGV an id, or ''
-- what tells a stream from another one of its name, without what is in it: nothing where there is none, else { the last
-- id, how many entries were ever added or -1, the first id or '', the greatest id that was deleted or '', how many entries
-- there are behind that id, 100 at most }
if redis.call('TYPE', KEYS[1]).ok == 'none' then
  return {}
end
local facts, row = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #row, 2 do
  facts[row[i]] = row[i + 1]
end
local first = facts['first-entry'] and facts['first-entry'][1] or ''
local behind = 0
if ARGV[1] ~= '' then
  behind = #redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 100)
end
return { facts['last-generated-id'], facts['entries-added'] or -1, first, facts['max-deleted-entry-id'] or '', behind }
