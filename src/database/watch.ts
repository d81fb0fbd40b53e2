/** The part of a Prisma client that is used for a server. */
export interface ServerClient {
  $queryRawUnsafe(query: string): PromiseLike<unknown>
  $disconnect(): Promise<void>
}

/** State of a server at one moment. */
export interface Sample {
  /** It follows another server and accepts no writes. */
  readonly standby: boolean
  /** Position in the write-ahead log in bytes: replayed on a standby, written on a primary. */
  readonly position: number
  /** Identifies the server process by start time and port, independent of the address used. */
  readonly server: string
}

/** One round trip; every role may call these functions. Uses the insert position of a primary: the flushed one may be lower. */
const sampleStatement: string = `SELECT pg_is_in_recovery() AS standby,
  (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END)::text AS position,
  concat_ws('/', pg_postmaster_start_time(), inet_server_port()) AS server,
  current_setting('wal_block_size')::int AS block`

/** Length of the header of a WAL page at the start of a segment, bytes. */
const longHeader = 40

/** Parses a position such as `16/B374D848` into bytes. A number holds 53 of its 64 bits: 9 PB of log. */
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
  if (!row) throw new Error('the server returned no sample')
  const { standby, server, block } = row
  const position = bytes(row.position)
  // At a page boundary a primary reports where the next record will start (after the page header), a standby where the last
  // one ended (before it). So positions within a page header are rounded down to the boundary. No record can end between
  // both, so none is missed. Without this, no replica would catch up with a primary that is idle after a log switch.
  const over = position % block
  return { standby, server, position: over <= longHeader ? position - over : position }
}

/** Single-flight: callers during a run of `fn` share its result. */
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
 * Single-flight for callers that need a result newer than their call: callers during a run of `fn` do not share that run
 * but the next one.
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

/** Number of samples of the primary to keep: one hour at one per second. */
const maxSamples = 3_600

/**
 * Positions of the primary by the time they were observed here. So lag is measured with a single clock, and an idle primary
 * causes none.
 */
export class PrimaryHistory {
  #moments: { readonly at: number; readonly position: number }[] = []
  /** Time of the primary's last response. */
  #last = 0
  server: string | undefined

  add({ position, server }: Sample, at: number): void {
    // A new primary may lack the last writes of the old one; then the old positions are meaningless.
    const before = this.#moments.at(-1)?.position ?? 0
    if (position < before) this.#moments = []
    if (position !== before) this.#moments.push({ at, position })
    if (this.#moments.length > maxSamples) this.#moments.shift()
    this.#last = at
    this.server = server
  }

  /**
   * Age of the oldest write that a replica has not replayed, in ms, with a resolution of one interval; 0 when there is none.
   * Does not grow while the primary is down, when no replica can advance.
   */
  lag(replayed: number): number {
    const missing = this.#moments.find(({ position }) => position > replayed)
    return missing ? this.#last - missing.at : 0
  }
}
