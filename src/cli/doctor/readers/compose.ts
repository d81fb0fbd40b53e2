import { duration } from '../durations.ts'
import {
  type Fact,
  factAt,
  type InstanceFacts,
  isInstance,
  probedPath,
  type Reader,
  type Reading,
  type Variable,
  violation,
} from '../facts.ts'
import { asCommand, asMap, asNumber, asText, parseYaml, type YamlDocument } from '../yaml-file.ts'

/** Docker's own default. */
const defaultGraceMs = 10_000

type Variables = ReadonlyMap<string, Variable>

export const readCompose: Reader = (sources, variables) =>
  sources
    .flatMap(parseYaml)
    .flatMap((document) =>
      Object.keys(asMap(document.get(['services']))).flatMap((name) => readService(document, name, variables)),
    )

function readService(document: YamlDocument, name: string, variables: Variables): Reading[] {
  const path = ['services', name]
  const place = { file: document.file, line: document.line(path) }
  const env = environment(document, [...path, 'environment'], variables)
  if (!isInstance(env)) return passwords(env, name)
  const at = <T>(key: string[], parse: (value: unknown) => T | undefined): Fact<T> | undefined =>
    document.fact([...path, ...key], parse)
  const copies = at(['deploy', 'replicas'], asNumber) ?? at(['scale'], asNumber)
  const readings: Reading[] = []
  const many = (copies?.value ?? 1) > 1
  const fixed = at(['ports'], (ports) => (Array.isArray(ports) && ports.some(isFixed) ? true : undefined))
  if (many && fixed) readings.push(violation('DOCTOR_COMPOSE_FIXED_PORT', fixed, name))
  const named = at(['container_name'], asText)
  if (many && named) readings.push(violation('DOCTOR_COMPOSE_CONTAINER_NAME', named, name))
  const instance: InstanceFacts = {
    role: 'instance',
    source: 'compose',
    name: `service ${name}`,
    ...place,
    env,
    unseen: document.get([...path, 'env_file']) === undefined ? 'none' : 'any',
    graceMs: at(['stop_grace_period'], (value) => duration(String(value))) ?? factAt(defaultGraceMs, place),
    copies,
    command: at(['command'], asCommand),
    readiness: at(['healthcheck', 'test'], (test) => probedPath(asCommand(test) ?? '')),
  }
  return [...readings, instance]
}

/** `8080:80` is a fixed port of the host; `80` gives each copy a free one. */
const isFixed = (port: unknown): boolean =>
  typeof port === 'string'
    ? port.includes(':') && !port.includes('-')
    : (port as { published?: unknown })?.published !== undefined

/** Services that are not instances may have weak passwords too. */
const passwords = (env: Variables, name: string): Reading[] => {
  const own = new Map([...env].filter(([variable]) => /PASSWORD|SECRET|TOKEN/.test(variable)))
  const [first] = own.values()
  if (!first) return []
  const { file, line } = first
  return [{ role: 'instance', source: 'compose', name: `service ${name}`, file, line, env: own, unseen: 'any' }]
}

function environment(document: YamlDocument, path: string[], variables: Variables): Map<string, Variable> {
  const given = document.get(path)
  const env = new Map<string, Variable>()
  const set = (name: string, value: unknown, key: string | number): void => {
    const text = asText(value)
    env.set(name, {
      value: text === undefined ? undefined : interpolate(text, variables),
      file: document.file,
      line: document.line([...path, key]),
    })
  }
  if (Array.isArray(given)) {
    for (const [index, entry] of given.entries()) {
      const [name = '', ...rest] = String(entry).split('=')
      set(name, rest.length > 0 ? rest.join('=') : undefined, index)
    }
  } else if (typeof given === 'object' && given !== null) {
    for (const [name, value] of Object.entries(given)) set(name, value, name)
  }
  return env
}

/** `${NAME}`, `${NAME:-default}`, `${NAME:?message}`, `$$`; `undefined` when a value is unknown. */
function interpolate(text: string, variables: Variables): string | undefined {
  let unknown = false
  const result = text.replaceAll(
    /\$(?:\$|(\w+)|\{(\w+)(?::?([-?+])([^}]{0,4096}))?\})/g,
    (whole, plain?: string, braced?: string, kind?: string, rest?: string) => {
      if (whole === '$$') return '$'
      const value = variables.get(plain ?? braced ?? '')?.value
      if (value !== undefined && value !== '') return value
      if (kind === '-') return rest ?? ''
      unknown = true
      return ''
    },
  )
  return unknown ? undefined : result
}
