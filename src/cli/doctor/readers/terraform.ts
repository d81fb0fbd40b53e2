import {
  type Fact,
  type FrontFacts,
  factAt,
  type Place,
  probedPath,
  type Reader,
  type Reading,
  unjudged,
  type Variable,
} from '../facts.ts'
import { asCommand, asList, asMap, asNumber, asText } from '../yaml-file.ts'
import { commandOf } from './process-one.ts'
import { instanceOf, isDevelopment, secretsOf } from './signs.ts'

/** Defaults of the AWS provider, seconds and counts; ECS kills a container after 30 s. */
const defaults = { idle: 60, deregistration: 300, interval: 30, unhealthy: 3, timeout: 5, stop: 30 }

type Values = Readonly<Record<string, unknown>>

/** The output of `terraform show -json`, of a state or a plan. */
export const readTerraform: Reader = (sources) =>
  sources.flatMap(({ file, text }) => {
    const lines = linesOf(text)
    const { planned_values, values } = asMap(JSON.parse(text)) as Values
    const { root_module } = asMap(planned_values ?? values) as Values
    const readings = resourcesOf(root_module).flatMap((resource): Reading[] => {
      const address = asText(resource.address) ?? ''
      if (resource.mode !== 'managed') return []
      // Without the values that are known only after the apply.
      const known = asMap(resource.values) as Values
      return readResource(asText(resource.type), known, { file, line: lines.get(address) ?? 1, address })
    })
    const nothing = 'it has no ALB, target group, ECS task or Cloudflare monitor'
    return readings.length > 0 ? readings : [unjudged({ file, line: 1 }, nothing)]
  })

function resourcesOf(module: unknown): Values[] {
  const { resources, child_modules } = asMap(module) as Values
  return [...(asList(resources).map(asMap) as Values[]), ...asList(child_modules).flatMap(resourcesOf)]
}

/** The first line of each address. Terraform prints one line; a formatter may have split it. */
function linesOf(text: string): Map<string, number> {
  const lines = new Map<string, number>()
  for (const [index, line] of text.split('\n').entries()) {
    for (const [, address = ''] of line.matchAll(/"address":\s{0,9}"((?:[^"\\]|\\.)*)"/g)) {
      const name = address.replaceAll('\\"', '"')
      if (!lines.has(name)) lines.set(name, index + 1)
    }
  }
  return lines
}

function readResource(type: string | undefined, values: Values, place: Place): Reading[] {
  const front = { role: 'front', name: place.address ?? '', ...place } as const
  switch (type) {
    case 'aws_lb':
    case 'aws_alb': {
      // A network load balancer passes connections on, and has none of its own.
      if ((values.load_balancer_type ?? 'application') !== 'application')
        return [unjudged(place, 'it is no application load balancer')]
      const idleMs = seconds(values, 'idle_timeout', defaults.idle, place)
      if (!idleMs) return [unknown(place, 'idle_timeout', 'DOCTOR_KEEPALIVE')]
      return [{ ...front, source: 'alb', idleMs }]
    }
    case 'aws_lb_target_group':
    case 'aws_alb_target_group':
      return readTargets(values, place)
    case 'aws_ecs_task_definition':
      return readTask(values, place)
    case 'cloudflare_load_balancer_monitor': {
      if (!/^https?$/i.test(asText(values.type) ?? 'http')) return [unjudged(place, 'it checks no path')]
      const path = textOf(values, 'path', '/')
      if (path === undefined) return [unknown(place, 'path', 'DOCTOR_READINESS_PATH')]
      return [{ ...front, source: 'cloudflare', readiness: factAt(path, place) }]
    }
    default:
      return []
  }
}

const unknown = (place: Place, what: string, code: string): Reading =>
  unjudged(place, `${what} is known only after the apply`, [code])

/** A number or its default when it is not set; `undefined` when it is known only after the apply. */
const numberOf = (values: Values, name: string, byDefault: number): number | undefined =>
  values[name] === null ? byDefault : asNumber(values[name])

const textOf = (values: Values, name: string, byDefault: string): string | undefined =>
  values[name] === null || values[name] === '' ? byDefault : asText(values[name])

