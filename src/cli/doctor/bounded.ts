import { once } from 'node:events'
import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import { usageError } from '../args.ts'
import type { Source } from './facts.ts'
import type { Examination, ExamineOptions } from './run.ts'

/** Limits of an examination; real deployments need one second and 100 MiB. */
const [longestMs, maxMib] = [30_000, 768]

/**
 * Runs {@link examine} in a worker thread without this process's environment. A hostile file that keeps a reader busy or
 * fills its memory ends the thread, not the process.
 *
 * @throws FLEET_ERR_USAGE when it takes longer than 30 s or more than 768 MiB
 */
export async function examineBounded(
  sources: readonly Source[],
  options: ExamineOptions,
  limitMs: number = longestMs,
): Promise<Examination> {
  const worker = new Worker(new URL(`./worker${extname(import.meta.url)}`, import.meta.url), {
    workerData: { sources, options },
    resourceLimits: { maxOldGenerationSizeMb: maxMib },
    env: {},
    stdin: false,
  })
  const timer = setTimeout(() => worker.emit('error', new Error(`took longer than ${limitMs / 1000} s`)), limitMs)
  try {
    const [examination] = await once(worker, 'message')
    return examination as Examination
  } catch (error) {
    const why =
      (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY'
        ? `took more than ${maxMib} MiB`
        : (error as Error).message
    throw usageError(`reading the files: ${why}; name the ones to examine`, { cause: error })
  } finally {
    clearTimeout(timer)
    await worker.terminate()
  }
}
