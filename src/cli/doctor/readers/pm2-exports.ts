import type { Source } from '../facts.ts'
import type { Pm2Evaluation } from '../programs/pm2.ts'
import { asList, asMap, parseYaml, type YamlDocument } from '../yaml-file.ts'
import { exportsOf, isObject, jsonOf, type StaticObject, type StaticValue } from './static-js.ts'

/** What a file exports as its list of apps, and where. */
export interface Exported {
  readonly value: StaticValue
  readonly line: number
}

/** The apps of an ecosystem file: evaluated if it was, with the lines of what is static in it. */
export function exportOf(source: Source): Exported {
  const known = appsOf(staticOf(source))
  const { evaluated } = source
  if (evaluated === undefined) return known
  const { value, error } = evaluated as Pm2Evaluation
  if (error !== undefined) return known
  const { apps, pm2 } = asMap(value) as { apps?: unknown; pm2?: unknown }
  return { value: located(apps || pm2 || value, known.value, known.line), line: known.line }
}

function staticOf(source: Source): StaticValue {
  const { file, text } = source
  if (/\.json$/.test(file)) return text.trim() === '' ? undefined : jsonOf(text)
  if (!/\.ya?ml$/.test(file)) return exportsOf(text)
  const [document] = parseYaml(source)
  return document ? yamlValue(document, []) : undefined
}

function appsOf(exported: StaticValue): Exported {
  const member = isObject(exported) ? (exported.get('apps') ?? exported.get('pm2')) : undefined
  return { value: member ? member.value : exported, line: member?.line ?? 1 }
}

function yamlValue(document: YamlDocument, path: readonly (string | number)[]): StaticValue {
  const value = document.get(path)
  if (Array.isArray(value)) return value.map((_, i) => yamlValue(document, [...path, i]))
  if (typeof value !== 'object' || value === null) return value as StaticValue
  return new Map(
    Object.keys(value).map((key) => [
      key,
      { value: yamlValue(document, [...path, key]), line: document.line([...path, key]) },
    ]),
  )
}

/** An evaluated value, with lines from the static one where both have a member. */
function located(value: unknown, known: StaticValue, line: number): StaticValue {
  if (Array.isArray(value)) {
    const list = asList(known) as readonly StaticValue[]
    return value.map((one, i) => located(one, list[i], line))
  }
  if (typeof value !== 'object' || value === null) return value as StaticValue
  const members = known !== undefined && isObject(known) ? known : new Map()
  const first = [...members.values()][0]?.line ?? line
  return new Map(
    Object.entries(value).map(([key, one]) => {
      const member = members.get(key)
      return [key, { value: located(one, member?.value, member?.line ?? first), line: member?.line ?? first }]
    }),
  )
}

/** Other names of settings, as in pm2's schema. */
const aliases: Readonly<Record<string, readonly string[]>> = {
  script: ['exec', 'cmd', 'command'],
  exec_interpreter: ['interpreter', 'execInterpreter'],
  exec_mode: ['execMode'],
  wait_ready: ['waitReady'],
  listen_timeout: ['listenTimeout'],
  kill_timeout: ['killTimeout'],
  cron_restart: ['cron', 'cronRestart'],
  execute_command: ['executeCommand'],
}

/** An app with the usual names of its settings. */
export function plainObject(app: StaticObject): StaticObject {
  const members = new Map(app)
  for (const [name, others] of Object.entries(aliases))
    for (const other of others) {
      const member = app.get(other)
      if (member && (members.get(name)?.value ?? undefined) === undefined) members.set(name, member)
    }
  return members
}
