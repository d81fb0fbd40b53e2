import { after } from 'node:test'

const pending = new Set<() => unknown>()

// A suite without a selected test (`--test-name-pattern`) starts its servers, but its own hooks do not run.
after(() => Promise.all([...pending].map((end) => end())))

/** Calls `end` after the current test or suite, or at the latest after the file. */
export function atEnd(end: () => unknown): void {
  const once = (): unknown => pending.delete(once) && end()
  pending.add(once)
  after(async () => void (await once()))
}
