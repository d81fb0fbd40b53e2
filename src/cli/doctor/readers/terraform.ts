import { type Fact, type FrontFacts, factAt, type Place, type Reader, type Reading } from '../facts.ts'
import { asList, asMap, asNumber, asText } from '../yaml-file.ts'

/** Defaults of the AWS provider, seconds and counts; ECS kills a container after 30 s. */
const defaults = { idle: 60, deregistration: 300, interval: 30, unhealthy: 3, timeout: 5, stop: 30 }

type Values = Readonly<Record<string, unknown>>

/** The output of `terraform show -json`, of a state or a plan. */
export const readTerraform: Reader = (sources) =>
  sources.flatMap(({ file, text }) => {
    const lines = linesOf(text)
    const { planned_values, values } = asMap(JSON.parse(text)) as Values
    const { root_module } = asMap(planned_values ?? values) as Values
    return resourcesOf(root_module).flatMap((resource) => {
      const address = asText(resource.address) ?? ''
      if (resource.mode !== 'managed') return []
      // Without the values that are known only after the apply.
      const known = asMap(resource.values) as Values
      return readResource(asText(resource.type), known, { file, line: lines.get(address) ?? 1, address })
    })
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
      if ((values.load_balancer_type ?? 'application') !== 'application') return []
      return [{ ...front, source: 'alb', idleMs: seconds(values, 'idle_timeout', defaults.idle, place) }]
    }
    case 'aws_lb_target_group':
    case 'aws_alb_target_group':
      return [{ ...front, source: 'alb', ...targets(values, place) }]
    case 'aws_ecs_task_definition':
      return readTask(values, place)
    case 'cloudflare_load_balancer_monitor':
      return [{ ...front, source: 'cloudflare', readiness: factAt(asText(values.path) ?? '/', place) }]
    default:
      return []
  }
}

/** A number or its default when it is not set; `undefined` when it is known only after the apply. */
const numberOf = (values: Values, name: string, byDefault: number): number | undefined =>
  values[name] === null ? byDefault : asNumber(values[name])

function seconds(values: Values, name: string, byDefault: number, place: Place): Fact<number> | undefined {
  const value = numberOf(values, name, byDefault)
  return value === undefined ? undefined : factAt(value * 1_000, place)
}

function targets(values: Values, place: Place): Pick<FrontFacts, 'noticeMs' | 'deregisterMs' | 'readiness'> {
  const none = { interval: null, unhealthy_threshold: null, timeout: null, path: '/' }
  const check = { ...none, ...asMap([values.health_check].flat()[0]) } as Values
  const interval = numberOf(check, 'interval', defaults.interval)
  const unhealthy = numberOf(check, 'unhealthy_threshold', defaults.unhealthy)
  const timeout = numberOf(check, 'timeout', defaults.timeout)
  const isKnown = interval !== undefined && unhealthy !== undefined && timeout !== undefined
  return {
    noticeMs: isKnown ? factAt((interval * unhealthy + timeout) * 1_000, place) : undefined,
    deregisterMs: seconds(values, 'deregistration_delay', defaults.deregistration, place),
    readiness: factAt(asText(check.path) ?? '/', place),
  }
}

function readTask({ container_definitions: text }: Values, place: Place): Reading[] {
  const containers: unknown = typeof text === 'string' ? JSON.parse(text) : undefined
  return asList(containers).map((container): Reading => {
    const { name, command, environment, secrets, stopTimeout } = asMap(container) as Values
    // A secret has `valueFrom` and no `value`.
    const variables = [...asList(environment), ...asList(secrets)].map(asMap) as Values[]
    const env = new Map(variables.map(({ name, value }) => [asText(name) ?? '', factAt(asText(value), place)]))
    return {
      role: 'instance',
      source: 'ecs',
      name: `${place.address} ${asText(name) ?? ''}`.trim(),
      ...place,
      env,
      unseen: 'none',
      graceMs: factAt((asNumber(stopTimeout) ?? defaults.stop) * 1_000, place),
      command: Array.isArray(command) ? factAt(command.map(asText).join(' '), place) : undefined,
    }
  })
}
