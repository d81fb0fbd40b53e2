import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, it } from 'node:test'
import doctor from '../../../src/cli/commands/doctor.ts'
import { haproxyProgram } from '../../../src/cli/up/haproxy.ts'
import { provide } from '../../../src/cli/up/install.ts'
import { runCommand } from '../commands.ts'
import { project } from './project.ts'

interface Outcome {
  readonly text: string
  readonly codes: readonly string[]
}

/** Fixes a file, and examines it again. */
async function fixed(name: string, text: string): Promise<Outcome> {
  const own = project()
  own.write(name, text)
  await runCommand(doctor, own.path(name), '--fix', '--yes', '--offline')
  const { findings } = JSON.parse((await runCommand(doctor, own.path(name), '--json', '--offline')).stdout)
  return {
    text: readFileSync(own.path(name), 'utf8'),
    codes: findings.map(({ code, confidence }: Record<string, string>) => `${confidence} ${code}`),
  }
}

const haproxy = await provide(haproxyProgram)

/** HAProxy itself accepts the file. */
function accepts(text: string): void {
  const own = project()
  own.write('haproxy.cfg', text)
  execFileSync(haproxy, ['-c', '-f', own.path('haproxy.cfg')], { stdio: 'pipe' })
}

const general = `defaults base
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
defaults web from base
  option http-server-close
`
const complete = `  option forwardfor
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
`

describe('--fix of HAProxy', () => {
  it('adds the headers to a section that names its defaults, below its first line', async () => {
    const { text, codes } = await fixed(
      'haproxy.cfg',
      `${general}frontend  web  from web # the public one
  bind :80
  default_backend app
backend app from web
  server a 127.0.0.1:3000
`,
    )
    assert.deepEqual(codes, ['assumed DOCTOR_HAPROXY_NO_CHECK'])
    assert.match(
      text,
      /\nbackend app from web\n {2}http-request set-header X-Forwarded-Proto .*\n {2}option forwardfor\n {2}server a /,
    )
    accepts(text)
  })

  it('adds redispatch to the defaults, and a check of HTTP before the first server', async () => {
    const { text, codes } = await fixed(
      'haproxy.cfg',
      `${general}listen web from web
  bind :80
${complete}  server a 127.0.0.1:3000 check inter 1s fall 2
  server b 127.0.0.1:3001 check inter 1s fall 2
`,
    )
    assert.deepEqual(codes, [])
    assert.match(text, /\ndefaults web from base\n {2}option redispatch 1\n/)
    assert.match(text, /\n {2}option httpchk GET \/ready\n {2}server a /)
    accepts(text)
  })

  it('keeps POSTs from being retried, and shortens the idle time', async () => {
    const { text, codes } = await fixed(
      'haproxy.cfg',
      `${general.replace('  option http-server-close\n', '  timeout http-keep-alive 90s\n')}listen web from web
  bind :80
  option redispatch
  retry-on all-retryable-errors
${complete}  option httpchk GET /ready
  server a 127.0.0.1:3000 check inter 1s fall 2
  server b 127.0.0.1:3001 check inter 1s fall 2
`,
    )
    assert.deepEqual(codes, [])
    assert.match(text, /\n {2}http-request disable-l7-retry unless METH_GET\n {2}retry-on all-retryable-errors\n/)
    assert.match(text, /\n {2}timeout http-keep-alive 66s\n/)
    accepts(text)
  })

  it('keeps the ends of lines and the mark of the encoding', async () => {
    const before =
      '\uFEFFlisten web\r\n  mode http\r\n  bind :80\r\n  option http-server-close\r\n  server a 127.0.0.1:80 check\r\n'
    const { text } = await fixed('haproxy.cfg', before)
    assert.ok(text.startsWith('\uFEFFlisten web\r\n  http-request set-header X-Forwarded-Proto '), text)
    assert.ok(text.includes('\r\n  option forwardfor\r\n'), text)
    assert.doesNotMatch(text, /[^\r]\n/)
  })
})
