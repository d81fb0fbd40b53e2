import { dictionary } from '../../base/dictionary.ts'

/** Kinds of events that operators and tools may post. */
export const postedKinds = [
  'killed',
  'deploy-started',
  'deploy-step',
  'deploy-finished',
  'deploy-failed',
  'rolled-back',
] as const
export type PostedKind = (typeof postedKinds)[number]

/** Kinds of events that end a process. */
export const endKinds = ['stopped', 'lost', 'killed'] as const
export type EndKind = (typeof endKinds)[number]

export type EventKind =
  | PostedKind
  | EndKind
  | 'started'
  | 'ready'
  | 'draining'
  | 'undrained'
  | 'check-failed'
  | 'check-recovered'
  | 'leader-changed'
  | 'limit-hit'

/** The last entry of an instance that is gone. */
export interface LastEntry {
  readonly host: string
  readonly port: number | null
  readonly zone: string | null
  /** The last state of the instance. */
  readonly state: string
  /** ISO 8601. Tells the processes of one id apart. */
  readonly startedAt: string
  /** Unix time in ms. */
  readonly lastSeen: number
}

export interface NewEvent {
  readonly kind: EventKind
  readonly text: string
  readonly instance?: string
  readonly version?: string
  readonly pool?: string
  /** When it happened, Unix time in ms, if it is recorded later. */
  readonly at?: number
  /** Of an instance that is gone. */
  readonly entry?: LastEntry
}

export interface StoredEvent extends NewEvent {
  /** Ascending, `MS-NUMBER`. */
  readonly id: string
  readonly at: number
}

/** Longest text and longest name of an event. */
export const [maxText, maxName] = [500, 128]

export const isEventId = (text: string): boolean => /^\d{1,15}-\d{1,15}$/.test(text)

/** Fields of a stream entry. */
export function fieldsOf({ kind, text, instance, version, pool, at, entry }: NewEvent): string[] {
  const fields = ['kind', kind, 'text', text.slice(0, maxText)]
  for (const [name, value] of Object.entries({ instance, version, pool }))
    if (value !== undefined) fields.push(name, value.slice(0, maxName))
  if (at !== undefined) fields.push('at', String(Math.round(at)))
  if (entry) fields.push('entry', JSON.stringify(entry))
  return fields
}

/** @returns `undefined` for an entry that is no event: any program may have written it */
export function eventOf(id: string, fields: readonly string[]): StoredEvent | undefined {
  const given = new Map<string, string>()
  for (let i = 0; i + 1 < Math.min(fields.length, 32); i += 2) given.set(fields[i] as string, fields[i + 1] as string)
  const kind = given.get('kind') ?? ''
  const text = given.get('text')
  if (!isEventId(id) || !/^[a-z][a-z-]{1,31}$/.test(kind) || text === undefined || text.length > maxText)
    return undefined
  const names = dictionary<string>()
  for (const name of ['instance', 'version', 'pool']) {
    const value = given.get(name)
    if (value !== undefined && value.length <= maxName) names[name] = value
  }
  const written = Number.parseInt(id, 10)
  const at = Number(given.get('at'))
  const entry = lastEntryOf(given.get('entry'))
  return {
    id,
    at: at > 0 && at <= written ? at : written,
    kind: kind as EventKind,
    text,
    ...names,
    ...(entry && { entry }),
  }
}

function lastEntryOf(json: string | undefined): LastEntry | undefined {
  if (json === undefined || json.length > 2_048) return undefined
  try {
    const { host, port, zone, state, startedAt, lastSeen } = JSON.parse(json) as Partial<LastEntry>
    const isValid =
      typeof host === 'string' &&
      (port === null || Number.isInteger(port)) &&
      (zone === null || typeof zone === 'string') &&
      typeof state === 'string' &&
      typeof startedAt === 'string' &&
      Number.isFinite(lastSeen)
    return isValid ? ({ host, port, zone, state, startedAt, lastSeen } as LastEntry) : undefined
  } catch {
    return undefined
  }
}
