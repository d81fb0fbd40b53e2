import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const files = globSync('src/{state,edge}/**/*.ts', { cwd: root }).sort()
const linesWith = (pattern: RegExp): string[] =>
  files.flatMap((file) =>
    readFileSync(root + file, 'utf8')
      .split('\n')
      .flatMap((line) => (pattern.test(line) && !/^\s*(?:\*|\/\/)/.test(line) ? [file] : [])),
  )

// Others may write to the same Redis. Who adds a place here has made sure that whatever is stored there counts as missing
// at worst; test/state/foreign-data.test.ts tries it.
test('scripts read strings from Redis by `text()`, to which another type is none', () => {
  assert.deepEqual(linesWith(/redis\.call\('GET'/), ['src/state/session/redis-store.ts'])
})

test('JSON is parsed in few places of the modules with shared state, and each of them expects anything', () => {
  assert.deepEqual(
    [...new Set(linesWith(/JSON\.parse\(/))],
    [
      'src/state/broadcast/subscriptions.ts',
      'src/state/cache/data.ts',
      'src/state/cache/redis-store.ts',
      'src/state/history/events.ts',
      'src/state/jwt/claims.ts',
      'src/state/jwt/keys.ts',
      'src/state/registry/signed-entries.ts',
      'src/state/session/record.ts',
      'src/state/session/repository.ts',
      'src/state/stored-response.ts',
    ],
  )
})
