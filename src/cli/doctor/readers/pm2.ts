import { duration } from '../durations.ts'
import {
  type Fact,
  factAt,
  type InstanceFacts,
  type Place,
  type Reader,
  type Reading,
  type Source,
  type Variable,
  violation,
} from '../facts.ts'
import type { RuleCode } from '../rules.ts'
import { asText } from '../yaml-file.ts'
import { exportsOf, isObject, jsonOf, type StaticObject, type StaticValue, unresolved } from './static-js.ts'

/** pm2's own defaults. */
const defaults = { killMs: 1_600, listenMs: 3_000 }

/** pm2 executes `ecosystem.config.*`. Doctor evaluates only what is static in it, because the folder may be untrusted. */
export const readPm2: Reader = (sources) => sources.filter(({ text }) => !forwards.test(text)).flatMap(readOne)

/** Such a file has no configuration of its own: the other one is read, too. */
const forwards = /^import config from '\.\/ecosystem\.config\.cjs'\s+export const \{ apps \} = config\s*$/m

function readOne({ file, text }: Source): readonly Reading[] {
  const exported = file.endsWith('.json') ? jsonOf(text) : exportsOf(text)
  const member = isObject(exported) ? exported.get('apps') : undefined
  const apps = member ? member.value : exported
  const list: readonly StaticValue[] = Array.isArray(apps) ? apps : [apps]
  const known = list.filter(isObject)
  const computed: readonly Reading[] =
    known.length === list.length ? [] : [violation('DOCTOR_PM2_COMPUTED', { file, line: member?.line ?? 1 })]
  return [...computed, ...known.filter(isNode).flatMap((app) => readApp(app, file))]
}

/** pm2 also runs programs that are not instances. */
function isNode(app: StaticObject): boolean {
  const value = (name: string): string | undefined => asText(app.get(name)?.value)
  const interpreter = value('interpreter') ?? value('exec_interpreter')
  if (interpreter !== undefined) return /(?:^|\/)(?:node|nodejs|bun|tsx|ts-node)$/.test(interpreter)
  return !/\.(?:py|sh|bash|rb|php|pl)$/.test(value('script') ?? '')
}

function readApp(app: StaticObject, file: string): readonly Reading[] {
  const at = (key: string): Place => ({
    file,
    line: (app.get(key) ?? app.get('script') ?? [...app.values()][0])?.line ?? 1,
  })
  const value = (key: string): StaticValue => app.get(key)?.value
  const ms = (key: string, byDefault: number): Fact<number> | undefined => {
    const given = value(key)
    if (given === unresolved) return undefined
    const parsed = typeof given === 'number' ? given : duration(asText(given) ?? '', 'ms')
    return factAt(parsed ?? byDefault, at(key))
  }
  const env = environment(app, file)
  const readings: Reading[] = []
  const report = (code: RuleCode, key: string): void => void readings.push(violation(code, at(key)))
  const instances = value('instances')
  const mode = value('exec_mode')
  // `instances` selects cluster mode unless `exec_mode` is set.
  const isCluster = mode === undefined ? app.has('instances') : /^cluster(?:_mode)?$/.test(asText(mode) ?? '')
  const waits = value('wait_ready')
  if (waits !== true && waits !== unresolved) report('DOCTOR_PM2_WAIT_READY', 'wait_ready')
  if (!isCluster && mode !== unresolved) report('DOCTOR_PM2_FORK', 'exec_mode')
  const listen = ms('listen_timeout', defaults.listenMs)
  if (waits === true && listen && listen.value <= Number(env.get('FLEET_READY_TIMEOUT')?.value ?? 0))
    readings.push(violation('DOCTOR_PM2_LISTEN_TIMEOUT', listen))
  const copies = copiesOf(instances)
  const instance: InstanceFacts = {
    role: 'instance',
    source: 'pm2',
    name: asText(value('name')) ?? file,
    ...at('script'),
    env,
    // pm2 gives its processes the environment of the shell.
    unseen: 'any',
    command: factAt(commandOf(value('script'), value('args')), at('script')),
    graceMs: ms('kill_timeout', defaults.killMs),
    copies: copies === undefined ? undefined : factAt(copies, at('instances')),
  }
  return [...readings, instance]
}

function environment(app: StaticObject, file: string): ReadonlyMap<string, Variable> {
  const env = new Map<string, Variable>()
  for (const key of ['env', 'env_production']) {
    const values = app.get(key)?.value
    if (!values || !isObject(values)) continue
    for (const [name, { value, line }] of values) env.set(name, { value: asText(value), file, line })
  }
  return env
}

/** `max`, 0 and negative numbers depend on the number of processors; 2 stands for “several”. */
function copiesOf(instances: StaticValue): number | undefined {
  if (instances === unresolved) return undefined
  const count = Number(asText(instances) ?? 1)
  return instances === 'max' || count <= 0 ? 2 : Number.isFinite(count) ? count : undefined
}

function commandOf(script: StaticValue, args: StaticValue): string {
  const words: readonly StaticValue[] = Array.isArray(args) ? args : [args]
  return [asText(script), ...words.map(asText)].filter(Boolean).join(' ')
}
