-- KEYS stream, register; ARGV group, consumer, incarnation, the group's mark, how many ids are held, those, then ids that
-- are only looked at
-- resets the idle time of the first ones, as far as they are still this consumer's, and answers { 'mine', those of all that
-- are not }; { 'replaced' } where
-- another incarnation has the name, { 'regrouped' } where another group has the place of the one with this mark, and
-- { 'type', key, wanted }. Delivery counts stay.
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'none' and kind ~= 'hash' then
  return { 'type', KEYS[2], 'hash' }
end
local holder = redis.call('HGET', KEYS[2], 'i:' .. ARGV[2])
if holder and holder ~= ARGV[3] then
  return { 'replaced' }
end
if (redis.call('HGET', KEYS[2], 'g') or ARGV[4]) ~= ARGV[4] then
  return { 'regrouped' }
end
local mine, answer = {}, { 'mine' }
local last_held = 5 + tonumber(ARGV[5])
for i = 6, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 0 then
    answer[#answer + 1] = ARGV[i]
  elseif i <= last_held then
    mine[#mine + 1] = ARGV[i]
  end
end
-- without a check of its own XCLAIM would take entries back from whoever has claimed them
for from = 1, #mine, 1000 do
  local claim = { 'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0 }
  for i = from, math.min(from + 999, #mine) do
    claim[#claim + 1] = mine[i]
  end
  claim[#claim + 1] = 'JUSTID'
  redis.call(unpack(claim))
end
return answer
