import { after } from 'node:test'

const left = new Set<() => unknown>()

// A suite of which no test was selected (`--test-name-pattern`) starts its servers, but its own hooks do not run.
after(() => Promise.all([...left].map((end) => end())))

/** Calls `end` after the test or suite this is called in, or at the latest after the file. */
export function atEnd(end: () => unknown): void {
  const once = (): unknown => left.delete(once) && end()
  left.add(once)
  after(async () => void (await once()))
}
