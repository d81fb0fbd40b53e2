import { duration } from '../durations.ts'
import {
  escaped,
  type Fact,
  type Instance,
  lineOf,
  type Reader,
  type Reading,
  type Source,
  type Variable,
} from '../facts.ts'
import { exportsOf, jsonOf } from './js-data.ts'
import { isMembers, type Members, unknown, type Value } from './js-values.ts'

/** pm2's own defaults. */
const defaults = { killMs: 1_600, listenMs: 3_000 }

/**
 * `ecosystem.config.*`: a program, which pm2 executes. Here it is only read, because who examines a folder need not trust
 * it; what it computes is left alone.
 */
export const readPm2: Reader = (sources) => sources.flatMap(readOne)

function readOne({ file, text }: Source): readonly Reading[] {
  const exported = file.endsWith('.json') ? jsonOf(text) : exportsOf(text)
  const apps = isMembers(exported) && exported.has('apps') ? exported.get('apps')?.value : exported
  const list: readonly Value[] = Array.isArray(apps) ? apps : [apps]
  const known = list.filter(isMembers)
  const computed: readonly Reading[] =
    known.length === list.length
      ? []
      : [{ role: 'sighting', what: 'pm2-computed', file, line: lineOf(text, /\bapps\b|\bmodule\.exports\b/) }]
  return [...computed, ...known.filter(isNode).flatMap((app) => readApp(app, file, text))]
}

const textOf = (value: Value): string | undefined =>
  typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined

/** pm2 runs other programs too, which are no instances. */
function isNode(app: Members): boolean {
  const value = (name: string): string | undefined => textOf(app.get(name)?.value)
  const interpreter = value('interpreter') ?? value('exec_interpreter')
  if (interpreter !== undefined) return /(?:^|\/)(?:node|nodejs|bun|tsx|ts-node)$/.test(interpreter)
  return !/\.(?:py|sh|bash|rb|php|pl)$/.test(value('script') ?? '')
}

function readApp(app: Members, file: string, text: string): readonly Reading[] {
  const at = (key: string): number =>
    app.get(key)?.line ?? app.get('script')?.line ?? lineOf(text, new RegExp(`\\b["']?${escaped(key)}["']?\\s{0,99}:`))
  const value = (key: string): Value => app.get(key)?.value
  const ms = (key: string, byDefault: number): Fact<number> | undefined => {
    const given = value(key)
    if (given === unknown) return undefined
    const parsed = typeof given === 'number' ? given : duration(textOf(given) ?? '', 'ms')
    return { value: parsed ?? byDefault, file, line: at(key) }
  }
  const env = environment(app, file)
  const readings: Reading[] = []
  const see = (what: string, key: string): void => void readings.push({ role: 'sighting', what, file, line: at(key) })
  const instances = value('instances')
  const mode = value('exec_mode')
  // What is scaled is in cluster mode, unless it says otherwise.
  const isCluster = mode === undefined ? app.has('instances') : /^cluster(?:_mode)?$/.test(textOf(mode) ?? '')
  const waits = value('wait_ready')
  if (waits !== true && waits !== unknown) see('pm2-wait-ready', 'wait_ready')
  if (!isCluster && mode !== unknown) see('pm2-fork', 'exec_mode')
  const listen = ms('listen_timeout', defaults.listenMs)
  if (waits === true && listen && listen.value <= Number(env.get('FLEET_READY_TIMEOUT')?.value ?? 0))
    readings.push({ role: 'sighting', what: 'pm2-listen-timeout', file, line: listen.line })
  const copies = copiesOf(instances)
  const instance: Instance = {
    role: 'instance',
    source: 'pm2',
    name: textOf(value('name')) ?? file,
    file,
    line: at('script'),
    env,
    // pm2 gives its processes the environment of the shell.
    unseen: 'any',
    command: { value: commandOf(value('script'), value('args')), file, line: at('script') },
    graceMs: ms('kill_timeout', defaults.killMs),
    copies: copies === undefined ? undefined : { value: copies, file, line: at('instances') },
  }
  return [...readings, instance]
}

function environment(app: Members, file: string): ReadonlyMap<string, Variable> {
  const env = new Map<string, Variable>()
  for (const key of ['env', 'env_production']) {
    const values = app.get(key)?.value
    if (!values || !isMembers(values)) continue
    for (const [name, { value, line }] of values) env.set(name, { value: textOf(value), file, line })
  }
  return env
}

/** `max`, 0 and negative numbers: by the processors of the machine. */
function copiesOf(instances: Value): number | undefined {
  if (instances === unknown) return undefined
  const count = Number(textOf(instances) ?? 1)
  return instances === 'max' || count <= 0 ? 2 : Number.isFinite(count) ? count : undefined
}

function commandOf(script: Value, args: Value): string {
  const words: readonly Value[] = Array.isArray(args) ? args : [args]
  return [textOf(script), ...words.map(textOf)].filter(Boolean).join(' ')
}
