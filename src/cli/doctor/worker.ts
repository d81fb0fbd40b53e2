import { parentPort, workerData } from 'node:worker_threads'
import type { Source } from './facts.ts'
import { type ExamineOptions, examine } from './run.ts'

const { sources, options } = workerData as { sources: readonly Source[]; options: ExamineOptions }
parentPort?.postMessage(await examine(sources, options))
