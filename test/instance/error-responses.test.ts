import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify'
import fleet, { FleetError } from '../../src/index.ts'

class OwnError extends Error {
  readonly status: number
  constructor(message: string, status: number) {
    super(message)
    this.status = status
  }
}
/** A handler that prepares its reply and then throws. */
const failWith =
  (error: unknown, prepare: (reply: FastifyReply) => unknown = () => undefined) =>
  (reply: FastifyReply): never => {
    prepare(reply)
    throw error
  }
const withFields = (fields: object): Error => Object.assign(new Error('no such seat'), fields)

const failures: Record<string, (reply: FastifyReply) => unknown> = {
  'error.statusCode': failWith(withFields({ statusCode: 409 })),
  'error.status': failWith(withFields({ status: 404 })),
  'both, which differ': failWith(withFields({ statusCode: 409, status: 404 })),
  'a class with a status': failWith(new OwnError('no tea', 418)),
  'a status as text': failWith(withFields({ statusCode: '404' })),
  'an unknown status beside a good one': failWith(withFields({ statusCode: 600, status: 404 })),
  'a status of success': failWith(withFields({ statusCode: 200 })),
  'reply.code() and send()': (reply) => reply.code(404).send(new Error('no such seat')),
  'reply.code() and throw': failWith(new Error('gone'), (reply) => reply.code(410)),
  'reply.code() of a redirect and throw': failWith(new Error('x'), (reply) => reply.code(302).header('location', '/x')),
  'reply.code() and error.statusCode': failWith(withFields({ statusCode: 409 }), (reply) => reply.code(410)),
  'headers set before': failWith(new Error('db'), (reply) =>
    reply.code(503).header('retry-after', 5).header('set-cookie', ['a=1', 'b=2']),
  ),
  'headers of the error': failWith(withFields({ statusCode: 429, headers: { 'x-limit': '1' } })),
  'a content type set before': failWith(new Error('x'), (reply) => reply.type('text/csv')),
  'a frozen error': failWith(Object.freeze(withFields({ statusCode: 400 }))),
  'an object, as errorResponseBuilder returns it': failWith({ statusCode: 429, error: 'slow down', wait: 3 }),
  'an object with a status': failWith({ status: 422, code: 7 }),
  'an object after reply.code()': failWith({ reason: 'law' }, (reply) => reply.code(451)),
  'an object without a prototype': failWith(Object.assign(Object.create(null), { statusCode: 400 })),
  text: failWith('text'),
  null: failWith(null),
  'a number': failWith(404),
}

async function serve(register: (app: FastifyInstance) => unknown): Promise<FastifyInstance> {
  const app = Fastify()
  await register(app)
  for (const [index, fail] of Object.values(failures).entries()) {
    app.get(`/handler/${index}`, async (_request, reply) => fail(reply))
    app.get(`/hook/${index}`, { preHandler: async (_request, reply) => fail(reply) }, async () => 'not reached')
  }
  return app
}

const settings = {
  name: 'shop',
  overload: false,
  headers: false,
  helmet: false,
  cors: false,
  lifecycle: { signals: false },
} as const
const cases = Object.keys(failures).flatMap((title, index) =>
  ['handler', 'hook'].map((place) => ({ name: `${title}, in a ${place}`, path: `/${place}/${index}` })),
)
const plain = await serve(() => undefined)

describe("failed requests of an app's own have the response of Fastify", async () => {
  const joined = await serve((app) => app.register(fleet, settings))
  for (const { name, path } of cases)
    it(name, async () => {
      const [expected, actual] = await Promise.all([plain.inject(path), joined.inject(path)])
      const { date: _, connection: __, ...headers } = expected.headers
      assert.equal(actual.statusCode, expected.statusCode)
      assert.deepEqual({ ...actual.headers, ...headers }, actual.headers)
      assert.equal(actual.body, expected.body)
    })

  it('unlike those of fleet', async () => {
    const app = Fastify()
    await app.register(fleet, { ...settings, rateLimit: { max: 1 } })
    app.get('/', async () => 'ok')
    await app.inject('/')
    const { statusCode, body } = await app.inject('/')
    assert.equal(statusCode, 429)
    assert.deepEqual(Object.keys(JSON.parse(body)), ['statusCode', 'code', 'message', 'requestId'])
  })
})

describe('with errorResponses, status and headers of failed requests are those of Fastify', async () => {
  const own = await serve((app) => app.register(fleet, { ...settings, errorResponses: true }))
  for (const { name, path } of cases)
    it(name, async () => {
      const [expected, actual] = await Promise.all([plain.inject(path), own.inject(path)])
      const { date: _, 'content-length': __, connection: ___, ...headers } = expected.headers
      assert.equal(actual.statusCode, expected.statusCode)
      assert.deepEqual({ ...actual.headers, ...headers }, actual.headers)
      // The app chose the whole body where it threw something else than an error.
      if (!expected.body.includes('"message"')) assert.equal(actual.body, expected.body)
    })

  it('hides the message of an error of 500 and above', async () => {
    const { body } = await own.inject('/handler/11')
    assert.match(body, /"statusCode":503.*"message":"Internal server error"/)
    assert.doesNotMatch(body, /"db"/)
  })

  it('hides the code of an error of 500 and above, and the details of one of fleet', async () => {
    const app = Fastify()
    await app.register(fleet, { ...settings, errorResponses: true })
    const lower = Object.assign(new Error('connect 10.1.2.3:5432'), { code: 'ECONNREFUSED' })
    const errors = { lower, fleet: new FleetError('FLEET_ERR_STATE_UNAVAILABLE', 'GET user:7 at 10.1.2.3: late') }
    app.get<{ Params: { of: keyof typeof errors } }>('/errors/:of', async ({ params }) => {
      throw errors[params.of]
    })
    const respond = async (of: keyof typeof errors): Promise<unknown[]> => {
      const { statusCode, code, message } = (await app.inject(`/errors/${of}`)).json()
      return [statusCode, code, message]
    }
    assert.deepEqual(await respond('lower'), [500, 'FLEET_ERR_INTERNAL', 'Internal server error'])
    const text = 'shared state is unavailable; try again'
    assert.deepEqual(await respond('fleet'), [503, 'FLEET_ERR_STATE_UNAVAILABLE', text])
  })
})
