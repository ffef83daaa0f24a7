-- Publishes one batch of one shard, whole or not at all, and moves the shard's cursor with it.
-- KEYS: the cursor, then the topics of the batch.
-- ARGV: the leader's term; the cursor that the batch follows ('' for none); the cursor behind it; then for each event
--       the place of its topic in KEYS, event id, entity, type, instant, data.
-- Gives {'ok'}; {'fenced', term} when a later leader has published; {'moved', cursor} when the cursor is another one.
local known = redis.call('HMGET', KEYS[1], 'term', 'cursor')
if tonumber(known[1] or '0') > tonumber(ARGV[1]) then
  return {'fenced', known[1]}
end
if (known[2] or '') ~= ARGV[2] then
  return {'moved', known[2] or ''}
end
-- A key of another type would let a part of the batch through again and again.
for place = 2, #KEYS do
  local held = redis.call('TYPE', KEYS[place]).ok
  if held ~= 'stream' and held ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. KEYS[place] .. ' is not a stream')
  end
end
for at = 4, #ARGV, 6 do
  redis.call('XADD', KEYS[tonumber(ARGV[at])], '*', 'event_id', ARGV[at + 1], 'entity', ARGV[at + 2],
    'type', ARGV[at + 3], 'at', ARGV[at + 4], 'data', ARGV[at + 5])
end
redis.call('HSET', KEYS[1], 'term', ARGV[1], 'cursor', ARGV[3])
return {'ok'}
