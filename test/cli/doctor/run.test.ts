// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the files that are read
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Source } from '../../../src/cli/doctor/facts.ts'
import { examine } from '../../../src/cli/doctor/run.ts'

const of = (...sources: Source[]) => examine(sources, { longestMs: 10_000, connect: false })
const server = 'server {\n  listen 80;\n  location / { proxy_pass http://10.0.0.4:3000; }\n}\n'

describe('the report of an examination', () => {
  it('has no file that cannot be parsed, and the others of its kind', async () => {
    const { read, findings } = await of(
      { file: 'a/compose.yml', text: 'services: [\n' },
      { file: 'b/compose.yml', text: 'services: { db: { image: postgres, environment: { POSTGRES_PASSWORD: x } } }\n' },
    )
    assert.deepEqual(
      read.map(({ file }) => file),
      ['b/compose.yml'],
    )
    assert.deepEqual(
      findings.map(({ code, file }) => `${code} ${file}`),
      ['DOCTOR_SYNTAX a/compose.yml', 'DOCTOR_SECRET_WEAK b/compose.yml'],
    )
  })

  it('names files of no known kind, unless only another file refers to them', async () => {
    const { unread } = await of(
      { file: 'notes.txt', text: '', named: true },
      { file: 'main.tf', text: '' },
      { file: 'x.txt', text: '', isReference: true },
    )
    assert.deepEqual(
      unread.map(({ file, named = false }) => [file, named]),
      [
        ['notes.txt', true],
        ['main.tf', false],
      ],
    )
  })

  it('has the facts and rules of each file, and of those within the output of nginx -T in its place', async () => {
    const dump = `# configuration file /etc/nginx/nginx.conf:\nevents {}\nhttp {\n  include site.conf;\n}\n# configuration file /etc/nginx/site.conf:\n${server}`
    const { read } = await of(
      { file: '-', text: dump },
      { file: '.env', text: 'FLEET_NAME=shop\nDRAIN_DELAY=5000\n' },
      { file: 'values.env', text: 'A=1\nB=2\n' },
    )
    assert.deepEqual(
      read.map(({ file, kind, facts, partOf }) => [file, kind, facts, partOf]),
      [
        ['.env', 'environment', 2, undefined],
        ['values.env', 'environment', 2, undefined],
        ['/etc/nginx/site.conf', 'nginx', 4, '/etc/nginx/nginx.conf'],
        ['/etc/nginx/nginx.conf', 'nginx', 1, undefined],
      ],
    )
    assert.ok(read.find(({ file }) => file.endsWith('site.conf'))?.rules.includes('DOCTOR_FRONT_ADDRESS'))
    const empty = await of({ file: '-', text: '# configuration file /etc/nginx/nginx.conf:\n' })
    assert.deepEqual(
      empty.read.map(({ file, facts }) => [file, facts]),
      [['-', 0]],
    )
  })

  it('has what the values of all files of variables make of a template', async () => {
    const { findings, read } = await of(
      { file: 'a.env', text: 'A=1\n' },
      { file: 'b.env', text: 'RETRY=non_idempotent\n' },
      { file: 'nginx.conf', text: `events {}\nhttp {\n  proxy_next_upstream error \${RETRY};\n${server}}\n` },
    )
    assert.ok(findings.some(({ code, line }) => code === 'DOCTOR_REPEATS_POSTS' && line === 3))
    assert.equal(read.length, 3)
  })
})

it('what an app reports counts for the services of a compose file', async () => {
  const report = { production: true, trustProxy: 'some', checks: {}, shutdownTimeoutMs: 60_000, drainDelayMs: 1_000 }
  const text =
    'services:\n  app:\n    build: .\n    stop_grace_period: 40s\n    environment: { FLEET_NAME: shop, REDIS_URL: redis://redis, TRUST_PROXY: loopback }\n'
  const { findings } = await of(
    { file: 'server.js', text: '', kind: 'app', named: true, evaluated: { doctor: 'report', app: report } },
    { file: 'compose.yml', text },
  )
  assert.deepEqual(
    findings.map(({ code, confidence }) => `${confidence} ${code}`),
    ['certain DOCTOR_GRACE'],
  )
})
