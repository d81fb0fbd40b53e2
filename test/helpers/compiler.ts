// How tests run TypeScript 7 with the least processor time, because other test files run at the same time.

/** Several threads would check the same types, each for itself. */
export const oneThread: readonly string[] = ['--singleThreaded']

/** Collects garbage rarely: the compiler ends soon, and needs less than 1 GB until then. */
export const rareCollection: NodeJS.ProcessEnv = { ...process.env, GOGC: '400' }
