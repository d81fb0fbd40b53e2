// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the files that are read
import assert from 'node:assert/strict'
import { linkSync } from 'node:fs'
import { createRequire, syncBuiltinESMExports } from 'node:module'
import { relative } from 'node:path'
import { describe, it } from 'node:test'
import type { Worker, WorkerOptions } from 'node:worker_threads'
import { examineBounded } from '../../../src/cli/doctor/bounded.ts'
import { collect, kindOf } from '../../../src/cli/doctor/files.ts'
import { splitLine } from '../../../src/cli/doctor/readers/haproxy-syntax.ts'
import { parseNginx } from '../../../src/cli/doctor/readers/nginx-syntax.ts'
import { plant } from '../../../src/cli/doctor/readers/nginx-tree.ts'
import { referencesOf } from '../../../src/cli/doctor/readers/references.ts'
import { readAll } from '../../../src/cli/doctor/run.ts'
import { documentsOf } from '../../../src/cli/doctor/yaml-parser.ts'
import { project } from './project.ts'

describe('files of a stranger', () => {
  it('include at most a thousand others', () => {
    const doubling = Array.from({ length: 13 }, (_, i) => ({
      file: `${i}.conf`,
      text: `include ${i + 1}.conf;\ninclude ${i + 1}.conf;\n`,
    }))
    const { roots } = plant([...doubling, { file: '13.conf', text: 'server_tokens off;\n' }], new Map())
    const [{ tree } = { tree: [] }, ...others] = roots
    assert.deepEqual(others, [])
    assert.ok(tree.length > 100 && tree.length <= 1_000, `${tree.length}`)
  })

  it('nest at most a hundred blocks of nginx', () => {
    const nested = (depth: number): unknown => parseNginx('f', `${'a {'.repeat(depth)}${'}'.repeat(depth)}`)
    assert.ok(nested(100))
    assert.throws(() => nested(101), { message: /more than 100 deep/, line: 1 })
  })

  it('make words of HAProxy of at most 16 KB', () => {
    const [word = ''] = splitLine(`"${'$A'.repeat(1_000)}"`, new Map([['A', 'x'.repeat(1_000)]])).words
    assert.ok(word.length > 1_000 && word.length <= 16_384, `${word.length}`)
  })

  it('set values of at most 1 KB in templates', async () => {
    for (const [length, whys] of [
      [1_024, []],
      [1_025, ['${DIRECTIVES} is not in the files']],
    ] as const) {
      const { readings } = await readAll([
        { file: '.env', text: `DIRECTIVES=${'gzip on;'.padEnd(length, ' #')}`.replace(/=(.*)/, '="$1"') },
        { file: 'nginx.conf', text: 'events {}\n${DIRECTIVES}\n' },
      ])
      const notes = readings.flatMap((one) => (one.role === 'unjudged' && one.line === 2 ? [one.why] : []))
      assert.deepEqual(notes, whys, `${length}`)
    }
  })

  it('name at most 256 others', () => {
    const unit = (count: number): string => `[Service]\n${'EnvironmentFile=a\n'.repeat(count)}`
    assert.equal(referencesOf({ file: 'a.service', text: unit(300) }).length, 256)
    assert.equal(referencesOf({ file: 'a.service', text: unit(3) }).length, 3)
  })

  it('have at most 32 lines of YAML that need more indentation', () => {
    const errors = (count: number): number => {
      const text = Array.from({ length: count }, (_, i) => `a${i}: "x\ny"\n`).join('')
      return documentsOf(text).documents.flatMap((document) => document.errors).length
    }
    assert.equal(errors(32), 0)
    assert.ok(errors(33) > 0)
  })

  it('show their kind within the first 262,144 characters', () => {
    const server = 'server {\n  listen 80;\n}\n'
    const kind = (before: number) => kindOf({ file: 'site.conf', text: `${' '.repeat(before - 1)}\n${server}` })
    assert.equal(kind(262_144 - server.length), 'nginx')
    assert.equal(kind(262_144), undefined)
  })
})

describe('a folder of a stranger', () => {
  it('is read to a depth of 32 folders, without those of packages and tests, and hidden ones', () => {
    const own = project()
    const deep = (depth: number): string => `${'d/'.repeat(depth)}nginx.conf`
    const skipped = ['node_modules', 'vendor', 'dist', 'test', '.git', 'a/.cache']
    for (const file of [deep(32), deep(33), ...skipped.map((name) => `${name}/nginx.conf`)])
      own.write(file, 'events {}\n')
    assert.deepEqual(
      collect([own.folder]).map(({ file }) => relative(own.folder, file)),
      [deep(32)],
    )
    assert.equal(collect([own.path('d')]).length, 2)
  })

  it('has at most 5,000 files', () => {
    const own = project()
    own.write('0.env', 'A=1\n')
    for (let i = 1; i < 5_000; i++) linkSync(own.path('0.env'), own.path(`${i}.env`))
    assert.equal(collect([own.folder]).length, 5_000)
    linkSync(own.path('0.env'), own.path('5000.env'))
    assert.throws(() => collect([own.folder]), { code: 'FLEET_ERR_USAGE', message: /too many files/ })
  })

  it('has at most 32 million characters', () => {
    const own = project()
    own.write('0.env', `A=${'x'.repeat(999_000)}`)
    for (let i = 1; i < 32; i++) linkSync(own.path('0.env'), own.path(`${i}.env`))
    assert.equal(collect([own.folder]).length, 32)
    own.write('32.env', `A=${'x'.repeat(99_000)}`)
    assert.throws(() => collect([own.folder]), { code: 'FLEET_ERR_USAGE', message: /too many files/ })
  })
})

describe('an examination', () => {
  /** Runs it with a class that keeps what threads are started with. */
  async function observed<T>(run: () => Promise<T>): Promise<{ result: T; threads: [Worker, WorkerOptions][] }> {
    const module = createRequire(import.meta.url)('node:worker_threads') as { Worker: typeof Worker }
    const threads: [Worker, WorkerOptions][] = []
    const { Worker: Thread } = module
    module.Worker = class extends Thread {
      constructor(file: URL, options: WorkerOptions) {
        super(file, options)
        threads.push([this, options])
      }
    }
    syncBuiltinESMExports()
    try {
      return { result: await run(), threads }
    } finally {
      module.Worker = Thread
      syncBuiltinESMExports()
    }
  }
  const options = { longestMs: 10_000, connect: false }
  const sources = [{ file: '.env', text: 'FLEET_NAME=shop\n' }]

  it('has a thread with little memory and without the environment, which ends with it', async () => {
    const { result, threads } = await observed(() => examineBounded(sources, options))
    assert.equal(result.read.length, 1)
    const [[thread, given] = []] = threads
    assert.equal(thread?.threadId, -1)
    assert.equal(given?.resourceLimits?.maxOldGenerationSizeMb, 768)
    assert.deepEqual([given?.env, given?.stdin], [{}, false])
  })

  it('ends its thread when it takes too long', async () => {
    const { threads } = await observed(() => assert.rejects(examineBounded(sources, options, 1), /took longer/))
    assert.equal(threads[0]?.[0].threadId, -1)
  })
})
