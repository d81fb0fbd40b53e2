import type { Redis } from 'ioredis'

const shim = `
  local server = redis
  local redis = setmetatable({ call = function(name, ...)
    if name ~= 'TIME' then return server.call(name, ...) end
    local at = server.call('GET', 'test-clock')
    return {string.sub(at, 1, -7), string.sub(at, -6)}
  end }, { __index = server })`

/** Scripts that the client defines from now on take the time from the test. Keys expire by Redis's own clock. */
export function setClock(client: Redis): (ms: number) => Promise<void> {
  const define = client.defineCommand.bind(client)
  client.defineCommand = (name, { lua, ...options }) => define(name, { ...options, lua: `${shim}\n${lua}` })
  return async (ms) => void (await client.set('test-clock', String(Math.round(ms * 1000))))
}
