import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { childEnv, readEnv } from '../../src/base/env.ts'
import { maxSecretBytes, secretVariables } from '../../src/base/secret-files.ts'

const folder = mkdtempSync(join(tmpdir(), 'secrets-'))
after(() => rmSync(folder, { recursive: true }))
let files = 0
function file(content: string | Buffer): string {
  const path = join(folder, `secret-${++files}`)
  writeFileSync(path, content)
  return path
}

const valid = (name: string): string => {
  if (name.startsWith('REDIS_URL')) return 'redis://:hunter2@127.0.0.1:6379/1'
  return name.startsWith('DATABASE') ? 'postgresql://u:hunter2@db/shop' : 'hunter2'.padEnd(40, '2')
}
const invalid = (variable: string) => (error: Error & { code?: string }) => {
  assert.equal(error.code, 'FLEET_ERR_ENV_INVALID')
  assert.match(error.message, new RegExp(`\\b${variable}\\b`))
  assert.doesNotMatch(error.message, /hunter2/)
  return true
}

describe('a secret in a file', () => {
  for (const name of [...secretVariables, 'DATABASE_URL_REPLICA_1']) {
    it(`is the value of ${name}`, () => {
      const value = valid(name)
      const given = readEnv({ [name]: value })
      assert.deepEqual(readEnv({ [`${name}_FILE`]: file(`${value}\n`) }), given)
      assert.notDeepEqual(given, readEnv({}))
    })

    it(`is rejected if ${name} is set too`, () => {
      assert.throws(() => readEnv({ [name]: valid(name), [`${name}_FILE`]: file(valid(name)) }), invalid(name))
      assert.throws(
        () => readEnv({ [name]: valid(name), [`${name}_FILE`]: file(valid(name)) }),
        invalid(`${name}_FILE`),
      )
      readEnv({ [name]: '', [`${name}_FILE`]: file(valid(name)) })
      readEnv({ [name]: valid(name), [`${name}_FILE`]: '' })
    })

    it(`is rejected if the file of ${name}_FILE is missing, unusable, empty or too large`, () => {
      const fifo = join(folder, `fifo-${++files}`)
      execFileSync('mkfifo', [fifo])
      const paths = [
        join(folder, 'hunter2'),
        folder,
        fifo,
        join(file('x'), 'hunter2'),
        file(''),
        file('\n'),
        file(' \r\n'),
        file('hunter2\0'),
        file(Buffer.from([0xff, 0xfe, 0x80])),
        file('hunter2'.repeat(maxSecretBytes / 7 + 1)),
        'hunter2\0',
      ]
      for (const path of paths)
        assert.throws(() => Object.values(readEnv({ [`${name}_FILE`]: path })), invalid(`${name}_FILE`))
    })
  }

  it('loses one line break only', () => {
    for (const [content, value] of [
      ['a b \n', 'a b '],
      ['a\r\n', 'a'],
      ['a\n\n', 'a\n'],
      ['\uFEFFa', 'a'],
    ] as const)
      assert.equal(readEnv({ REDIS_PASSWORD_FILE: file(content) }).REDIS_PASSWORD, value)
  })

  it('may be a link, and is read again after a change', () => {
    const target = file('one')
    const link = join(folder, 'link')
    symlinkSync(target, link)
    const read = (): string | undefined => readEnv({ REDIS_PASSWORD_FILE: link }).REDIS_PASSWORD
    assert.equal(read(), 'one')
    writeFileSync(target, 'two')
    utimesSync(target, 1, 1)
    assert.equal(read(), 'two')
  })

  it('is read again after a change that keeps its size and its time of modification, such as `cp -p`', async () => {
    const path = file('one')
    utimesSync(path, 1, 1)
    const read = (): string | undefined => readEnv({ REDIS_PASSWORD_FILE: path }).REDIS_PASSWORD
    assert.equal(read(), 'one')
    const changed = (): bigint => statSync(path, { bigint: true }).ctimeNs
    const before = changed()
    // File systems count time in steps of a few milliseconds.
    while (changed() === before) {
      await sleep(1)
      writeFileSync(path, 'two')
      utimesSync(path, 1, 1)
    }
    assert.equal(read(), 'two')
  })

  it('is named by its variable if its content is invalid', () => {
    assert.throws(() => Object.values(readEnv({ REDIS_URL_FILE: file('hunter2') })), invalid('REDIS_URL_FILE'))
    assert.throws(
      () => Object.values(readEnv({ DATABASE_URL_FILE: file('mysql://hunter2') })),
      invalid('DATABASE_URL_FILE'),
    )
    assert.throws(
      () => Object.values(readEnv({ DATABASE_REPLICA_URLS_FILE: file('hunter2') })),
      invalid('DATABASE_REPLICA_URLS_FILE'),
    )
  })

  it('is replaced in a child process that gets the secret itself', () => {
    process.env.SESSION_SECRET_FILE = '/run/secrets/session'
    try {
      assert.equal(childEnv({ PORT: '1' }).SESSION_SECRET_FILE, '/run/secrets/session')
      assert.equal(childEnv({ SESSION_SECRET: 'x' }).SESSION_SECRET_FILE, undefined)
    } finally {
      delete process.env.SESSION_SECRET_FILE
    }
  })
})