function seconds(values: Values, name: string, byDefault: number, place: Place): Fact<number> | undefined {
  const value = numberOf(values, name, byDefault)
  if (value === undefined) return undefined
  return values[name] === null
    ? { ...factAt(value * 1_000, place), default: 'the AWS provider’s default' }
    : factAt(value * 1_000, place)
}

/** A target group of a network load balancer checks a port, unless its check has another protocol. */
function readTargets(values: Values, place: Place): Reading[] {
  if (values.target_type === 'lambda') return [unjudged(place, 'its targets are functions')]
  const given = [values.health_check].flat()[0]
  const none = { interval: null, unhealthy_threshold: null, timeout: null, path: null, protocol: null, enabled: null }
  const check = (given === undefined || given === null ? none : asMap(given)) as Values
  const isHttp = /^https?$/i.test(asText(check.protocol) ?? asText(values.protocol) ?? 'HTTP')
  const interval = numberOf(check, 'interval', defaults.interval)
  const unhealthy = numberOf(check, 'unhealthy_threshold', defaults.unhealthy)
  const timeout = numberOf(check, 'timeout', defaults.timeout)
  const isKnown = interval !== undefined && unhealthy !== undefined && timeout !== undefined
  const path = textOf(check, 'path', '/')
  const deregisterMs = seconds(values, 'deregistration_delay', defaults.deregistration, place)
  const front: FrontFacts = {
    role: 'front',
    source: 'alb',
    name: place.address ?? '',
    ...place,
    noticeMs: isKnown ? factAt((interval * unhealthy + timeout) * 1_000, place) : undefined,
    deregisterMs,
    readiness: isHttp && path !== undefined ? factAt(path, place) : undefined,
  }
  return [
    front,
    ...(isKnown ? [] : [unknown(place, 'the interval of the health check', 'DOCTOR_NOTICE')]),
    ...(deregisterMs ? [] : [unknown(place, 'deregistration_delay', 'DOCTOR_DEREGISTER')]),
    ...(isHttp && path === undefined ? [unknown(place, 'the path of the health check', 'DOCTOR_READINESS_PATH')] : []),
  ]
}

function readTask({ container_definitions: text }: Values, place: Place): Reading[] {
  if (typeof text !== 'string') return [unjudged(place, 'its containers are known only after the apply')]
  let containers: unknown
  try {
    containers = JSON.parse(text)
  } catch {
    return [unjudged(place, 'container_definitions is not JSON')]
  }
  return asList(containers).flatMap((container) => readContainer(asMap(container) as Values, place))
}

function readContainer(container: Values, place: Place): Reading[] {
  const { name, image, command, entryPoint, environment, secrets, environmentFiles, stopTimeout, healthCheck } =
    container
  // A secret has `valueFrom` and no `value`.
  const variables = [...asList(environment), ...asList(secrets)].map(asMap) as Values[]
  const env = new Map<string, Variable>(
    variables.map(({ name, value }) => [asText(name) ?? '', factAt(asText(value), place)]),
  )
  const words = [...asList(entryPoint), ...asList(command)].map(String)
  const started = commandOf(words)
  const title = `${place.address} ${asText(name) ?? ''}`.trim()
  const signs = {
    env,
    command: started,
    image: asText(image),
    isBuilt: image === undefined || isOwnImage(asText(image)),
  }
  const instance = instanceOf(signs)
  if (!instance) return [unjudged(place, `${title} is no instance of a fleet`), ...secretsOf(env)]
  const probed = probedPath(asCommand((asMap(healthCheck) as Values).command) ?? '')
  return [
    {
      role: 'instance',
      source: 'ecs',
      name: title,
      ...place,
      ...instance,
      env,
      unseen: asList(environmentFiles).length > 0 ? 'any' : 'none',
      graceMs: graceOf(stopTimeout, place),
      command: started !== undefined && !isDevelopment(started) ? factAt(started, place) : undefined,
      // ECS replaces a task whose check fails.
      liveness: probed === undefined ? undefined : factAt(probed, place),
    },
  ]
}

/** An image of the account’s own registry. */
const isOwnImage = (image = ''): boolean => /^\d+\.dkr\.ecr\./.test(image)

function graceOf(stopTimeout: unknown, place: Place): Fact<number> {
  const given = asNumber(stopTimeout)
  return given === undefined
    ? { ...factAt(defaults.stop * 1_000, place), default: 'ECS’ default' }
    : factAt(given * 1_000, place)
}
