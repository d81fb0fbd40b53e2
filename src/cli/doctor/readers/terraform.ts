import { dirname } from 'node:path'
import type { Fact, Front, Instance, Reader, Reading, Source, Variable } from '../facts.ts'
import { type Block, type HclValue, parseHcl, Unknown } from './hcl.ts'

/** Defaults of the AWS provider, seconds and counts; ECS kills a container after 30 s. */
const defaults = { idle: 60, deregistration: 300, interval: 30, unhealthy: 3, timeout: 5, stop: 30 }

interface Placed extends Block {
  readonly file: string
}
type Resolve = (value: HclValue | undefined) => HclValue | undefined

/** The files of a folder are one module: its locals and the defaults of its variables resolve references. */
export const readTerraform: Reader = (sources) => {
  const modules = Map.groupBy(sources, ({ file }) => dirname(file))
  return [...modules.values()].flatMap(readModule)
}

function readModule(sources: readonly Source[]): Reading[] {
  const blocks: Placed[] = sources.flatMap(({ file, text }) => parseHcl(text).map((block) => ({ ...block, file })))
  const known = new Map<string, HclValue>()
  for (const { type, labels, attributes } of blocks) {
    const byDefault = attributes.get('default')
    if (type === 'variable' && byDefault) known.set(`var.${labels[0]}`, byDefault.value)
    if (type === 'locals') for (const [name, { value }] of attributes) known.set(`local.${name}`, value)
  }
  const resolve: Resolve = (value) => {
    let current = value
    for (let depth = 0; current instanceof Unknown && depth < 8; depth++) {
      const text = current.text.replace(/^\$\{([^{}]+)\}$/, '$1').trim()
      if (!known.has(text)) break
      current = known.get(text)
    }
    return current
  }
  return blocks.flatMap((block) => (block.type === 'resource' ? readResource(block, resolve) : []))
}

function readResource(block: Placed, resolve: Resolve): Reading[] {
  const [type] = block.labels
  if (type === 'aws_lb' || type === 'aws_alb') return readBalancer(block, resolve)
  if (type === 'aws_lb_target_group' || type === 'aws_alb_target_group') return readTargets(block, resolve)
  if (type === 'aws_ecs_task_definition') return readTask(block, resolve)
  if (type === 'cloudflare_load_balancer_monitor') return readMonitor(block, resolve)
  return []
}

const address = ({ labels }: Block): string => labels.join('.')

/** A numeric attribute or its default; `undefined` when it is computed. */
function numberOf(
  block: Placed,
  holder: Block,
  name: string,
  byDefault: number,
  resolve: Resolve,
): Fact<number> | undefined {
  const attribute = holder.attributes.get(name)
  if (!attribute) return { value: byDefault, file: block.file, line: holder.line }
  const value = Number(resolve(attribute.value))
  return Number.isFinite(value) ? { value, file: block.file, line: attribute.line } : undefined
}

function textOf(block: Placed, holder: Block, name: string, resolve: Resolve): Fact<string> | undefined {
  const attribute = holder.attributes.get(name)
  const value = resolve(attribute?.value)
  return attribute && typeof value === 'string' ? { value, file: block.file, line: attribute.line } : undefined
}

const seconds = (fact: Fact<number> | undefined): Fact<number> | undefined =>
  fact && { ...fact, value: fact.value * 1_000 }

function readBalancer(block: Placed, resolve: Resolve): Reading[] {
  const kind = textOf(block, block, 'load_balancer_type', resolve)
  if (kind !== undefined && kind.value !== 'application') return []
  const idleMs = seconds(numberOf(block, block, 'idle_timeout', defaults.idle, resolve))
  return [{ role: 'front', source: 'alb', name: address(block), file: block.file, line: block.line, idleMs }]
}

function readTargets(block: Placed, resolve: Resolve): Reading[] {
  const { file, line } = block
  const check = block.blocks.find(({ type }) => type === 'health_check')
  const holder = check ?? block
  const figure = (name: string, byDefault: number): Fact<number> | undefined =>
    check ? numberOf(block, check, name, byDefault, resolve) : { value: byDefault, file, line }
  const interval = figure('interval', defaults.interval)
  const unhealthy = figure('unhealthy_threshold', defaults.unhealthy)
  const timeout = figure('timeout', defaults.timeout)
  const known = interval && unhealthy && timeout
  const front: Front = {
    role: 'front',
    source: 'alb',
    name: address(block),
    file,
    line,
    noticeMs: known && seconds({ ...interval, value: interval.value * unhealthy.value + timeout.value }),
    deregisterMs: seconds(numberOf(block, block, 'deregistration_delay', defaults.deregistration, resolve)),
    readiness: (check && textOf(block, check, 'path', resolve)) ?? { value: '/', file, line: holder.line },
  }
  return [front]
}

function readMonitor(block: Placed, resolve: Resolve): Reading[] {
  const { file, line } = block
  const readiness = textOf(block, block, 'path', resolve) ?? { value: '/', file, line }
  return [{ role: 'front', source: 'cloudflare', name: address(block), file, line, readiness }]
}

function readTask(block: Placed, resolve: Resolve): Reading[] {
  const containers = resolve(block.attributes.get('container_definitions')?.value)
  if (!Array.isArray(containers)) return []
  const { file } = block
  return containers.flatMap((container): Reading[] => {
    const at = (key: string): number => block.keys.get(key) ?? block.line
    const member = (name: string): HclValue | undefined =>
      typeof container === 'object' && container !== null && !(container instanceof Unknown)
        ? resolve(Object.hasOwn(container, name) ? (container as Record<string, HclValue>)[name] : undefined)
        : undefined
    const env = new Map<string, Variable>()
    for (const [list, isSecret] of [
      ['environment', false],
      ['secrets', true],
    ] as const) {
      const entries = member(list)
      for (const entry of Array.isArray(entries) ? entries : []) {
        const name = resolve(entry?.name)
        const value = resolve(entry?.value)
        if (typeof name !== 'string') continue
        const known = !isSecret && (typeof value === 'string' || typeof value === 'number')
        env.set(name, { value: known ? String(value) : undefined, file, line: at(`name=${name}`) })
      }
    }
    const stop = member('stopTimeout')
    const stopMs = stop === undefined ? defaults.stop * 1_000 : Number(stop) * 1_000
    const command = member('command')
    const instance: Instance = {
      role: 'instance',
      source: 'ecs',
      name: `${address(block)} ${String(member('name') ?? '')}`.trim(),
      file,
      line: block.line,
      env,
      unseen: 'none',
      graceMs: Number.isFinite(stopMs) ? { value: stopMs, file, line: at('stopTimeout') } : undefined,
      command: Array.isArray(command) ? { value: command.map(String).join(' '), file, line: at('command') } : undefined,
    }
    return [instance]
  })
}
