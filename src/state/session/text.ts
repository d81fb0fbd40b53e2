import { FleetError } from '../../base/errors.ts'

/**
 * A session as Redis holds it: JSON with one member per line. One `GET` and one `JSON.parse` read it, and because a value
 * in JSON never has a raw line feed, a script can exchange members without understanding their values.
 *
 *     {"cookie":{"expires":1763712000000,"originalMaxAge":86400000}
 *     ,"visits":3
 *     }
 */
export type Members = Map<string, string>

/** Most bytes of a session's data, where no option says otherwise. */
export const defaultMaxBytes = 65_536

export const tooLarge = (maxBytes: number): FleetError =>
  new FleetError('FLEET_ERR_SESSION_TOO_LARGE', `its data has more than ${maxBytes} bytes as JSON`)

/**
 * @param before the data as it was: what grew too large under a higher limit may shrink again
 * @throws FLEET_ERR_SESSION_TOO_LARGE
 */
export function checkSize(data: string, maxBytes: number, before = ''): void {
  // No character has more than three bytes for each unit of its length.
  if (data.length * 3 <= maxBytes) return
  const bytes = Buffer.byteLength(data)
  if (bytes > maxBytes && bytes > Buffer.byteLength(before)) throw tooLarge(maxBytes)
}

/** Whether nobody has logged in to a session: its cookie says so, on the first line. */
export const isAnonymous = (text: string): boolean => /^[^\n]*"anonymous":\d/.test(text)

const plain = /^[\w-]*$/

/** A name as it stands in the text: no `"` but the two around it, so that a pattern finds its end. */
export function quote(name: string): string {
  if (plain.test(name)) return `"${name}"`
  const escaped = JSON.stringify(name).slice(1, -1)
  return `"${escaped.replace(/\\./g, (pair) => (pair === '\\"' ? '\\u0022' : pair))}"`
}

export const join = (cookie: string, rest: string): string => `{"cookie":${cookie}${rest}`

/** The text after the cookie, which is the same for the same data in the same order. */
export function write(data: Readonly<Record<string, unknown>>): string {
  let text = ''
  for (const name of Object.keys(data)) {
    const json = stringify(name, data[name])
    if (json !== undefined) text += `\n,${quote(name)}:${json}`
  }
  return `${text}\n}`
}

function stringify(name: string, value: unknown): string | undefined {
  try {
    return JSON.stringify(value)
  } catch (cause) {
    throw new FleetError('FLEET_ERR_SESSION_VALUE_INVALID', `\`session.${name}\` cannot be written as JSON`, { cause })
  }
}

/** @returns the text after the cookie, or `undefined` when this is no session of ours */
export function restOf(text: string): string | undefined {
  if (!text.startsWith('{"cookie":{') || !text.endsWith('\n}')) return undefined
  return text.slice(text.indexOf('\n'))
}

/** The members of what {@link write} wrote, each as JSON, by quoted name. */
export function members(rest: string): Members {
  const found: Members = new Map()
  for (const [, name, json] of rest.matchAll(/,("[^"\n]*"):([^\n]*)(?=\n)/g)) found.set(name as string, json as string)
  return found
}

/** What to do to the members of one text to make them those of another; an empty string takes a member away. */
export function difference(before: string, after: string): Members {
  const [old, current]: [Members, Members] = [members(before), members(after)]
  const changes: Members = new Map()
  for (const [name, json] of current) if (old.get(name) !== json) changes.set(name, json)
  for (const name of old.keys()) if (!current.has(name)) changes.set(name, '')
  return changes
}

/** @returns the text with the changes made, as {@link mergeScript} does it @throws FLEET_ERR_SESSION_TOO_LARGE */
export function merge(text: string, changes: Members, maxBytes: number): string {
  const all = members(`\n,${text.slice(1)}`)
  for (const [name, json] of changes) {
    if (json === '') all.delete(name)
    else all.set(name, json)
  }
  const merged = `{${[...all].map(([name, json]) => `${name}:${json}`).join('\n,')}\n}`
  checkSize(restOf(merged) ?? '', maxBytes, restOf(text))
  return merged
}

/**
 * KEYS[1] session; ARGV[1] its life in ms, 0 to leave that alone; ARGV[2] most bytes of its data; then name and JSON of
 * each change. A session that has ended meanwhile stays ended (0), one that would grow too large stays as it was (-1).
 */
export const mergeScript: string = `
local text = redis.call('GET', KEYS[1])
if not text then return 0 end
local changes, members, before, size = {}, {}, 2, 2
for i = 3, #ARGV, 2 do changes[ARGV[i]] = ARGV[i + 1] end
local function add(name, json)
  members[#members + 1] = name .. ':' .. json
  if name ~= '"cookie"' then size = size + #name + #json + 3 end
end
for name, json in string.gmatch(text, '[{,]("[^"\\n]*"):([^\\n]*)\\n') do
  if name ~= '"cookie"' then before = before + #name + #json + 3 end
  json = changes[name] or json
  changes[name] = nil
  if json ~= '' then add(name, json) end
end
for i = 3, #ARGV, 2 do
  local json = changes[ARGV[i]]
  if json and json ~= '' then add(ARGV[i], json) end
end
if size > tonumber(ARGV[2]) and size > before then return -1 end
text = '{' .. table.concat(members, '\\n,') .. '\\n}'
if ARGV[1] == '0' then
  redis.call('SET', KEYS[1], text, 'KEEPTTL')
else
  redis.call('SET', KEYS[1], text, 'PX', ARGV[1])
end
return 1`
