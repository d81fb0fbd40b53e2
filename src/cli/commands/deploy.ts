import { readEnv } from '../../base/env.ts'
import type { FleetError } from '../../base/errors.ts'
import { type Command, defineCommand, flag, integerOption, option, usageError, type Values } from '../args.ts'
import { splitCommand } from '../deploy/command-line.ts'
import { composeRolling, containers } from '../deploy/fronts/compose.ts'
import { haproxyRotation } from '../deploy/fronts/haproxy.ts'
import { nginxRotation } from '../deploy/fronts/nginx.ts'
import { pm2Rolling } from '../deploy/fronts/pm2.ts'
import { initialStatus } from '../deploy/instance-status.ts'
import { blueGreen, canary, type Release, rolling, survey } from '../deploy/plans.ts'
import type { Rotation } from '../deploy/rotation.ts'
import { execute, show } from '../deploy/runner.ts'
import type { DeployPlan } from '../deploy/step.ts'
import { operatorOptions } from '../operators.ts'
import { Reporter } from '../reporter.ts'
import { Target } from '../target.ts'

const strategies = ['rolling', 'blue-green', 'canary'] as const
const fronts = ['nginx', 'haproxy', 'pm2', 'compose'] as const

const options = {
  front: option('NAME of the front: nginx, haproxy, pm2, compose', { short: 'f', choices: fronts }),
  version: option('VERSION that the new instances must report (FLEET_VERSION)'),
  color: option('COLOR that they must report (FLEET_COLOR); blue-green sets it'),
  'dry-run': flag('Print the plan without executing it'),
  timeout: option('MS a program may take, or an instance until it is ready, from 1000', { default: '60000' }),

  target: option('HOST:PORT of an instance; several times (rolling, canary)', { multiple: true }),
  blue: option('HOST:PORT of an instance of the blue side; several times', { multiple: true }),
  green: option('HOST:PORT of an instance of the green side; several times', { multiple: true }),
  to: option('SIDE to switch to, blue or green (default: the idle one)', { choices: ['blue', 'green'] }),
  canary: option('HOST:PORT of a canary; several times', { multiple: true }),
  start: option('COMMAND that replaces the instance at {host}:{port} with {version}'),
  stop: option('COMMAND that stops the instance at {host}:{port}'),

  percent: option('PERCENT of the requests for the canary, 1 to 90', { default: '10' }),
  window: option('MS for which the canary is compared, or the new side is watched', { default: '30000' }),
  'min-requests': option('N requests that a canary needs to pass', { default: '50' }),
  'error-margin': option('PERCENT by which the canary’s 5xx rate may exceed that of the others', { default: '1' }),
  'p95-factor': option('FACTOR by which its p95 may exceed that of the others', { default: '1.5' }),
  hold: flag('Keep a good canary at its share and replace no instance'),
  token: operatorOptions.token,
  'admin-port': option('PORT of the instances’ operators’ paths (FLEET_ADMIN_PORT), or +N: their port plus N'),
  dashboard: option('URL of the dashboard that shows the deploy (default: /fleet of the instances)'),

  upstreams: option('FILE of nginx with the upstream blocks'),
  upstream: option('NAME of the upstream of the instances', { default: 'fleet' }),
  nginx: option('COMMAND that runs nginx', { default: 'nginx' }),
  settle: option('MS to wait for nginx’s old workers', { default: '1000' }),
  socket: option('PATH of HAProxy’s runtime API', { default: '/run/haproxy/admin.sock' }),
  backend: option('NAME of HAProxy’s backend of the instances', { default: 'fleet' }),
  pm2: option('COMMAND that runs pm2', { default: 'pm2' }),
  config: option('FILE that pm2 reloads', { default: 'ecosystem.config.cjs' }),
  url: option('URL of the processes of pm2'),
  restore: option('COMMAND that restores the previous build, for pm2'),
  compose: option('COMMAND that runs compose', { default: 'docker compose' }),
  service: option('NAME of the service of the instances', { default: 'app' }),
  scale: option('N containers (default: the current number)'),
} as const
type Given = Values<typeof options>

