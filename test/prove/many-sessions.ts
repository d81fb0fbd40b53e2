import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import type { Redis } from 'ioredis'
import type { StoredCookie } from '../../src/state/session/cookie.ts'
import { joinText, serialize } from '../../src/state/session/record.ts'

export const ttlMs = 86_400_000
const agent = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36'

/** A session of a browser whose user has logged in. */
export function loggedIn(number: number): { id: string; user: string; data: { userId: string }; cookie: StoredCookie } {
  const user = `user-${String(number).padStart(8, '0')}`
  const cookie = { expires: Date.now() + ttlMs, originalMaxAge: ttlMs, agent }
  return { id: randomBytes(24).toString('base64url'), user, data: { userId: user }, cookie }
}

/** The lengths of what one session stores, in characters. */
export interface Lengths {
  readonly key: number
  readonly value: number
  readonly userKey: number
  readonly id: number
}

/** The formula of docs/sessions.md. */
export const bytesPerSession = ({ key, value, userKey, id }: Lengths): number =>
  key + value + 130 + userKey + 150 + id + 20

const arguments_ = (...parts: (string | number)[]): string =>
  parts.reduce<string>((text, part) => `${text}$${String(part).length}\r\n${part}\r\n`, `*${parts.length}\r\n`)

/** Writes what `Sessions.create()` writes, without waiting for replies. @returns the ids of some of them, by user */
export async function writeSessions(
  { options }: Redis,
  from: number,
  to: number,
): Promise<{ some: Map<string, string>; lengths: Lengths }> {
  const some = new Map<string, string>()
  const socket = connect(options.port as number, '127.0.0.1')
  socket.write(arguments_('CLIENT', 'REPLY', 'OFF'))
  let lengths: Lengths = { key: 0, value: 0, userKey: 0, id: 0 }
  let commands = ''
  for (let number = from; number < to; number++) {
    const { id, user, data, cookie } = loggedIn(number)
    const [key, userKey] = [`fleet:session:{${id}}`, `fleet:user-sessions:{${user}}`]
    const value = joinText(JSON.stringify(cookie), serialize(data))
    commands += arguments_('SET', key, value, 'PX', ttlMs)
    commands += arguments_('ZADD', userKey, cookie.expires as number, id) + arguments_('PEXPIRE', userKey, ttlMs)
    if (number % 997 === 0) some.set(user, id)
    lengths = { key: key.length, value: value.length, userKey: userKey.length, id: id.length }
    if (commands.length < 1 << 20) continue
    if (!socket.write(commands)) await once(socket, 'drain')
    commands = ''
  }
  socket.write(commands + arguments_('CLIENT', 'REPLY', 'ON'))
  await once(socket, 'data')
  socket.destroy()
  return { some, lengths }
}
