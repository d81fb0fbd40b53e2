import { basename, dirname, resolve } from 'node:path'
import { duration } from '../durations.ts'
import {
  type Fact,
  type FileAt,
  factAt,
  type InstanceFacts,
  type Reader,
  type Reading,
  type Source,
  unjudged,
  type Variable,
  violation,
} from '../facts.ts'
import { variablesOf } from './environment.ts'
import { commandOf } from './process-one.ts'
import { instanceOf, runsNode } from './signs.ts'
import { type Setting, Unit, unitWords, withoutSpecifiers } from './systemd-unit.ts'

/** DefaultTimeoutStopSec. */
const defaultStopMs = 90_000

/** Units that run Node, npm or `fleet`, each with its drop-ins. */
export const readSystemd: Reader = (sources, _variables, fileAt) => {
  const dropIns = Map.groupBy(
    sources.filter(({ file }) => isDropIn(file)),
    ({ file }) => resolve(dirname(file)).replace(/\.d$/, ''),
  )
  const units = sources.filter(({ file }) => !isDropIn(file))
  const alone = [...dropIns].flatMap(([unit, files]) => (units.some(({ file }) => resolve(file) === unit) ? [] : files))
  return [
    ...alone.map(({ file }) => unjudged({ file, line: 1 }, 'it changes a unit that was not read')),
    ...units.flatMap((source) => readUnit(source, dropIns.get(resolve(source.file)) ?? [], fileAt)),
  ]
}

const isDropIn = (file: string): boolean => file.endsWith('.conf')

function readUnit(source: Source, dropIns: readonly Source[], fileAt: FileAt): Reading[] {
  const { file } = source
  const byName = dropIns.toSorted((a, b) => (basename(a.file) < basename(b.file) ? -1 : 1))
  const unit = new Unit([source, ...byName])
  const start = unit.all('ExecStart').at(-1)
  // `@` gives the program another name, the other prefixes change its rights.
  const words = unitWords(start?.value.replace(/^[-@:+!|]+/, '') ?? '')
  if (!start || !runsNode(words.join(' '))) return [unjudged({ file, line: 1 }, 'it does not start Node')]

  const { env, missing } = environmentOf(unit, fileAt)
  const command = commandOf(words)
  const supervised = /\bfleet(?:\.js)?\s+start\b/.test(words.join(' '))
  const instance = supervised ? {} : (instanceOf({ env, command }) ?? maybe(env, words.join(' ')))
  const readings: Reading[] = missing.map((path) => unjudged(start, `${path} was not read`))
  if (!instance) return [...readings, unjudged(start, 'it is no instance')]
  if (supervised) readings.push(...supervision(unit, start))
  const killMode = unit.last('KillMode')
  const isMany = supervised && !/(?:--workers|-w)[= ]1(?:\s|$)/.test(words.join(' '))
  const facts: InstanceFacts = {
    role: 'instance',
    source: 'systemd',
    name: file,
    file,
    line: start.line,
    ...instance,
    env,
    // The program may load a file of variables itself.
    unseen: missing.length === 0 && supervised && !/--env-file/.test(words.join(' ')) ? 'none' : 'any',
    copies: isMany ? factAt(2, start) : undefined,
    // Otherwise systemd signals every process of the unit.
    command: command && /^(?:mixed|process)$/.test(killMode?.value ?? '') ? factAt(command, start) : undefined,
    graceMs: graceOf(unit, start),
  }
  return [...readings, facts]
}

/** A unit that serves HTTP is likely to be the app that the other files are about. */
const maybe = (env: ReadonlyMap<string, Variable>, command: string): { assumed: string } | undefined =>
  env.has('PORT') || /\b(?:server|app|main|index|start)\b/.test(command)
    ? { assumed: 'the unit starts an instance of a fleet' }
    : undefined

function supervision(unit: Unit, start: Setting): Reading[] {
  const killMode = unit.last('KillMode')
  const readings: Reading[] = []
  if ((killMode?.value ?? 'control-group') === 'control-group')
    readings.push(violation('DOCTOR_SYSTEMD_KILL_MODE', killMode ?? start))
  const type = unit.last('Type')
  const access = unit.last('NotifyAccess')
  if (type?.value === 'notify' && access?.value !== 'all')
    readings.push(violation('DOCTOR_SYSTEMD_NOTIFY_ACCESS', access ?? type))
  return readings
}

/** `TimeoutSec` sets both timeouts. */
function graceOf(unit: Unit, start: Setting): Fact<number> | undefined {
  if (/^(?:no|false|off|0)$/i.test(unit.last('SendSIGKILL')?.value ?? '')) return undefined
  const stop = unit.last('TimeoutStopSec', 'TimeoutSec')
  if (!stop) return { ...factAt(defaultStopMs, start), default: 'systemd’s default' }
  // `infinity` and 0 never kill.
  const ms = duration(stop.value)
  if (!ms) return undefined
  return {
    ...factAt(ms, stop),
    write: (to) => ({ from: `${stop.name}=${stop.value}`, to: `${stop.name}=${Math.ceil(to / 1_000)}` }),
  }
}

/** `Environment=` and the files that were read. Later ones have priority, and files over assignments. */
function environmentOf(unit: Unit, fileAt: FileAt): { env: Map<string, Variable>; missing: string[] } {
  const env = new Map<string, Variable>()
  const missing: string[] = []
  for (const { value, file, line } of unit.all('PassEnvironment'))
    for (const name of unitWords(value)) env.set(name, { value: undefined, file, line })
  for (const { value, file, line } of unit.all('Environment'))
    for (const word of unitWords(value)) {
      const [name = '', ...rest] = word.split('=')
      env.set(name, { value: withoutSpecifiers(rest.join('=')), file, line })
    }
  for (const { value } of unit.all('EnvironmentFile')) {
    const path = withoutSpecifiers(value.replace(/^-/, ''))
    const source = path === undefined ? undefined : fileAt(path)
    if (source) for (const [name, variable] of variablesOf(source)) env.set(name, variable)
    else missing.push(path ?? value)
  }
  for (const { value } of unit.all('LoadCredential')) missing.push(value)
  return { env, missing }
}
