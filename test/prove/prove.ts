import '../helpers/cleanup.ts'
import { hash } from 'node:crypto'
import { appendFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { Random } from '../fuzz/engine/random.ts'
import { type Counts, type Mode, type Outcome, outcomes } from './outcome.ts'
import type { PromiseId } from './promises.ts'

export interface Proof {
  readonly t: TestContext
  readonly full: boolean
  readonly seed: number
  /** The same numbers for the same seed and name. */
  readonly random: Random
  /** Chooses by the mode. */
  pick<T>(quick: T, full: T): T
  /** Adds to the counts. */
  count(more: Partial<Counts>): void
  /** Adds a line to the report. */
  note(text: string): void
  /** Ends the proof: it cannot run on this machine. */
  skip(reason: string): never
}

export interface ProveOptions {
  /** Only in `--full`. @default false */
  fullOnly?: boolean
  /** Time limit in ms. @default 5 minutes in `--quick`, 60 in `--full` */
  timeoutMs?: number
}

class Skip extends Error {}

const { PROVE_MODE, PROVE_OUT, PROVE_SEED } = process.env
const mode: Mode = PROVE_MODE === 'full' ? 'full' : 'quick'
const seed = Number(PROVE_SEED ?? 1)
const results = PROVE_OUT && join(PROVE_OUT, 'results.jsonl')

/**
 * Defines one proof: a test whose counts go into the report of `npm run prove`. A file run by itself, with
 * `node --test`, proves in the quick mode and writes no report.
 *
 * @param promise whose line in docs/guarantees.md shows the counts
 */
export function prove(
  name: string,
  promise: PromiseId,
  body: (proof: Proof) => Promise<void>,
  { fullOnly = false, timeoutMs = mode === 'full' ? 3_600_000 : 300_000 }: ProveOptions = {},
): void {
  test(name, { timeout: timeoutMs }, async (t) => {
    if (fullOnly && mode === 'quick') return t.skip('only in --full')
    if (results && outcomes(results).some((past) => past.name === name && past.status === 'passed'))
      return t.skip('passed before the run was interrupted')
    const counts: Record<string, number> = {}
    const notes: string[] = []
    const began = Date.now()
    let ended = false
    const end = (status: Outcome['status'], error?: unknown): void => {
      if (ended) return
      ended = true
      const reason = error instanceof Error ? error.message : error === undefined ? undefined : String(error)
      const outcome: Outcome = {
        file: basename(process.argv[1] ?? ''),
        name,
        promise,
        status,
        ...(reason !== undefined && { reason }),
        mode,
        seed,
        counts,
        notes,
        started: new Date(began).toISOString(),
        durationMs: Date.now() - began,
      }
      t.diagnostic(`${JSON.stringify(counts)} ${notes.join('; ')}`)
      if (results) appendFileSync(results, `${JSON.stringify(outcome)}\n`)
    }
    // A time limit ends the test without a throw in its body.
    t.signal.addEventListener('abort', () => end('failed', t.signal.reason), { once: true })
    try {
      await body({
        t,
        full: mode === 'full',
        seed,
        random: new Random(seed ^ Number.parseInt(hash('sha256', name).slice(0, 8), 16)),
        pick: (quick, full) => (mode === 'full' ? full : quick),
        count: (more) => {
          for (const [key, value = 0] of Object.entries(more)) counts[key] = (counts[key] ?? 0) + value
        },
        note: (text) => void notes.push(text),
        skip: (reason) => {
          throw new Skip(reason)
        },
      })
      end('passed')
    } catch (error) {
      if (!(error instanceof Skip)) {
        end('failed', error)
        throw error
      }
      end('skipped', error)
      t.skip(error.message)
    }
  })
}
