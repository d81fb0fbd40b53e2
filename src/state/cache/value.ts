import { deepFreeze } from '../../base/deep-freeze.ts'
import { FleetError } from '../../base/errors.ts'

/** A value and its JSON. Every caller gets `value`, the first one included, so that all see the same. */
export interface Encoded {
  /** Empty for `undefined`, which JSON cannot represent. */
  readonly json: string
  readonly value: unknown
  readonly bytes: number
}

/** @throws FLEET_ERR_CACHE_VALUE_INVALID for functions, symbols, BigInt and circular objects */
export function encode(key: string, given: unknown): Encoded {
  let json: string | undefined
  try {
    json = given === undefined ? '' : JSON.stringify(given)
  } catch (cause) {
    throw new FleetError(
      'FLEET_ERR_CACHE_VALUE_INVALID',
      `the value of ${JSON.stringify(key)} cannot be serialized as JSON`,
      { cause },
    )
  }
  if (json === undefined)
    throw new FleetError('FLEET_ERR_CACHE_VALUE_INVALID', `the value of ${JSON.stringify(key)} is a ${typeof given}`)
  return { json, value: decode(json), bytes: Buffer.byteLength(json) }
}

export function tooLarge(key: string, { bytes }: Encoded, maxBytes: number): FleetError {
  return new FleetError(
    'FLEET_ERR_CACHE_VALUE_TOO_LARGE',
    `the value of ${JSON.stringify(key)} has ${bytes} bytes as JSON; \`cache.maxValueBytes\` is ${maxBytes}`,
  )
}

/** Parses JSON and freezes the value, because all callers share it. */
export function decode(json: string): unknown {
  return json === '' ? undefined : deepFreeze(JSON.parse(json))
}
