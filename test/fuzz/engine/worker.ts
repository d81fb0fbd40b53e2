import { setImmediate as nextTurn } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { headerBytes, type Job, type Report } from './job.ts'
import { minimise } from './minimise.ts'
import { mutate } from './mutate.ts'
import { Random } from './random.ts'
import type { Target } from './target.ts'

/** Inputs kept besides the seeds. */
const maxKept = 2000

async function work(job: Job): Promise<Report> {
  const target = ((await import(job.file)) as { default: Target }).default
  const random = new Random(job.seed)
  const counters = new Int32Array(job.shared, 0, 2)
  const present = new Uint8Array(job.shared, headerBytes)
  const maxBytes = Math.min(target.maxBytes ?? 4096, present.length)
  const dictionary = (target.dictionary ?? []).map((word) => Buffer.from(word as string, 'latin1'))
  const corpus: Buffer[] = (job.inputs ?? target.seeds).map((seed) => Buffer.from(seed as string, 'latin1'))
  const seen = new Set<string>()
  let inputs = 0

  /** @returns the error, if the input breaks the target */
  const attempt = async (input: Buffer, keep: boolean): Promise<Error | undefined> => {
    present.set(input.subarray(0, present.length))
    Atomics.store(counters, 1, input.length)
    Atomics.store(counters, 0, ++inputs)
    try {
      const running = target.run(input)
      const outcome = typeof running === 'object' ? await running : running
      // Lets callbacks of the target run, such as the end of a stream.
      if (inputs % 64 === 0) await nextTurn()
      if (keep && outcome !== undefined && !seen.has(outcome) && seen.size < maxKept) {
        seen.add(outcome)
        corpus.push(input)
      }
      return undefined
    } catch (error) {
      return error instanceof Error ? error : new Error(`thrown: ${String(error)}`)
    }
  }

  const crashed = async (input: Buffer, error: Error): Promise<Report> => {
    const same = async (candidate: Buffer): Promise<boolean> => {
      const other = await attempt(candidate, false)
      return other !== undefined && signature(other) === signature(error)
    }
    const smallest = job.minimise ? await minimise(input, same) : input
    const stack = (await attempt(smallest, false))?.stack ?? error.stack ?? String(error)
    return { inputs, outcomes: seen.size, crash: { input: smallest, stack } }
  }

  const clean = await target.prepare?.()
  try {
    for (const seed of [...corpus]) {
      const error = await attempt(seed, false)
      if (error) return await crashed(seed, error)
    }
    const end = performance.now() + job.ms
    while (performance.now() < end) {
      const isNew = target.generate !== undefined && random.below(3) === 0
      const input = isNew
        ? (target.generate?.(random) ?? Buffer.alloc(0)).subarray(0, maxBytes)
        : mutate(random, random.pick(corpus), random.pick(corpus), dictionary, maxBytes)
      const error = await attempt(input, true)
      if (error) return await crashed(input, error)
    }
    return { inputs, outcomes: seen.size }
  } finally {
    await clean?.()
  }
}

/** Two errors are the same if they have the same name and come from the same line. */
function signature({ name, stack = '' }: Error): string {
  const frame = stack.split('\n').find((line) => /^\s+at .*(?:\/src\/|\/fuzz\/)/.test(line))
  return `${name} ${frame ?? ''}`
}

parentPort?.postMessage(await work(workerData as Job))
