/** What is asked of a server's Prisma client. */
export interface ServerClient {
  $queryRawUnsafe(query: string): PromiseLike<unknown>
  $disconnect(): Promise<void>
}

/** A server at one moment. */
export interface Sample {
  /** It follows another one, and takes no writes. */
  readonly standby: boolean
  /** Position in the write-ahead log, in bytes: replayed by a standby, written by a primary. */
  readonly position: number
  /** Which server answered, and since when it runs: the same one by another address has the same. */
  readonly server: string
}

/** One trip; the functions are open to every role. Of a primary, what is inserted: what is flushed may be less. */
export const sampleStatement: string = `SELECT pg_is_in_recovery() AS standby,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS position,
  concat_ws('/', pg_postmaster_start_time(), inet_server_port()) AS server,
  current_setting('wal_block_size')::int AS block`

/** Of the header of a log page, at the beginning of a segment, bytes. */
const longHeader = 40

/** `16/B374D848` in bytes. A log position has 64 bits, of which a number holds 53: 9 PB of log. */
export function bytes(position: string | null): number {
  const [high = '0', low = '0'] = (position ?? '').split('/')
  return Number.parseInt(high || '0', 16) * 2 ** 32 + Number.parseInt(low, 16)
}

export async function sample(client: ServerClient): Promise<Sample> {
  const [row] = (await client.$queryRawUnsafe(sampleStatement)) as {
    standby: boolean
    position: string | null
    server: string
    block: number
  }[]
  if (!row) throw new Error('the server gave no sample')
  const { standby, server, block } = row
  const position = bytes(row.position)
  // A primary that is to begin a page says where the first record will be, a standby where the last one has ended. A
  // record that reaches into a page by no more than a header has no other one that ends at the page's edge, so nothing
  // is missed; without this, no replica would ever catch up with a primary that is idle after a switch of the log.
  const over = position % block
  return { standby, server, position: over <= longHeader ? position - over : position }
}

/** `fn`, run by one caller at a time: those who come while it runs get its result, too. */
export function shared<T>(fn: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined
  return () => {
    running ??= fn().finally(() => {
      running = undefined
    })
    return running
  }
}

/**
 * `fn`, for callers who need an answer to a question that was put after they came: they do not get that of a run under
 * way, but share the next one.
 */
export function afterwards<T>(fn: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined
  let next: Promise<T> | undefined
  const start = (): Promise<T> => {
    next = undefined
    const run = fn()
    running = run
    const end = (): void => {
      if (running === run) running = undefined
    }
    run.then(end, end)
    return run
  }
  return () => {
    if (!running) return start()
    next ??= running.then(start, start)
    return next
  }
}

/** Whether `answer` came in time and was no failure. */
export async function inTime(answer: Promise<unknown>, timeoutMs: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>()
  // setImmediate: when it was this process that stood still, the answer lies in the socket and is read first.
  const timer = setTimeout(() => setImmediate(resolve, false), timeoutMs)
  const settled = answer.then(
    () => true,
    () => false,
  )
  const was = await Promise.race([settled, late])
  clearTimeout(timer)
  return was
}

/** How many moments of the primary are remembered: at one per second, an hour. */
const remembered = 3_600

/**
 * When the primary had which position, as seen from here: so lag is measured by one clock, and an idle primary has none.
 */
export class PrimaryHistory {
  #moments: { readonly at: number; readonly position: number }[] = []
  /** When the primary last answered. */
  #last = 0
  server: string | undefined

  add({ position, server }: Sample, at: number): void {
    // A new primary may lack what the old one had written last; then the old positions mean nothing.
    if (position < (this.#moments.at(-1)?.position ?? 0)) this.#moments = []
    if (position > (this.#moments.at(-1)?.position ?? -1)) this.#moments.push({ at, position })
    if (this.#moments.length > remembered) this.#moments.shift()
    this.#last = at
    this.server = server
  }

  /**
   * How old the oldest thing is that a replica lacks, in ms, one interval coarse; 0 when it lacks nothing. While the
   * primary is away nothing gets older: that no replica moves is then not their fault.
   */
  lag(replayed: number): number {
    const missing = this.#moments.find(({ position }) => position > replayed)
    return missing ? this.#last - missing.at : 0
  }
}
