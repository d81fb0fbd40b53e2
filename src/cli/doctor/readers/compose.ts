import { duration } from '../durations.ts'
import type { Context, Fact, Instance, Reader, Reading, Variable } from '../facts.ts'
import { asCommand, asNumber, asText, parseYaml, type YamlDocument } from '../yaml-file.ts'
import { probedPath } from './probed-path.ts'

/** Docker's own default. */
const defaultGraceMs = 10_000
/** A service with one of these is an instance; a migration has `DATABASE_URL` too. */
const instanceVariables = [
  'REDIS_URL',
  'REDIS_HOST',
  'SESSION_SECRET',
  'JWT_SECRET',
  'FLEET_NAME',
  'SHUTDOWN_TIMEOUT',
  'DRAIN_DELAY',
  'TRUST_PROXY',
]

export const readCompose: Reader = (sources, context) =>
  sources.flatMap((source) => parseYaml(source).flatMap((document) => readFile(document, context)))

function readFile(document: YamlDocument, context: Context): Reading[] {
  const services = document.get(['services'])
  if (typeof services !== 'object' || services === null) return []
  return Object.keys(services).flatMap((name) => readService(document, name, context))
}

function readService(document: YamlDocument, name: string, context: Context): Reading[] {
  const path = ['services', name]
  const { file } = document
  const env = environment(document, [...path, 'environment'], context)
  if (!instanceVariables.some((variable) => env.has(variable))) return passwords(env, name)
  const at = <T>(key: string[], parse: (value: unknown) => T | undefined): Fact<T> | undefined =>
    document.fact([...path, ...key], parse)
  const copies = at(['deploy', 'replicas'], asNumber) ?? at(['scale'], asNumber)
  const readings: Reading[] = []
  const many = (copies?.value ?? 1) > 1
  const fixed = at(['ports'], (ports) => (Array.isArray(ports) && ports.some(isFixed) ? true : undefined))
  if (many && fixed)
    readings.push({ role: 'violation', rule: 'compose-fixed-port', file, line: fixed.line, detail: name })
  const named = at(['container_name'], asText)
  if (many && named)
    readings.push({ role: 'violation', rule: 'compose-container-name', file, line: named.line, detail: name })
  const instance: Instance = {
    role: 'instance',
    source: 'compose',
    name: `service ${name}`,
    file,
    line: document.line(path),
    env,
    unseen: document.get([...path, 'env_file']) === undefined ? 'none' : 'any',
    graceMs: at(['stop_grace_period'], (value) => duration(String(value))) ?? {
      value: defaultGraceMs,
      file,
      line: document.line(path),
    },
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
const passwords = (env: ReadonlyMap<string, Variable>, name: string): Reading[] => {
  const own = new Map([...env].filter(([variable]) => /PASSWORD|SECRET|TOKEN/.test(variable)))
  const [first] = own.values()
  if (!first) return []
  const { file, line } = first
  return [{ role: 'instance', source: 'compose', name: `service ${name}`, file, line, env: own, unseen: 'any' }]
}

function environment(document: YamlDocument, path: string[], context: Context): Map<string, Variable> {
  const given = document.get(path)
  const env = new Map<string, Variable>()
  const set = (name: string, value: unknown, key: string | number): void => {
    const text = asText(value)
    env.set(name, {
      value: text === undefined ? undefined : interpolate(text, context),
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
function interpolate(text: string, { variables }: Context): string | undefined {
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
