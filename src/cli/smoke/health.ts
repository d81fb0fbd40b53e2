import { plural } from '../output.ts'
import { headerText, member, type Target, type TargetResponse } from '../target.ts'
import { type CheckContext, instancesIn, wanted } from './context.ts'
import type { CheckResults } from './report.ts'

type Is = (value: unknown) => boolean
const text: Is = (value) => typeof value === 'string' && value !== ''
const number: Is = (value) => typeof value === 'number'
const bool: Is = (value) => typeof value === 'boolean'
const yes: Is = (value) => value === true
const time: Is = (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value))
const state: Is = (value) => ['healthy', 'degraded', 'unhealthy'].includes(value as string)

/** Required members of each body. */
const paths: Readonly<Record<string, Readonly<Record<string, Is>>>> = {
  '/live': { alive: yes },
  '/alive': { alive: yes },
  '/ready': { ready: yes, timestamp: time, instanceId: text, version: text, loadBalancerReady: bool },
  '/health': {
    status: state,
    success: bool,
    instanceId: text,
    color: text,
    version: text,
    uptime: number,
    timestamp: time,
  },
}
/** Members that a public body must not have. */
const secrets = ['host', 'hostname', 'pid', 'checks', 'dependencies', 'error', 'stack']

/** Checks the responses of the health paths, through the front and from each instance. */
export async function health(context: CheckContext, results: CheckResults): Promise<void> {
  for (const path of Object.keys(paths)) {
    const responses = await askAll(context, path)
    const wrong = responses
      .map(({ from, response }) => ({ from, why: faultIn(path, response) }))
      .filter(({ why }) => why)
    const first = wrong[0]
    if (first) {
      results.fail(
        `${path}: ${wrong.length} of ${plural(responses.length, 'response')} wrong: ${first.why} (${first.from.url})`,
        responses.every(({ response }) => response.status === 404) ? 'proxy this path to the instances' : undefined,
      )
    } else {
      const count = instancesIn(responses.map(({ response }) => response)).size
      const from = count > 0 ? ` from ${plural(count, 'instance')}` : ''
      results.pass(`${path}: ${plural(responses.length, 'response')}${from}`)
    }
  }
}

async function askAll(context: CheckContext, path: string): Promise<{ from: Target; response: TargetResponse }[]> {
  const ask = async (from: Target): Promise<{ from: Target; response: TargetResponse }> => ({
    from,
    response: await from.request(path),
  })
  return await Promise.all([
    ...Array.from({ length: Math.min(2 * wanted(context), 20) }, () => ask(context.front)),
    ...context.direct.map(ask),
  ])
}

function faultIn(path: string, response: TargetResponse): string | undefined {
  if (response.error) return response.error
  if (response.status !== 200) return `status ${response.status}`
  if (!headerText(response.headers['content-type'])?.startsWith('application/json')) return 'the body is not JSON'
  if (!headerText(response.headers['cache-control'])?.includes('no-store')) return 'Cache-Control is not no-store'
  const missing = Object.entries(paths[path] ?? {}).find(([key, is]) => !is(member(response.json, key)))
  if (missing) return `\`${missing[0]}\` is ${JSON.stringify(member(response.json, missing[0]))}`
  const secret = secrets.find((key) => member(response.json, key) !== undefined)
  return secret && `it discloses \`${secret}\``
}
