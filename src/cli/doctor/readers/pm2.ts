import { createRequire } from 'node:module'
import { resolve } from 'node:path'
import { duration } from '../durations.ts'
import { type Fact, type Instance, lineOf, type Reader, type Reading, type Source, type Variable } from '../facts.ts'

/** pm2's own defaults. */
const defaults = { killMs: 1_600, listenMs: 3_000 }

type App = Readonly<Record<string, unknown>>

/** `ecosystem.config.*`: executed, as pm2 does, because it is a program. */
export const readPm2: Reader = async (sources) => (await Promise.all(sources.map(readOne))).flat()

async function readOne({ file, text }: Source): Promise<readonly Reading[]> {
  const loaded: unknown = file.endsWith('.json')
    ? JSON.parse(text)
    : /\.c?js$/.test(file)
      ? requireAnew(resolve(file))
      : await import(resolve(file))
  const apps =
    (loaded as { apps?: unknown; default?: { apps?: unknown } }).apps ??
    (loaded as { default?: { apps?: unknown } }).default?.apps
  if (!Array.isArray(apps)) return []
  return apps.flatMap((app: App) => readApp(app, file, text))
}

/** The file as it is now: a long-lived process may have read it before. */
function requireAnew(path: string): unknown {
  const require = createRequire(import.meta.url)
  delete require.cache[path]
  return require(path)
}

function readApp(app: App, file: string, text: string): readonly Reading[] {
  const at = (key: string): number => lineOf(text, new RegExp(`\\b["']?${key}["']?\\s*:`))
  const ms = (key: string, byDefault: number): Fact<number> => ({
    value:
      key in app
        ? typeof app[key] === 'number'
          ? app[key]
          : (duration(String(app[key]), 'ms') ?? byDefault)
        : byDefault,
    file,
    line: at(key in app ? key : 'script'),
  })
  const env = new Map<string, Variable>()
  for (const [key, values] of Object.entries(app)) {
    if (!/^env(?:_production)?$/.test(key) || typeof values !== 'object' || values === null) continue
    for (const [name, value] of Object.entries(values)) env.set(name, { value: String(value), file, line: at(name) })
  }
  const readings: Reading[] = []
  const cluster = app.exec_mode === 'cluster' || app.exec_mode === 'cluster_mode'
  const copies = app.instances === 'max' || app.instances === 0 || app.instances === -1 ? 2 : Number(app.instances ?? 1)
  if (app.wait_ready !== true)
    readings.push({
      role: 'sighting',
      what: 'pm2-wait-ready',
      file,
      line: at('wait_ready' in app ? 'wait_ready' : 'script'),
    })
  if (!cluster)
    readings.push({ role: 'sighting', what: 'pm2-fork', file, line: at('exec_mode' in app ? 'exec_mode' : 'script') })
  const ready = env.get('FLEET_READY_TIMEOUT')
  const listen = ms('listen_timeout', defaults.listenMs)
  if (app.wait_ready === true && listen.value <= Number(ready?.value ?? 0))
    readings.push({ role: 'sighting', what: 'pm2-listen-timeout', file, line: listen.line })
  const instance: Instance = {
    role: 'instance',
    source: 'pm2',
    name: String(app.name ?? file),
    file,
    line: at('script'),
    env,
    // pm2 gives its processes the environment of the shell.
    unseen: 'any',
    command: { value: [app.script, app.args].filter((part) => part !== undefined).join(' '), file, line: at('script') },
    graceMs: ms('kill_timeout', defaults.killMs),
    copies: { value: copies, file, line: at('instances' in app ? 'instances' : 'script') },
  }
  return [...readings, instance]
}
