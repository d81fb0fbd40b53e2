import {
  type Fact,
  factAt,
  type InstanceFacts,
  type Place,
  type Reader,
  type Reading,
  type Source,
  unjudged,
  type Variable,
  violation,
} from '../facts.ts'
import type { Pm2Evaluation } from '../programs/pm2.ts'
import type { RuleCode } from '../rules.ts'
import { asNumber, asText } from '../yaml-file.ts'
import { exportOf, plainObject } from './pm2-exports.ts'
import { commandOf, wordsOf } from './process-one.ts'
import { instanceOf, isDevelopment } from './signs.ts'
import { isObject, type StaticObject, type StaticValue, unresolved } from './static-js.ts'

/** pm2's own defaults. */
const defaults = { killMs: 1_600, listenMs: 3_000 }

/**
 * Ecosystem files. One that the user names is evaluated as pm2 does; see programs/pm2.ts. One that is found in a folder is not executed,
 * because the folder may be untrusted: only what is static in it is read.
 */
export const readPm2: Reader = (sources) => sources.filter(({ text }) => !forwards.test(text)).flatMap(readOne)

/** Such a file has no configuration of its own: the other one is read, too. */
const forwards = /^import config from '\.\/ecosystem\.config\.cjs'\s+export const \{ apps \} = config\s*$/m

function readOne(source: Source): readonly Reading[] {
  const { file } = source
  const { value: exported, line } = exportOf(source)
  const { error } = (source.evaluated ?? {}) as Pm2Evaluation
  const readings: Reading[] =
    error === undefined ? [] : [unjudged({ file, line: 1 }, `it cannot be evaluated: ${error}`)]
  const list: readonly StaticValue[] = Array.isArray(exported) ? exported : [exported]
  const apps = list.filter(isObject)
  if (list.length === 0 || exported === null || exported === undefined)
    return [...readings, unjudged({ file, line }, 'it has no apps')]
  const advice =
    source.named || !/\.[cm]?js$/.test(file) ? '' : `; name the file to have it evaluated: fleet doctor ${file}`
  if (apps.length < list.length) readings.push(unjudged({ file, line }, `apps are computed${advice}`))
  return [...readings, ...apps.map(plainObject).flatMap((app) => readApp(app, file, advice))]
}

/** pm2 also runs programs that are not instances. */
function isNode(app: StaticObject): boolean {
  const value = (name: string): string | undefined => asText(app.get(name)?.value)
  const interpreter = value('exec_interpreter')
  if (interpreter !== undefined) return /(?:^|\/)(?:node(?:js)?(?:@.*)?|bun|tsx|ts-node)$/.test(interpreter)
  return !/\.(?:py|sh|bash|rb|php|pl|jar)$|^(?:python\d?|bash|sh|php|ruby|java|go)$/.test(value('script') ?? '')
}

/** pm2 starts a cluster if `instances` is set, unless `exec_mode` says otherwise. A command line runs in a shell. */
function modeOf(app: StaticObject): 'cluster' | 'fork' | 'unknown' {
  const [mode, instances] = ['exec_mode', 'instances'].map((key) => app.get(key)?.value)
  if (mode === unresolved || instances === unresolved) return 'unknown'
  if (app.get('execute_command')?.value === true) return 'fork'
  if (mode) return /^cluster(?:_mode)?$/.test(asText(mode) ?? '') ? 'cluster' : 'fork'
  if (/\s/.test(asText(app.get('script')?.value) ?? '')) return 'fork'
  const count = instances === 'max' ? 0 : asNumber(instances)
  return count !== undefined && (count >= 1 || count === 0 || count === -1) ? 'cluster' : 'fork'
}

const notServer = /worker|mailer|queue|cron|sched|consumer|producer|bot\b|job|listener|watcher|sync|backup|cleanup/i
const server = /server|\bapp\b|www|web|api|main|index|start|next|nuxt|http/i

/** A program without a sign of a fleet: likely if it serves HTTP. */
function likely(app: StaticObject, env: ReadonlyMap<string, Variable>): { assumed: string } | undefined {
  const text = ['name', 'script', 'args'].map((key) => asText(app.get(key)?.value) ?? '').join(' ')
  if (notServer.test(text) || app.get('autorestart')?.value === false) return undefined
  const isServer =
    env.has('PORT') || app.has('port') || (copiesOf(app.get('instances')?.value) ?? 1) > 1 || server.test(text)
  return isServer ? { assumed: `${asText(app.get('name')?.value) ?? 'the app'} is an instance of a fleet` } : undefined
}