const command: Command = defineCommand({
  name: 'deploy',
  summary: 'Deploy another version to a running fleet, and roll back when it fails',
  usage: `fleet deploy rolling    --front nginx|haproxy --version V --target HOST:PORT … --start COMMAND
fleet deploy blue-green --front nginx|haproxy --version V --blue HOST:PORT … --green HOST:PORT … --start COMMAND
fleet deploy canary     --front nginx|haproxy --version V --target … --canary HOST:PORT … --start COMMAND
fleet deploy rolling    --front pm2 FILE --version V --url URL
fleet deploy rolling    --front compose --version V

An interrupted deploy can be run again: the plan is based on the running instances. See docs/deploy.md.`,
  options,
  suggest: { words: strategies, files: true },
  async run({ values, positionals, out }) {
    const plan = await planFor(values, positionals)
    if (values['dry-run']) {
      out.result({ plan })
      show(plan, out)
      return 0
    }
    out.describeFailure({ ok: false, plan })
    const secrets = {
      token: values.token ?? readEnv().FLEET_ADMIN_TOKEN,
      operatorsUrl: operatorsUrl(values['admin-port']),
    }
    const dashboards = dashboardsOf(values, secrets.operatorsUrl)
    const reporter = new Reporter({ dashboards: () => dashboards, token: secrets.token })
    const { version } = values
    try {
      await execute(plan, out, secrets, (kind, text) => reporter.add({ kind, text, version }))
    } finally {
      await reporter.close()
    }
    out.result({ ok: true, plan })
    out.line(plan.length === 0 ? 'nothing to do' : `version ${values.version} serves`)
    return 0
  },
})
export default command

/** Any of them records the deploy, so one that is replaced meanwhile is none too few. */
function dashboardsOf(values: Given, operatorsUrl: (url: string) => string): readonly string[] {
  if (values.dashboard !== undefined) return [new Target(values.dashboard).url]
  const { target = [], blue = [], green = [], canary = [], url } = values
  const addresses = [...target, ...blue, ...green, ...canary].map((address) => `http://${address}`)
  return [...addresses, ...(url === undefined ? [] : [url])].map((each) => `${operatorsUrl(each)}/fleet`)
}

/**
 * Maps the URL of an instance to the URL of its operators' paths.
 *
 * @throws FLEET_ERR_USAGE
 */
export function operatorsUrl(given: string | undefined): (url: string) => string {
  if (given === undefined) return (url) => url
  const isOffset = given.startsWith('+')
  const port = integerOption('admin-port', given.replace('+', ''), 1, 65_535)
  return (url) => {
    const own = new URL(url)
    const at = isOffset ? Number(own.port) + port : port
    if (at > 65_535) throw usage(`--admin-port ${given} gives no valid port for ${url}`)
    own.port = `${at}`
    return own.origin
  }
}

async function planFor(values: Given, [strategy, ...rest]: readonly string[]): Promise<DeployPlan> {
  const how = oneOf('strategy', strategies, strategy)
  const front = oneOf('--front', fronts, values.front)
  if (rest.length > (front === 'pm2' ? 1 : 0)) throw usage(`${rest.join(' ')} is unexpected`)
  if (front === 'pm2' || front === 'compose') {
    if (how !== 'rolling')
      throw usage(`${how} needs a front that addresses single instances: nginx or haproxy, not ${front}`)
    return front === 'pm2' ? pm2Plan(values, rest[0]) : composePlan(values)
  }
  const release: Release = {
    version: version(values),
    color: values.color,
    programs: {
      start: splitCommand('start', required('start', values.start)),
      stop: values.stop === undefined ? undefined : splitCommand('stop', values.stop),
    },
    timeoutMs: timeout(values),
  }
  const rotation = (addresses: readonly string[]): Promise<Rotation> => rotationOf(front, values, addresses)
  const windowMs = integerOption('window', values.window, 0, 86_400_000)

  if (how === 'blue-green') {
    const sides = { blue: addresses('blue', values.blue), green: addresses('green', values.green) }
    const all = distinct([...sides.blue, ...sides.green])
    const to = values.to === undefined ? undefined : oneOf('--to', ['blue', 'green'] as const, values.to)
    if (values.color !== undefined) throw usage('blue-green sets the color; remove --color')
    return blueGreen({ ...release, to, watchMs: windowMs }, sides, await survey(all), await rotation(all))
  }
  const targets = addresses('target', values.target)
  if (how === 'rolling') {
    if (targets.length < 2)
      throw usage('one target cannot be replaced without downtime: use blue-green or several targets')
    return rolling(release, distinct(targets), await survey(targets), await rotation(targets))
  }
  const canaries = addresses('canary', values.canary)
  const all = distinct([...targets, ...canaries])
  if (targets.length < 2 && !values.hold)
    throw usage('one target cannot be replaced without downtime: use several targets or --hold')
  const limits = {
    errorMargin: number('error-margin', values['error-margin'], 0, 100) / 100,
    p95Factor: number('p95-factor', values['p95-factor'], 1, 1_000),
    minRequests: integerOption('min-requests', values['min-requests'], 1, 1_000_000_000),
  }
  const percent = integerOption('percent', values.percent, 1, 90)
  const asked = { ...release, percent, windowMs, limits, hold: values.hold === true }
  return canary(asked, { targets, canaries }, await survey(all), await rotation(all))
}

