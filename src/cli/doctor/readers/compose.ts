import { relative } from 'node:path'
import { duration } from '../durations.ts'
import {
  type Fact,
  factAt,
  type InstanceFacts,
  type Place,
  probedPath,
  type Reader,
  type Reading,
  type Replacement,
  unjudged,
  violation,
} from '../facts.ts'
import { asList, asMap, asNumber, asText } from '../yaml-file.ts'
import { type Service, servicesOf, unknown } from './compose-services.ts'
import { commandOf, wordsOf } from './process-one.ts'
import { instanceOf, isDevelopment, secretsOf } from './signs.ts'

/** Docker’s default. */
const defaultGraceMs = 10_000

export const readCompose: Reader = (sources, _variables, fileAt) => {
  const { services, skipped } = servicesOf(sources, fileAt)
  return [
    ...skipped.map(({ file, why }) => unjudged({ file, line: 1 }, why)),
    ...services.flatMap((service) => readService(service)),
  ]
}

function readService(service: Service): Reading[] {
  const { name, place, missing } = service
  const env = service.environment()
  const command = commandFact(service)
  const image = asText(service.get(['image'])?.value)
  const isBuilt = image === undefined || service.get(['build']) !== undefined
  const copies = parsed(service, ['deploy', 'replicas'], asNumber) ?? parsed(service, ['scale'], asNumber)
  const readings = [
    ...clashes(service, copies),
    ...missing.map((file) => unjudged(place, `${relative('', file)} was not read`)),
  ]
  const instance = instanceOf({ env, command: command?.value, image, isBuilt })
  if (!instance) return [...readings, ...secretsOf(env)]
  const grace = service.get(['stop_grace_period'])
  if (grace?.value === unknown)
    readings.push(unjudged(grace, 'the value of stop_grace_period is not in the files', ['DOCTOR_GRACE']))
  const facts: InstanceFacts = {
    role: 'instance',
    source: 'compose',
    name: `service ${name}`,
    ...place,
    ...instance,
    env,
    unseen: missing.length === 0 ? 'none' : 'any',
    graceMs: grace ? graceFact(service, grace) : { ...factAt(defaultGraceMs, place), default: 'Docker’s default' },
    copies,
    command: command && !isDevelopment(command.value) ? command : undefined,
    readiness: probe(service),
  }
  return [...readings, facts]
}

function parsed<T>(service: Service, path: string[], parse: (value: unknown) => T | undefined): Fact<T> | undefined {
  const fact = service.get(path)
  const value = fact && parse(fact.value)
  return fact && value !== undefined ? { ...fact, value } : undefined
}

function graceFact(service: Service, grace: Fact<unknown>): Fact<number> | undefined {
  const text = asText(grace.value)
  const ms = text === undefined ? undefined : duration(text)
  return ms === undefined ? undefined : { ...factAt(ms, grace), write: writer(service, grace, text) }
}

/** Writes another duration in the place of this one, if the line has its text once. */
function writer(service: Service, place: Place, text = ''): ((ms: number) => Replacement) | undefined {
  const from = `stop_grace_period: ${text}`
  if (service.text(place).split(from).length !== 2) return undefined
  return (ms) => ({ from, to: `stop_grace_period: ${Math.ceil(ms / 1_000)}s` })
}

/** `entrypoint` and `command`; without the former, the image’s runs the command. */
function commandFact(service: Service): Fact<string> | undefined {
  const [entrypoint, command] = ['entrypoint', 'command'].map((key) => service.get([key]))
  const words = [entrypoint, command].map((fact) => wordsIn(fact?.value))
  if (words.includes(undefined)) return undefined
  const text = commandOf(words.flatMap((one) => one ?? []))
  const at = entrypoint && (words[0]?.length ?? 0) > 0 ? entrypoint : command
  return text !== undefined && at ? factAt(text, at) : undefined
}

/** The words of a command; `undefined` when they are not in the files. */
function wordsIn(value: unknown): readonly string[] | undefined {
  if (value === unknown || asList(value).includes(unknown)) return undefined
  return Array.isArray(value) ? value.map(String) : wordsOf(asText(value) ?? '')
}

function probe(service: Service): Fact<string> | undefined {
  if (service.get(['healthcheck', 'disable'])?.value === true) return undefined
  return parsed(service, ['healthcheck', 'test'], (test) => {
    const words = wordsIn(test)
    return words && words[0] !== 'NONE' ? probedPath(words.join(' ')) : undefined
  })
}

/** What several copies cannot share. In a swarm they can publish one port. */
function clashes(service: Service, copies: Fact<number> | undefined): Reading[] {
  if ((copies?.value ?? 1) <= 1) return []
  const found: Reading[] = []
  const isScaled = service.get(['deploy', 'replicas']) === undefined
  const fixed = service.all(['ports']).find(({ value }) => isFixed(value))
  const isSwarm = ['update_config', 'placement', 'endpoint_mode', 'restart_policy', 'rollback_config'].some(
    (key) => service.get(['deploy', key]) !== undefined,
  )
  if (fixed && !isSwarm) {
    const assumed = isScaled ? undefined : 'docker compose starts the services, not a swarm'
    const at = service.get(['ports']) ?? fixed
    found.push(violation('DOCTOR_COMPOSE_FIXED_PORT', at, service.name, { assumed }))
  }
  const named = service.get(['container_name'])
  if (named) found.push(violation('DOCTOR_COMPOSE_CONTAINER_NAME', named, service.name))
  return found
}

/** `8080:80` is a fixed port of the host; `80` gives each copy a free one, and a range several. */
function isFixed(port: unknown): boolean {
  if (typeof port === 'string') {
    const parts = port.replace(/\/\w+$/, '').split(':')
    return parts.length > 1 && /^\d+$/.test(parts.at(-2) ?? '')
  }
  const { published } = asMap(port) as { published?: unknown }
  return /^\d+$/.test(asText(published) ?? '')
}
