-- KEYS lease; ARGV holder, its name, term in ms
-- answers { 1, what the last commit was made of, 1 if it had it already } to whoever has it now, else { 0, name of the
-- holder, ms left }
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local row = redis.call('HMGET', KEYS[1], 'holder', 'until', 'name', 'f')
if row[1] and row[1] ~= ARGV[1] and row[2] and tonumber(row[2]) > now then
  return { 0, row[3], tonumber(row[2]) - now }
end
-- rounded up, so that it is not over here while its holder, who counts from before it asked, still has some of it
local over = string.format('%.0f', now + 1 + ARGV[3])
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'name', ARGV[2], 'until', over)
return { 1, row[4], row[1] == ARGV[1] and 1 or 0 }
