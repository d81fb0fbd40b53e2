import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteShorthandOptions } from 'fastify'
import { FleetError } from '../base/errors.ts'
import { isEventId, maxName, maxText, type PostedKind, postedKinds } from '../state/history/events.ts'
import type { History } from '../state/history/index.ts'
import { isRange, ranges } from '../state/history/points.ts'
import { checksOf, RedisWatch } from './dependencies.ts'
import { fields, presence, rowOf } from './state.ts'

const compress = promisify(gzip)
/** Smaller responses are not compressed, bytes. */
const minCompressed = 1_024
const maxEventsRead = 500

/** @param route options of a route for operators with this summary and schema */
export function dataRoutes(
  app: FastifyInstance,
  root: string,
  route: (summary: string, schema?: object) => RouteShorthandOptions,
): void {
  const { fleet } = app
  const redis = new RedisWatch(app)
  const { history } = fleet
  const now = (): number => history?.now() ?? Date.now()

  app.get(`${root}/state`, route('Every instance, for the dashboard'), async (request, reply) => {
    const [peers, departed] = await Promise.all([fleet.survey(), history?.departed() ?? []])
    const { live, gone } = presence(peers, departed)
    const state = { servedBy: fleet.instance.id, at: now(), redis: redisState(redis, now), fields }
    return send(request, reply, { ...state, instances: live.map(rowOf), departed: gone })
  })
  app.get(
    `${root}/dependencies`,
    route('Redis, the database and checks, for the dashboard'),
    async (request, reply) => {
      const [report, peers] = await Promise.all([redis.report(), fleet.survey()])
      const database = app.hasDecorator('databaseState') ? app.databaseState() : null
      return send(request, reply, { redis: report, database, checks: checksOf(peers) })
    },
  )
  if (history) historyRoutes(app, root, route, history)
}

/** Of this instance's clock, as of that of Redis. */
function redisState(redis: RedisWatch, now: () => number): object {
  const { state, since } = redis.state
  return { state, since: since + now() - Date.now() }
}

function historyRoutes(
  app: FastifyInstance,
  root: string,
  route: (summary: string, schema?: object) => RouteShorthandOptions,
  history: History,
): void {
  type Query = { Querystring: Readonly<Record<string, unknown>> }
  app.get<Query>(
    `${root}/history`,
    route('Figures of the fleet over time', {
      querystring: query({ range: { enum: Object.keys(ranges) }, since: whole }),
    }),
    async (request, reply) => {
      const { range = '15m', since = '0' } = request.query
      if (!isRange(range)) throw invalid(`\`range\` must be one of ${Object.keys(ranges).join(', ')}`)
      return send(request, reply, await history.points(range, wholeNumber('since', since, Number.MAX_SAFE_INTEGER)))
    },
  )
  app.get<Query>(
    `${root}/events`,
    route('What happened in the fleet, newest first', { querystring: query({ before: text, limit: whole }) }),
    async (request, reply) => {
      const { before, limit = '100' } = request.query
      if (before !== undefined && !(typeof before === 'string' && isEventId(before)))
        throw invalid('`before` must be the id of an event')
      const events = await history.events({ before, limit: Math.max(1, wholeNumber('limit', limit, maxEventsRead)) })
      return send(request, reply, { events: events.map(({ entry: _, ...event }) => event) })
    },
  )
  app.get(`${root}/routes`, route('Figures of routes over the last 15 minutes'), async (request, reply) =>
    send(request, reply, await history.routes()),
  )
  app.post<{ Body: unknown }>(
    `${root}/events`,
    { ...route('Records an event of a deploy or a supervisor', { body: eventBody }), logLevel: 'info' },
    async ({ body }, reply) => {
      await history.post(postedEvent(body))
      return reply.code(202).header('Cache-Control', 'no-store').send()
    },
  )
}

const whole = { type: 'integer', minimum: 0 } as const
const text = { type: 'string' } as const
const query = (properties: object): object => ({ type: 'object', properties })
const name = { type: 'string', minLength: 1, maxLength: maxName } as const
const eventBody = {
  type: 'object',
  required: ['kind', 'text'],
  properties: {
    kind: { enum: postedKinds },
    instance: name,
    version: name,
    text: { type: 'string', minLength: 1, maxLength: maxText },
  },
} as const

const invalid = (what: string): FleetError => new FleetError('FLEET_ERR_REQUEST_INVALID', what)

/** @throws FLEET_ERR_REQUEST_INVALID */
function wholeNumber(name: string, given: unknown, max: number): number {
  const value = typeof given === 'string' && /^\d{1,16}$/.test(given) ? Number(given) : Number.NaN
  if (!(value <= max)) throw invalid(`\`${name}\` must be a whole number up to ${max}`)
  return value
}

/** @throws FLEET_ERR_REQUEST_INVALID */
function postedEvent(body: unknown): { kind: PostedKind; text: string; instance?: string; version?: string } {
  const { kind, text, instance, version } = (body ?? {}) as Readonly<Record<string, unknown>>
  if (!postedKinds.includes(kind as PostedKind)) throw invalid(`\`kind\` must be one of ${postedKinds.join(', ')}`)
  if (!isShort(text, maxText)) throw invalid(`\`text\` must be a string of 1 to ${maxText} characters`)
  for (const [name, value] of Object.entries({ instance, version }))
    if (value !== undefined && !isShort(value, maxName))
      throw invalid(`\`${name}\` must be a string of 1 to ${maxName} characters`)
  return { kind: kind as PostedKind, text, instance: instance as string, version: version as string }
}

const isShort = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value.length >= 1 && value.length <= max

/** JSON, compressed if the client accepts it: the state of a thousand instances has 200 KB. */
async function send(request: FastifyRequest, reply: FastifyReply, body: object): Promise<FastifyReply> {
  const json = JSON.stringify(body)
  reply.headers({ 'Cache-Control': 'no-store', Vary: 'Accept-Encoding' }).type('application/json; charset=utf-8')
  if (json.length < minCompressed || !acceptsGzip(request.headers['accept-encoding'])) return reply.send(json)
  return reply.header('Content-Encoding', 'gzip').send(await compress(json, { level: 4 }))
}

const acceptsGzip = (accepted: string | undefined): boolean =>
  accepted?.split(',').some((each) => /^\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*$).*)?$/i.test(each)) ?? false