function readApp(app: StaticObject, file: string, advice: string): readonly Reading[] {
  const at = (key: string): Place => ({
    file,
    line: (app.get(key) ?? app.get('script') ?? [...app.values()][0])?.line ?? 1,
  })
  const value = (key: string): StaticValue => app.get(key)?.value
  const readings: Reading[] = []
  const computed = (key: string, codes: readonly string[]): void =>
    void readings.push(unjudged(at(key), `${key} is computed${advice}`, codes))
  const ms = (key: string, byDefault: number): Fact<number> | undefined => {
    const given = value(key)
    const number = given === unresolved ? undefined : asNumber(given)
    if (given === undefined || given === null) return { ...factAt(byDefault, at(key)), default: 'pm2’s default' }
    return number === undefined ? undefined : { ...factAt(number, at(key)) }
  }
  const env = environment(app, file)
  const command = commandFact(app, at('script'))
  const name = asText(value('name')) ?? file
  if (!isNode(app)) return [unjudged(at('script'), `${name} is no program of Node`)]
  const isServer = !notServer.test(`${name} ${asText(value('script')) ?? ''}`)
  const instance =
    (isServer ? instanceOf({ env, command: command?.value, isBuilt: true }) : undefined) ?? likely(app, env)
  if (!instance) return [unjudged(at('script'), `${name} is no instance`)]

  const report = (code: RuleCode, key: string): void =>
    void readings.push(violation(code, at(key), undefined, instance))
  const waits = value('wait_ready')
  if (waits === unresolved) computed('wait_ready', ['DOCTOR_PM2_WAIT_READY'])
  else if (!isTrue(waits)) report('DOCTOR_PM2_WAIT_READY', 'wait_ready')
  const mode = modeOf(app)
  if (mode === 'unknown') computed(value('exec_mode') === unresolved ? 'exec_mode' : 'instances', ['DOCTOR_PM2_FORK'])
  else if (mode === 'fork') report('DOCTOR_PM2_FORK', 'exec_mode')
  const listen = ms('listen_timeout', defaults.listenMs)
  if (isTrue(waits) && listen && listen.value <= Number(env.get('FLEET_READY_TIMEOUT')?.value ?? 0))
    readings.push(violation('DOCTOR_PM2_LISTEN_TIMEOUT', listen))
  const graceMs = ms('kill_timeout', defaults.killMs)
  if (!graceMs) computed('kill_timeout', ['DOCTOR_GRACE'])
  const copies = copiesOf(value('instances'))
  const facts: InstanceFacts = {
    role: 'instance',
    source: 'pm2',
    name,
    ...at('script'),
    ...instance,
    env,
    // pm2 gives its processes the environment of the shell.
    unseen: 'any',
    command: command && !isDevelopment(command.value) ? command : undefined,
    graceMs,
    copies: copies === undefined ? undefined : factAt(copies, at('instances')),
  }
  return [...readings, facts]
}

const isTrue = (value: StaticValue): boolean => value === true || value === 'true'

function environment(app: StaticObject, file: string): ReadonlyMap<string, Variable> {
  const env = new Map<string, Variable>()
  const port = app.get('port')
  if (port) env.set('PORT', { value: asText(port.value), file, line: port.line })
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
  if (instances === 'max') return 2
  const count = instances === undefined || instances === null ? 1 : (asNumber(instances) ?? 1)
  return count <= 0 ? 2 : count
}

/** pm2 starts `npm` and the like as they are, and a script with spaces by a shell. */
function commandFact(app: StaticObject, at: Place): Fact<string> | undefined {
  const [script, args] = ['script', 'args'].map((key) => app.get(key)?.value)
  const text = asText(script)
  if (text === undefined) return undefined
  if (/\s/.test(text)) return factAt(`sh -c ${text}`, at)
  const words: readonly StaticValue[] = Array.isArray(args) ? args : wordsOf(asText(args) ?? '')
  const command = commandOf([text, ...words.flatMap((word) => asText(word) ?? [])])
  return command === undefined ? undefined : factAt(command, at)
}
