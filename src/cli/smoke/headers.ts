import { plural } from '../output.ts'
import { headerText, type TargetResponse } from '../target.ts'
import { type CheckContext, instancesIn, succeeded } from './context.ts'
import type { CheckResults } from './report.ts'

const flag = /^(true|false)$/
/** The headers of every response, and the format of their values. */
const expected: Readonly<Record<string, RegExp>> = {
  'X-Instance-Id': /^\S+$/,
  'X-Served-By': /^\S+$/,
  'X-Response-Time': /^\d+(\.\d+)?\s?ms$/,
  'X-Session-Shared': flag,
  'X-Load-Balancer-Ready': flag,
  'X-Stateless': flag,
  'X-Request-Id': /^\S+$/,
}

/** Checks the headers of every response: instance, timing, statelessness. */
export function headers({ sample }: CheckContext, results: CheckResults): void {
  const responses = sample.filter(succeeded)
  if (responses.length === 0) {
    results.skip('no request succeeded')
    return
  }
  const faulty = Object.keys(expected).filter((name) => responses.some((response) => !looksRight(response, name)))
  const right = Object.keys(expected).filter((name) => !faulty.includes(name))
  if (right.length > 0) results.pass(`on every response: ${right.join(', ')}`)
  for (const name of faulty) results.fail(...fault(name, responses))

  const ids = new Set(responses.map((response) => value(response, 'X-Request-Id')))
  if (ids.size < responses.length) results.fail(`${responses.length} requests had ${plural(ids.size, 'request id')}`)

  const says = (name: string): TargetResponse | undefined =>
    responses.find((response) => value(response, name) === 'false')
  const stateful = says('X-Stateless')
  if (stateful) {
    const text = `${stateful.instanceId ?? 'an instance'} sends \`X-Stateless: false\``
    if (instancesIn(responses).size === 1) results.info(text)
    else results.fail(`${text}: a client loses its state on another instance`, 'set REDIS_URL on each')
  } else if (says('X-Session-Shared')) results.info('the application has no sessions')
}

const value = (response: TargetResponse, name: string): string | undefined =>
  headerText(response.headers[name.toLowerCase()])

const looksRight = (response: TargetResponse, name: string): boolean =>
  expected[name]?.test(value(response, name) ?? '') ?? false

function fault(name: string, responses: readonly TargetResponse[]): [text: string, fix?: string] {
  const wrong = responses.filter((response) => !looksRight(response, name))
  const odd = wrong.map((response) => value(response, name)).find((each) => each !== undefined)
  return odd === undefined
    ? [`${name} is missing on ${wrong.length} of ${plural(responses.length, 'response')}`, 'see the option `headers`']
    : [`${name} is ${JSON.stringify(odd)}`]
}
