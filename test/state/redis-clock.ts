import type { OwnRedis } from './own-redis.ts'

const shim = `
  local server = redis
  local redis = setmetatable({ call = function(name, ...)
    if name ~= 'TIME' then return server.call(name, ...) end
    local at = server.call('GET', 'test-clock')
    return {string.sub(at, 1, -7), string.sub(at, -6)}
  end }, { __index = server })`

/**
 * Sets the clock of scripts to a Unix time in ms. It applies to scripts that the client defines after the first call. Keys
 * expire by Redis's own clock.
 */
export function scriptClock(own: OwnRedis): (ms: number) => Promise<void> {
  let isSet = false
  return async (ms) => {
    const { client } = own
    if (!isSet) {
      const define = client.defineCommand.bind(client)
      client.defineCommand = (name, { lua, ...options }) => define(name, { ...options, lua: `${shim}\n${lua}` })
      isSet = true
    }
    await client.set('test-clock', String(Math.round(ms * 1000)))
  }
}
