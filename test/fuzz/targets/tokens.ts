import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import Fastify, { type FastifyInstance } from 'fastify'
import { FleetError } from '../../../src/base/errors.ts'
import { identity } from '../../../src/instance/identity.ts'
import { jwt } from '../../../src/state/jwt/index.ts'
import { redis } from '../../../src/state/redis/index.ts'
import { Choices } from '../engine/choices.ts'
import type { Target } from '../engine/target.ts'

const secret = 'a secret of this fleet, long enough'
let app: FastifyInstance
const good = new Set<string>()
const seeds = [
  '',
  'a.b.c',
  'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIiwiaWF0IjoxLCJleHAiOjk5OTk5OTk5OTl9.',
  '{"alg":"HS256","typ":"at+jwt"}',
  '{"sub":"a","iat":1,"exp":99999999999,"jti":"x"}',
]

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value) ?? '').toString('base64url')

const decode = (token: string): Record<string, unknown>[] =>
  token.split('.', 2).map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>)

/** Signed with the right secret, but with a header and claims that no issuer of this fleet would use. */
function strange(input: Buffer): string {
  const choices = new Choices(input)
  const [header = {}, claims = {}] = decode([...good][0] ?? '')
  for (let turns = choices.below(4); turns > 0; turns--)
    header[choices.pick(['alg', 'typ', 'kid', 'crit', 'b64', '__proto__'])] = choices.value(true)
  for (let turns = choices.below(6); turns > 0; turns--)
    claims[choices.pick(['sub', 'iat', 'exp', 'nbf', 'jti', 'sid', 'iss', 'aud', 'gen', 'x'])] = choices.value(true)
  const text = `${encode(header)}.${encode(claims)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

/** @returns the code, or the accepted token */
async function tried(run: () => Promise<unknown>): Promise<string> {
  try {
    await run()
    return 'accepted'
  } catch (error) {
    if (error instanceof FleetError) return error.code
    throw error
  }
}

/** Only an issued token is accepted; everything else is a FleetError. */
export default {
  seeds,
  dictionary: ['.', 'eyJ', 'HS256', 'none', 'RS256', 'at+jwt', 'rt+jwt', '"kid":', '"crit":["x"]', '=', '-', '_', '\0'],
  maxBytes: 1024,
  async prepare() {
    app = Fastify()
    await app.register(identity)
    await app.register(redis, { client: null })
    await app.register(jwt, { secret })
    await app.ready()
    for (const subject of ['a', 'b']) good.add((await app.tokens.issue(subject)).accessToken)
    return () => app.close()
  },
  async run(input) {
    const text = input.toString('latin1')
    const [token = ''] = good
    // A valid token with a part replaced by the input.
    const at = (input[0] ?? 0) % token.length
    const mutated = token.slice(0, at) + text + token.slice(at + ((input[1] ?? 0) % 4))
    const outcomes: string[] = []
    for (const one of [text, mutated]) {
      const outcome = await tried(() => app.tokens.verify(one))
      if (outcome === 'accepted') assert.ok(good.has(one) || sameBytes(one), `accepted ${JSON.stringify(one)}`)
      outcomes.push(outcome)
      assert.notEqual(await tried(() => app.tokens.refresh(one)), 'accepted')
    }
    const signed = strange(input)
    outcomes.push(await tried(() => app.tokens.verify(signed)), await tried(() => app.tokens.refresh(signed)))
    if (outcomes[2] === 'accepted') {
      const claims = await app.tokens.verify(signed)
      assert.ok(typeof claims.sub === 'string' && claims.exp > Date.now() / 1000 - 10)
    }
    return outcomes.join(' ')
  },
} satisfies Target

/** Base64url has several encodings of one signature: the same bytes are the same token. */
function sameBytes(one: string): boolean {
  const bytes = (token: string): string =>
    token
      .split('.')
      .map((part) => Buffer.from(part, 'base64url').toString('hex'))
      .join('.')
  return [...good].some((token) => bytes(token) === bytes(one))
}
