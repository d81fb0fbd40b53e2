import { type Answer, headerText, member, type Target } from '../target.ts'
import { type Finding, Findings } from './report.ts'
import { instancesIn, plural, type Setting, wanted } from './setting.ts'

type Is = (value: unknown) => boolean
const text: Is = (value) => typeof value === 'string' && value !== ''
const number: Is = (value) => typeof value === 'number'
const bool: Is = (value) => typeof value === 'boolean'
const yes: Is = (value) => value === true
const time: Is = (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value))
const state: Is = (value) => ['healthy', 'degraded', 'unhealthy'].includes(value as string)

/** What a client must find in each body. */
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
/** What a public body must not name. */
const secrets = ['host', 'hostname', 'pid', 'checks', 'dependencies', 'error', 'stack']

/** Do the health paths answer, through the front and on each instance, in the right shape? */
export async function health(setting: Setting): Promise<readonly Finding[]> {
  const findings = new Findings('health')
  for (const path of Object.keys(paths)) {
    const answers = await askAll(setting, path)
    const wrong = answers.map(({ from, answer }) => ({ from, why: faultIn(path, answer) })).filter(({ why }) => why)
    const first = wrong[0]
    if (first) {
      findings.fail(
        `${path}: ${wrong.length} of ${plural(answers.length, 'answer')} wrong: ${first.why} (${first.from.url})`,
        answers.every(({ answer }) => answer.status === 404)
          ? 'let the front pass this path to the instances'
          : undefined,
      )
    } else {
      const count = instancesIn(answers.map(({ answer }) => answer)).size
      const from = count > 0 ? ` from ${plural(count, 'instance')}` : ''
      findings.pass(`${path}: ${plural(answers.length, 'answer')}${from}`)
    }
  }
  return findings.list
}

async function askAll(setting: Setting, path: string): Promise<{ from: Target; answer: Answer }[]> {
  const ask = async (from: Target): Promise<{ from: Target; answer: Answer }> => ({
    from,
    answer: await from.ask(path),
  })
  return await Promise.all([
    ...Array.from({ length: Math.min(2 * wanted(setting), 20) }, () => ask(setting.front)),
    ...setting.direct.map(ask),
  ])
}

function faultIn(path: string, answer: Answer): string | undefined {
  if (answer.error) return answer.error
  if (answer.status !== 200) return `status ${answer.status}`
  if (!headerText(answer.headers['content-type'])?.startsWith('application/json')) return 'the body is no JSON'
  if (!headerText(answer.headers['cache-control'])?.includes('no-store')) return 'Cache-Control is not no-store'
  const missing = Object.entries(paths[path] ?? {}).find(([key, is]) => !is(member(answer.json, key)))
  if (missing) return `\`${missing[0]}\` is ${JSON.stringify(member(answer.json, missing[0]))}`
  const secret = secrets.find((key) => member(answer.json, key) !== undefined)
  return secret && `it tells everyone \`${secret}\``
}
