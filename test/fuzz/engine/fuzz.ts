import { Worker } from 'node:worker_threads'
import { headerBytes, type Job, type Report } from './job.ts'
import { minimise } from './minimise.ts'

export interface FuzzOptions {
  /** Absolute URL of the target's file. */
  readonly file: string
  readonly seed: number
  /** Time for new inputs, ms; 0: only `inputs`, or the target's seeds. */
  readonly ms: number
  readonly inputs?: readonly Uint8Array[]
  /** Longest time for one input, ms. @default 10 000 */
  readonly inputMs?: number
}

export interface Failure {
  readonly kind: 'crash' | 'hang'
  readonly input: Buffer
  readonly detail: string
}

export interface Outcome {
  readonly inputs: number
  readonly outcomes: number
  readonly failure?: Failure
}

const largestInput = 1 << 20
const heapMb = 512
const watchEveryMs = 100

/** Runs a target in its own thread, which is terminated when an input takes too long. */
export async function fuzz(options: FuzzOptions): Promise<Outcome> {
  const outcome = await runOnce(options, true)
  if (outcome.failure?.kind !== 'hang') return outcome
  // A busy machine must not look like a hang: the input runs again alone, with more time.
  const inputMs = 2 * (options.inputMs ?? 10_000)
  const hangs = async (input: Buffer): Promise<boolean> => {
    const again = await runOnce({ ...options, ms: 0, inputs: [input], inputMs }, false)
    return again.failure?.kind === 'hang'
  }
  const { input, detail } = outcome.failure
  if (!(await hangs(input))) return fuzz({ ...options, seed: options.seed + 1 })
  return { ...outcome, failure: { kind: 'hang', input: await minimise(input, hangs), detail } }
}

async function runOnce(options: FuzzOptions, reduce: boolean): Promise<Outcome> {
  const { file, seed, ms, inputs, inputMs = 10_000 } = options
  const shared = new SharedArrayBuffer(headerBytes + largestInput)
  const job: Job = { file, seed, ms, inputs, minimise: reduce, shared }
  const counters = new Int32Array(shared, 0, 2)
  const worker = new Worker(new URL('./worker.ts', import.meta.url), {
    workerData: job,
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
  })
  const present = (): Buffer => Buffer.from(new Uint8Array(shared, headerBytes, Atomics.load(counters, 1)))
  const failed = (kind: Failure['kind'], detail: string): Outcome => ({
    inputs: Atomics.load(counters, 0),
    outcomes: 0,
    failure: { kind, input: present(), detail },
  })
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<Outcome>((resolve, reject) => {
      let count = 0
      let since = performance.now()
      timer = setInterval(() => {
        const now = Atomics.load(counters, 0)
        if (now !== count) [count, since] = [now, performance.now()]
        // The target is still loading.
        else if (count > 0 && performance.now() - since > inputMs)
          resolve(failed('hang', `one input took more than ${inputMs} ms`))
      }, watchEveryMs)
      worker.on('message', ({ crash, ...report }: Report) =>
        resolve({
          ...report,
          failure: crash && { kind: 'crash', input: Buffer.from(crash.input), detail: crash.stack },
        }),
      )
      worker.on('error', (error: Error) =>
        Atomics.load(counters, 0) > 0 ? resolve(failed('crash', error.stack ?? String(error))) : reject(error),
      )
      worker.on('exit', (code) => resolve(failed('crash', `the thread ended with code ${code}`)))
    })
  } finally {
    clearInterval(timer)
    await worker.terminate()
  }
}
