import { type Answer, headerText } from '../target.ts'
import { type Finding, Findings } from './report.ts'
import { instancesIn, plural, type Setting, succeeded } from './setting.ts'

const flag = /^(true|false)$/
/** The headers on every response, and how their values look. */
const expected: Readonly<Record<string, RegExp>> = {
  'X-Instance-Id': /^\S+$/,
  'X-Served-By': /^\S+$/,
  'X-Response-Time': /^\d+(\.\d+)?\s?ms$/,
  'X-Session-Shared': flag,
  'X-Load-Balancer-Ready': flag,
  'X-Stateless': flag,
  'X-Request-Id': /^\S+$/,
}

/** Does every response say who gave it, and does the fleet say it is stateless? */
export function headers({ sample }: Setting): readonly Finding[] {
  const findings = new Findings('headers')
  const answers = sample.filter(succeeded)
  if (answers.length === 0) {
    findings.skip('no request succeeded')
    return findings.list
  }
  const faulty = Object.keys(expected).filter((name) => answers.some((answer) => !looksRight(answer, name)))
  const right = Object.keys(expected).filter((name) => !faulty.includes(name))
  if (right.length > 0) findings.pass(`on every response: ${right.join(', ')}`)
  for (const name of faulty) findings.fail(...fault(name, answers))

  const ids = new Set(answers.map((answer) => value(answer, 'X-Request-Id')))
  if (ids.size < answers.length) findings.fail(`${answers.length} requests had ${plural(ids.size, 'request id')}`)

  const says = (name: string): Answer | undefined => answers.find((answer) => value(answer, name) === 'false')
  const stateful = says('X-Stateless')
  if (stateful) {
    const text = `${stateful.instanceId ?? 'an instance'} says \`X-Stateless: false\``
    if (instancesIn(answers).size === 1) findings.info(text)
    else findings.fail(`${text}: a client loses its state on another instance`, 'set REDIS_URL on each')
  } else if (says('X-Session-Shared')) findings.info('no sessions are shared, and none are kept in one instance')
  return findings.list
}

const value = (answer: Answer, name: string): string | undefined => headerText(answer.headers[name.toLowerCase()])

const looksRight = (answer: Answer, name: string): boolean => expected[name]?.test(value(answer, name) ?? '') ?? false

function fault(name: string, answers: readonly Answer[]): [text: string, mend?: string] {
  const wrong = answers.filter((answer) => !looksRight(answer, name))
  const odd = wrong.map((answer) => value(answer, name)).find((each) => each !== undefined)
  return odd === undefined
    ? [`${name} is missing on ${wrong.length} of ${plural(answers.length, 'response')}`, 'see the option `headers`']
    : [`${name} is ${JSON.stringify(odd)}`]
}
