// Runs the suites of the plugins concerned with every shortcut disabled. Importing a suite registers its tests.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import { shortcuts } from '../../../src/base/internals/shortcuts.ts'
import './no-shortcuts.fixture.ts'

process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --import=${new URL('./no-shortcuts.fixture.ts', import.meta.url)}`

await import('../../edge/http/server.test.ts')
await import('../../edge/http/request.test.ts')
await import('../../edge/http/response.test.ts')
await import('../../instance/lifecycle/lifecycle.test.ts')
await import('../../instance/overload/overload.test.ts')
await import('../../instance/security-headers.test.ts')
await import('../../instance/static-headers.test.ts')
await import('../../state/redis/redis.test.ts')

it('disables every shortcut', () => {
  assert.ok(Object.values(shortcuts).every((enabled) => !enabled))
})