function rotationOf(front: 'nginx' | 'haproxy', values: Given, all: readonly string[]): Promise<Rotation> {
  const timeoutMs = timeout(values)
  if (front === 'haproxy') {
    return haproxyRotation({ socket: values.socket, backend: values.backend, timeoutMs }, all)
  }
  const file = required('upstreams', values.upstreams)
  const settleMs = integerOption('settle', values.settle, 0, 600_000)
  const nginx = splitCommand('nginx', values.nginx)
  return nginxRotation({ file, upstream: values.upstream, command: nginx, settleMs, timeoutMs }, all)
}

async function pm2Plan(values: Given, file: string | undefined): Promise<DeployPlan> {
  if (file === undefined) throw usage('missing FILE, the program of pm2, for the check before the reload')
  const url = required('url', values.url)
  return pm2Rolling({
    command: splitCommand('pm2', values.pm2),
    config: values.config,
    file,
    url,
    version: version(values),
    color: values.color,
    before: (await initialStatus(url)).version,
    timeoutMs: timeout(values),
    restore: values.restore === undefined ? undefined : splitCommand('restore', values.restore),
  })
}

async function composePlan(values: Given): Promise<DeployPlan> {
  const compose = {
    command: splitCommand('compose', values.compose),
    service: values.service,
    scale: values.scale === undefined ? undefined : integerOption('scale', values.scale, 1, 1_000),
    version: version(values),
    color: values.color,
    timeoutMs: timeout(values),
  }
  return composeRolling(compose, await containers(compose))
}

const usage = (detail: string): FleetError => usageError(`${detail}; see \`fleet deploy --help\``)

function oneOf<T extends string>(what: string, known: readonly T[], given: string | undefined): T {
  const found = known.find((name) => name === given)
  if (found === undefined)
    throw usage(`${what} must be one of ${known.join(', ')}${given === undefined ? '' : `, not ${given}`}`)
  return found
}

function required(option: string, given: string | undefined): string {
  if (given === undefined || given === '') throw usage(`--${option} is missing`)
  return given
}

function version(values: Given): string {
  const text = required('version', values.version)
  if (!/^[\w.:@+-]{1,128}$/.test(text)) throw usage('--version must be up to 128 letters, digits or . _ : @ + -')
  return text
}

const timeout = (values: Given): number => integerOption('timeout', values.timeout, 1_000, 3_600_000)

function addresses(option: string, given: readonly string[] | undefined): readonly string[] {
  if (given === undefined) throw usage(`--${option} is missing`)
  for (const address of given) {
    const port = Number(/^(?:[\w.-]+|\[[\da-fA-F:]+\]):(\d{1,5})$/.exec(address)?.[1])
    if (!(port >= 1 && port <= 65_535)) throw usage(`--${option} must be HOST:PORT, not ${JSON.stringify(address)}`)
  }
  return given
}

function distinct(all: readonly string[]): readonly string[] {
  const twice = all.find((address, i) => all.indexOf(address) !== i)
  if (twice !== undefined) throw usage(`${twice} is listed twice`)
  return all
}

function number(option: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (text.trim() !== '' && value >= min && value <= max) return value
  throw usage(`--${option} must be a number from ${min} to ${max}, not ${JSON.stringify(text)}`)
}
