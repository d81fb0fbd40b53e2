import { syncBuiltinESMExports } from 'node:module'
import type { TestContext } from 'node:test'

/** Makes what `mock` replaces in built-in modules reach named imports, too, and restores it when the test ends. */
export function mockBuiltins(t: TestContext, mock: () => void): void {
  mock()
  syncBuiltinESMExports()
  t.after(() => {
    t.mock.restoreAll()
    syncBuiltinESMExports()
  })
}
