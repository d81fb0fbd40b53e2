import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto'

/** OWASP Password Storage Cheat Sheet, the choice with the least memory per login: 16 MiB. */
const cost = { N: 16_384, r: 8, p: 5 } as const
const hashBytes = 32

const derive = (password: string, salt: Buffer, options: ScryptOptions): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    // One form for what looks the same: a keyboard decides how an accented letter is put together.
    scrypt(password.normalize('NFKC'), salt, hashBytes, options, (error, key) => (error ? reject(error) : resolve(key)))
  })

/** @returns `scrypt$N$r$p$salt$hash`, so that the cost can be raised later without locking anybody out */
export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(16)
  return format(salt, await derive(password, salt, cost))
}

const format = (salt: Buffer, hash: Buffer): string =>
  ['scrypt', cost.N, cost.r, cost.p, salt.toString('base64url'), hash.toString('base64url')].join('$')

/** The hash of no password at all. */
const nobody: string = format(randomBytes(16), randomBytes(hashBytes))

/**
 * Compares in constant time. Without a stored hash, because there is no such user, it works as long and answers false:
 * how long a login takes must not tell who has an account.
 */
export async function verifyPassword(password: string, stored: string | undefined): Promise<boolean> {
  const [, N, r, p, salt = '', hash = ''] = (stored ?? nobody).split('$')
  const options = { N: Number(N), r: Number(r), p: Number(p), maxmem: 256 * 1024 * 1024 }
  const derived = await derive(password, Buffer.from(salt, 'base64url'), options)
  const expected = Buffer.from(hash, 'base64url')
  return expected.length === derived.length && timingSafeEqual(derived, expected) && stored !== undefined
}
