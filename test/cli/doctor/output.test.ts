import assert from 'node:assert/strict'
import { readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { describe, it } from 'node:test'
import doctor from '../../../src/cli/commands/doctor.ts'
import { ruleOf } from '../../../src/cli/doctor/explain.ts'
import { rules } from '../../../src/cli/doctor/rules.ts'
import { sarifOf } from '../../../src/cli/doctor/sarif.ts'
import { timelines } from '../../../src/cli/doctor/timeline.ts'
import { timeoutRules } from '../../../src/cli/doctor/timeout-rules.ts'
import { runCommand } from '../commands.ts'
import { type Project, project } from './project.ts'

const location = (lines: string): string =>
  `events {}\nhttp {\n  upstream app {\n    server 10.0.0.1:3000;\n    server 10.0.0.2:3000;\n    keepalive 8;\n  }\n  server {\n    listen 443 ssl;\n    location / {\n${lines}      proxy_pass http://app;\n    }\n  }\n}\n`
const complete =
  '      proxy_http_version 1.1;\n      proxy_set_header Connection "";\n      proxy_set_header X-Forwarded-For $remote_addr;\n      proxy_set_header X-Forwarded-Proto $scheme;\n'

function withFile(name: string, text: string): Project {
  const own = project()
  own.write(name, text)
  return own
}

describe('the report', () => {
  it('tells what each file is, what was read and which rules were applied', async () => {
    const own = withFile('nginx.conf', location(complete))
    const { stdout, code } = await runCommand(doctor, own.path('nginx.conf'), '--verbose')
    assert.equal(code, 0)
    assert.match(
      stdout,
      /nginx\.conf: nginx, 13 facts, 7 rules applied\n {2}applied: DOCTOR_AVOID DOCTOR_FRONT_ADDRESS /,
    )
    assert.match(stdout, /\n1 file read, 13 facts, 7 rules applied, no problems\n/)
  })

  it('tells what could not be judged, and why', async () => {
    const own = withFile('nginx.conf', location('      include proxy_params;\n'))
    const { stdout } = await runCommand(doctor, own.path('nginx.conf'))
    assert.match(stdout, /not judged \(DOCTOR_FRONT_ADDRESS\): line 11, proxy_params is not among the files/)
  })

  it('never calls a file right in which nothing was found', async () => {
    const own = withFile('nginx.conf', 'worker_processes {{ count }};\nevents {}\nhttp { }\n')
    const loose = await runCommand(doctor, own.path('nginx.conf'))
    assert.equal(loose.code, 0)
    assert.match(loose.stdout, /warning: nothing was found in it\n {2}not judged: line 1, it is a template/)
    assert.match(loose.stdout, /0 rules applied, nothing was judged, 1 warning\n/)
    assert.equal((await runCommand(doctor, own.path('nginx.conf'), '--strict')).code, 1)
  })

  it('names every file that was not read', async () => {
    const own = withFile('nginx.conf', location(complete))
    own.write('notes.txt', 'x')
    own.write('redis.conf', 'port 6379\n')
    const { stdout } = await runCommand(doctor, ...['nginx.conf', 'notes.txt', 'redis.conf'].map(own.path))
    assert.match(stdout, /notes\.txt: not read: its kind is not known/)
    assert.match(stdout, /redis\.conf: not read: its kind is not known/)
    const json = await runCommand(doctor, own.folder, '--json')
    const { unread } = JSON.parse(json.stdout)
    assert.deepEqual(
      unread.map(({ file, why }: { file: string; why: string }) => [basename(file), why]),
      [['redis.conf', 'its kind is not known']],
    )
  })

  it('fails for an assumed finding with --strict only', async () => {
    const text = location(complete.replace('proxy_set_header Connection "";', ''))
    const own = withFile('nginx.conf', text)
    const { code, stdout } = await runCommand(doctor, own.path('nginx.conf'))
    assert.equal(code, 0)
    assert.match(stdout, /DOCTOR_NGINX_CONNECTION\n.*\n {2}warning: this assumes that nginx is older than 1\.29\.7/)
    assert.equal((await runCommand(doctor, own.path('nginx.conf'), '--strict')).code, 1)
  })

  it('shows the drain budget as a timeline', () => {
    const budget = { name: 'service app', notice: 3_000, preStop: 0, drain: 5_000, shutdown: 30_000, grace: 35_000 }
    assert.deepEqual(timelines([{ ...budget, assumed: ['drain'] }], 60), [
      'service app',
      `  ┼────┼──┼${'─'.repeat(38)}┼${'─'.repeat(7)}┼`.slice(0, 58),
      '  ╰0 ms SIGTERM',
      '       ╰3 s the front notices',
      '          ╰5 s the listener closes (assumed)',
      `  ${' '.repeat(34)} 30 s requests are cut`,
      `  ${' '.repeat(43)} 35 s SIGKILL`,
    ])
  })
})

describe('--sarif', () => {
  it('prints a log with the members that SARIF 2.1.0 requires', async () => {
    const own = withFile('nginx.conf', location(''))
    const { stdout, code } = await runCommand(doctor, own.path('nginx.conf'), '--sarif')
    assert.equal(code, 1)
    const log = JSON.parse(stdout)
    assert.equal(log.version, '2.1.0')
    assert.equal(log.$schema, 'https://json.schemastore.org/sarif-2.1.0.json')
    const [{ tool, results }] = log.runs
    assert.equal(tool.driver.name, 'fleet doctor')
    assert.match(tool.driver.version, /^\d+\.\d+\.\d+/)
    assert.ok(results.length > 1)
    for (const { ruleId, ruleIndex, level, message, locations } of results) {
      assert.equal(tool.driver.rules[ruleIndex].id, ruleId)
      assert.match(level, /^(?:error|warning)$/)
      assert.equal(typeof message.text, 'string')
      const [{ physicalLocation }] = locations
      assert.match(physicalLocation.artifactLocation.uri, /^file:\/\/\/.*nginx\.conf$/)
      assert.ok(physicalLocation.region.startLine >= 1)
    }
    for (const { id, shortDescription, helpUri } of tool.driver.rules) {
      assert.match(id, /^DOCTOR_/)
      assert.ok(shortDescription.text)
      if (helpUri) assert.equal(URL.canParse(helpUri), true)
    }
  })

  it('names files by URLs, whatever characters they have', () => {
    const uris = ['a b/c#d?.conf', '-', 'http://127.0.0.1:3000', '/etc/50%.conf'].map((file) => {
      const finding = { code: 'DOCTOR_SYNTAX', file, line: 1, message: '', fix: '', confidence: 'certain' } as const
      const { runs } = sarifOf([finding], '1.0.0') as { runs: { results: { locations: object[] }[] }[] }
      return JSON.stringify(runs[0]?.results[0]?.locations[0]).match(/"uri":"([^"]*)"/)?.[1]
    })
    assert.deepEqual(uris, ['a%20b/c%23d%3F.conf', 'stdin', 'http://127.0.0.1:3000', 'file:///etc/50%25.conf'])
  })

  it('is rejected together with --json or --fix', async () => {
    assert.equal((await runCommand(doctor, '--sarif', '--json')).code, 2)
    assert.equal((await runCommand(doctor, '--sarif', '--fix')).code, 2)
  })
})

