/** Longer than any time limit of the proxy, and than a busy machine may need. */
const deadlineMs = 30_000

/** @throws when `promise` has not settled in time: a client would wait for ever */
export async function withDeadline<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: no response, and no reset`)), deadlineMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
