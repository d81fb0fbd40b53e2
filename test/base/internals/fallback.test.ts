// Runs the suites of the plugins concerned with every shortcut disabled. Importing a suite registers its tests.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'

for (const name of Object.keys(shortcuts) as (keyof typeof shortcuts)[]) shortcuts[name] = false

await import('../../instance/cors.test.ts')
await import('../../instance/overload/overload.test.ts')
await import('../../instance/security-headers.test.ts')
await import('../../instance/static-headers.test.ts')

it('disables every shortcut', () => {
  assert.ok(Object.values(shortcuts).every((enabled) => !enabled))
})
