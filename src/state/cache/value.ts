import { FleetError } from '../../base/errors.ts'
import { readData, writeData } from './data.ts'

/** A value and its text. Every caller gets `value`, the first one included, so that all see the same. */
export interface Encoded {
  /** Empty for `undefined`. */
  readonly json: string
  readonly value: unknown
  readonly bytes: number
}

/** @throws FLEET_ERR_CACHE_VALUE_INVALID for what could not be restored as it is */
export function encode(key: string, given: unknown): Encoded {
  let json: string
  try {
    json = given === undefined ? '' : writeData(given, 'value')
  } catch (cause) {
    throw new FleetError('FLEET_ERR_CACHE_VALUE_INVALID', `key ${JSON.stringify(key)}: ${messageOf(cause)}`, { cause })
  }
  return { json, value: decode(json), bytes: Buffer.byteLength(json) }
}

/**
 * The text of an argument list, the same for equal arguments.
 *
 * @throws FLEET_ERR_CACHE_KEY_INVALID for what has no such text
 */
export function argumentsKey(name: string, args: readonly unknown[]): string {
  try {
    return writeData(args, 'arguments', true)
  } catch (cause) {
    const message = `${messageOf(cause)}; set \`key\` in \`cache.wrap\` of ${name}`
    throw new FleetError('FLEET_ERR_CACHE_KEY_INVALID', message, { cause })
  }
}

const messageOf = (error: unknown): string => (error as Error).message

export function tooLarge(key: string, { bytes }: Encoded, maxBytes: number): FleetError {
  return new FleetError(
    'FLEET_ERR_CACHE_VALUE_TOO_LARGE',
    `the value of ${JSON.stringify(key)} has ${bytes} bytes as JSON; \`cache.maxValueBytes\` is ${maxBytes}`,
  )
}

/** The frozen value of a text. */
export function decode(json: string): unknown {
  return json === '' ? undefined : readData(json)
}
