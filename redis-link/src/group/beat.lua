-- KEYS stream, register; ARGV group, consumer, incarnation, then ids
-- resets the idle time of those that are still this consumer's, and answers '1' and the others; '0' where another
-- incarnation has the name. Delivery counts stay.
local holder = redis.call('HGET', KEYS[2], 'i:' .. ARGV[2])
if holder and holder ~= ARGV[3] then
  return { '0' }
end
local mine, answer = {}, { '1' }
for i = 4, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then
    mine[#mine + 1] = ARGV[i]
  else
    answer[#answer + 1] = ARGV[i]
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
