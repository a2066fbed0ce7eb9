-- KEYS lease; ARGV holder. Lets it go where it is this holder's; what the last commit was made of stays
if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then
  return 0
end
redis.call('HDEL', KEYS[1], 'holder', 'name', 'until')
return 1
