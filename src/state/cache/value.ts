import { FleetError } from '../../base/errors.ts'

/** A value in both its forms. Every caller gets `value`, so that the first sees what the others will see. */
export interface Encoded {
  /** What is kept; empty for `undefined`, which JSON does not know. */
  readonly json: string
  readonly value: unknown
  readonly bytes: number
}

/**
 * @throws FLEET_ERR_CACHE_VALUE_INVALID for what JSON cannot hold: functions, symbols, BigInt, circular objects
 */
export function encode(key: string, given: unknown): Encoded {
  let json: string | undefined
  try {
    json = given === undefined ? '' : JSON.stringify(given)
  } catch (cause) {
    throw new FleetError('FLEET_ERR_CACHE_VALUE_INVALID', `that of ${JSON.stringify(key)} cannot be JSON`, { cause })
  }
  if (json === undefined)
    throw new FleetError('FLEET_ERR_CACHE_VALUE_INVALID', `that of ${JSON.stringify(key)} is a ${typeof given}`)
  return { json, value: decode(json), bytes: Buffer.byteLength(json) }
}

export function tooLarge(key: string, { bytes }: Encoded, most: number): FleetError {
  return new FleetError(
    'FLEET_ERR_CACHE_VALUE_TOO_LARGE',
    `that of ${JSON.stringify(key)} has ${bytes} bytes as JSON, and \`cache.maxValueBytes\` is ${most}`,
  )
}

/** The value of a JSON text, frozen: all callers share it, and one that changed it would change it for all. */
export function decode(json: string): unknown {
  return json === '' ? undefined : freeze(JSON.parse(json))
}

function freeze(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) freeze(member)
  return Object.freeze(value)
}
