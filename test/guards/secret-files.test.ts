import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { readEnv } from '../../src/base/env.ts'
import { isSecretVariable, secretVariables } from '../../src/base/secret-files.ts'

const docs = readFileSync(new URL('../../docs/environment.md', import.meta.url), 'utf8')

test('every variable with a secret can be given as a file', () => {
  const secret = /SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL|KEYS?$|URLS?$/
  const missing = Object.keys(readEnv({})).filter((name) => secret.test(name) && !isSecretVariable(name))
  assert.deepEqual(missing, [], 'add it to `secretVariables` in src/base/secret-files.ts, or give it another name')
})

test('docs/environment.md lists every variable with a secret, and its file', () => {
  for (const name of secretVariables) {
    assert.ok(docs.includes(`\`${name}\``), name)
    assert.ok(docs.includes(`\`${name}_FILE\``), `${name}_FILE`)
  }
})
