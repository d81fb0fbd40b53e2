const budgetMs = 20_000

/**
 * Removes parts of an input while the rest still fails in the same way.
 *
 * @param fails whether a candidate still fails
 */
export async function minimise(input: Buffer, fails: (candidate: Buffer) => Promise<boolean>): Promise<Buffer> {
  const end = performance.now() + budgetMs
  let best = input
  for (let size = Math.ceil(best.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < best.length && performance.now() < end; ) {
      const candidate = Buffer.concat([best.subarray(0, at), best.subarray(at + size)])
      if (await fails(candidate)) best = candidate
      else at += size
    }
  }
  return best
}
