/** Longer than any timeout of the proxy on a busy machine. */
const deadlineMs = 30_000

/** @throws when `promise` does not settle in time, that is when a client would wait without end */
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
