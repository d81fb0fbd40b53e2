import type { Random } from './random.ts'

const interesting = Buffer.from([0, 1, 9, 10, 13, 32, 34, 37, 39, 44, 46, 47, 58, 59, 61, 92, 127, 128, 255])

/** Changes an input in one to four places: bytes, ranges, words of the dictionary, parts of another input. */
export function mutate(
  random: Random,
  input: Buffer,
  other: Buffer,
  dictionary: readonly Buffer[],
  maxBytes: number,
): Buffer {
  let bytes = input
  for (let turns = 1 + random.below(4); turns > 0; turns--) bytes = once(random, bytes, other, dictionary)
  return bytes.subarray(0, maxBytes)
}

function once(random: Random, bytes: Buffer, other: Buffer, dictionary: readonly Buffer[]): Buffer {
  const at = random.below(bytes.length + 1)
  const end = Math.min(bytes.length, at + 1 + random.below(random.pick([2, 8, 64])))
  const replace = (...parts: Buffer[]): Buffer => Buffer.concat([bytes.subarray(0, at), ...parts, bytes.subarray(end)])
  const insert = (...parts: Buffer[]): Buffer => Buffer.concat([bytes.subarray(0, at), ...parts, bytes.subarray(at)])
  switch (random.below(9)) {
    case 0: {
      const copy = Buffer.from(bytes)
      if (at < copy.length) copy[at] = (copy[at] as number) ^ (1 << random.below(8))
      return copy
    }
    case 1:
      return replace(Buffer.from([random.below(256)]))
    case 2:
      return replace(Buffer.from([random.pick([...interesting])]))
    case 3:
      return replace()
    case 4:
      return insert(bytes.subarray(at, end))
    case 5: {
      const from = random.below(other.length + 1)
      return insert(other.subarray(from, from + 1 + random.below(64)))
    }
    case 6:
      return insert(...Array.from({ length: 1 + random.below(40) }, () => bytes.subarray(at, end)))
    case 7:
      return Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length + 1))])
    default:
      return dictionary.length > 0 ? insert(random.pick(dictionary)) : insert(Buffer.from([random.below(256)]))
  }
}
