import { duration } from '../durations.ts'
import {
  type Fact,
  factAt,
  type InstanceFacts,
  type Reader,
  type Reading,
  type Source,
  type Variable,
  violation,
} from '../facts.ts'

/** DefaultTimeoutStopSec. */
const defaultStopMs = 90_000

/** Units that run Node, npm or `fleet`. */
export const readSystemd: Reader = (sources) => sources.flatMap(readOne)

function readOne({ file, text }: Source): readonly Reading[] {
  const settings: Fact<[name: string, value: string]>[] = []
  for (const [index, content] of text.split('\n').entries()) {
    const match = /^([A-Z]\w+)\s*=(.*)$/.exec(content.trim())
    if (match) settings.push({ value: [match[1] ?? '', match[2]?.trim() ?? ''], file, line: index + 1 })
  }
  const last = (name: string): Fact<string> | undefined => {
    const found = settings.findLast(({ value }) => value[0] === name)
    return found && { ...found, value: found.value[1] }
  }
  const start = last('ExecStart')
  if (!start || !/\b(?:node|npm|yarn|pnpm|fleet|tsx|bun)\b/.test(start.value)) return []

  const env = new Map<string, Variable>()
  for (const { value, line } of settings.filter(({ value }) => value[0] === 'Environment')) {
    for (const [, quoted, plain] of value[1].matchAll(/"([^"]*)"|(\S+)/g)) {
      const [name = '', ...rest] = (quoted ?? plain ?? '').split('=')
      env.set(name, { value: rest.join('='), file, line })
    }
  }
  const stop = last('TimeoutStopSec') ?? last('TimeoutSec')
  const stopMs = stop ? (stop.value === 'infinity' ? undefined : duration(stop.value)) : defaultStopMs
  const readings: Reading[] = []
  const supervised = /\bfleet\s+start\b/.test(start.value)
  const killMode = last('KillMode')
  if (supervised && (killMode?.value ?? 'control-group') === 'control-group')
    readings.push(violation('DOCTOR_SYSTEMD_KILL_MODE', killMode ?? start))
  const type = last('Type')
  if (supervised && type?.value === 'notify' && last('NotifyAccess')?.value !== 'all')
    readings.push(violation('DOCTOR_SYSTEMD_NOTIFY_ACCESS', last('NotifyAccess') ?? type))
  const instance: InstanceFacts = {
    role: 'instance',
    source: 'systemd',
    name: file,
    file,
    line: start.line,
    env,
    unseen: 'any',
    command: { ...start, value: start.value.replace(/^[-@:+!]{0,9}\S{0,200}?\/env\s+/, '') },
    graceMs: stopMs === undefined ? undefined : factAt(stopMs, stop ?? start),
  }
  return [...readings, instance]
}
