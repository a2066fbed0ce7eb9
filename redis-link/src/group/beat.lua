-- KEYS stream, register; ARGV group, consumer, incarnation, the group's mark, how many ids are held, how many are let go,
-- those and these, then ids that are only looked at
-- resets the idle time of the first ones, as far as they are still this consumer's, and answers { 'mine', those of all that
-- others have or have had, those that nobody has }; { 'replaced' } where another incarnation has the name, { 'regrouped' }
-- where another group has the place of the one with this mark, and { 'type', key, wanted }. Delivery counts stay. Of those
-- that are let go nobody will ask any more whether others have claimed them
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
local mine, others, nobodys = {}, {}, {}
local last_held = 6 + tonumber(ARGV[5])
local last_let_go = last_held + tonumber(ARGV[6])
for i = 7, #ARGV do
  local id = ARGV[i]
  if i > last_held and i <= last_let_go then
    redis.call('HDEL', KEYS[2], note(id, ARGV[2]))
  elseif #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) == 0 then
    local is_others = #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0
    if is_others or not holder or redis.call('HGET', KEYS[2], note(id, ARGV[2])) then
      others[#others + 1] = id
    else
      nobodys[#nobodys + 1] = id
    end
  elseif i <= last_held then
    mine[#mine + 1] = id
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
return { 'mine', others, nobodys }