describe('--explain', () => {
  it('shows the inequality, the reason, a picture, the fix and the sources', async () => {
    const { stdout, code } = await runCommand(doctor, '--explain', 'DOCTOR_GRACE')
    assert.equal(code, 0)
    assert.match(stdout, /preStop \+ shutdown \+ 2 s ≤ grace\n/)
    assert.match(stdout, /why: otherwise the process is killed/)
    assert.match(stdout, /├─+ grace ─+┤ SIGKILL/)
    assert.match(stdout, /fix: raise the grace period/)
    assert.match(stdout, /see: https:\/\/docs\.docker\.com/)
  })

  it('has every rule, with sources of valid URLs', async () => {
    for (const code of [...timeoutRules.map((rule) => rule.code), ...Object.keys(rules)])
      for (const url of ruleOf(code).sources) assert.equal(URL.canParse(url), true, `${code}: ${url}`)
    const { code, stderr } = await runCommand(doctor, '--explain', 'DOCTOR_NONE')
    assert.equal(code, 2)
    assert.match(stderr, /--explain DOCTOR_NONE: no such rule/)
  })
})

describe('--fix', () => {
  it('is what --yes belongs to', async () => {
    const { code, stderr } = await runCommand(doctor, '--yes', '--offline')
    assert.deepEqual([code, /--yes belongs to --fix/.test(stderr)], [2, true])
  })

  it('shows a diff and writes nothing without --yes', async () => {
    const own = withFile('nginx.conf', location(''))
    const { stderr } = await runCommand(doctor, own.path('nginx.conf'), '--fix')
    assert.match(
      stderr,
      /@@ line 11 @@\n- {6}proxy_pass http:\/\/app;\n\+ {6}proxy_set_header X-Forwarded-For \$remote_addr;\n/,
    )
    assert.match(stderr, /not written; `--yes` writes them/)
    assert.equal(readFileSync(own.path('nginx.conf'), 'utf8'), location(''))
  })

  it('writes the fixes with --yes and keeps the mode of the file', async () => {
    const own = withFile('nginx.conf', location(''))
    writeFileSync(
      own.path('haproxy.cfg'),
      'defaults\n  mode http\n  retries 2\nlisten web\n  bind :443 ssl crt a.pem\n  server a 10.0.0.1:80 check\n',
    )
    const { mode } = statSync(own.path('nginx.conf'))
    await runCommand(doctor, own.folder, '--fix', '--yes')
    const { findings } = JSON.parse((await runCommand(doctor, own.folder, '--json')).stdout)
    const certain = findings.filter(({ confidence }: { confidence: string }) => confidence === 'certain')
    assert.deepEqual(certain, [])
    assert.equal(statSync(own.path('nginx.conf')).mode, mode)
    assert.match(readFileSync(own.path('haproxy.cfg'), 'utf8'), /option httpchk GET \/ready\n {2}server a/)
  })

  it('changes no file that is a link or that only the output of nginx -T names', async () => {
    const outside = withFile('victim.conf', location(''))
    const own = project()
    own.write('dump', `# configuration file ${outside.path('victim.conf')}:\n${location('')}`)
    symlinkSync(outside.path('victim.conf'), own.path('link.conf'))
    for (const name of ['dump', 'link.conf']) {
      const { stdout, stderr } = await runCommand(doctor, own.path(name), '--fix', '--yes')
      assert.match(stdout, /DOCTOR_FRONT_ADDRESS/)
      assert.match(stderr, /no finding has a fix/)
    }
    assert.equal(readFileSync(outside.path('victim.conf'), 'utf8'), location(''))
  })
})
