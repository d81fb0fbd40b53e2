// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of the files that are read
import assert from 'node:assert/strict'
import { basename, join, relative } from 'node:path'
import { describe, it } from 'node:test'
import type { Finding } from '../../../src/cli/doctor/evaluate.ts'
import { collect } from '../../../src/cli/doctor/files.ts'
import { examine } from '../../../src/cli/doctor/run.ts'
import { mistakes } from './mistakes.ts'
import { project, root, shipped } from './project.ts'

const options = { longestMs: 10_000, connect: false }

async function findingsOf(folder: string, files: readonly string[]): Promise<Finding[]> {
  const { findings } = await examine(collect(files.map((file) => join(folder, file))), options)
  return findings.map((finding) => ({ ...finding, file: relative(folder, finding.file) }))
}

const brief = ({ code, file, line }: Finding): string => `${code} ${file}:${line}`

describe('the shipped files', () => {
  it('have no problems', async () => {
    assert.deepEqual(await findingsOf(root, shipped), [])
  })

  it('have no problems together with the sources', async () => {
    assert.deepEqual(await findingsOf(root, [...shipped, 'src']), [])
  })

  it('include every kind of file', async () => {
    const { read } = await examine(collect(shipped.map((file) => join(root, file))), options)
    const kinds = Map.groupBy(read, ({ kind }) => kind)
    assert.deepEqual([...kinds.keys()].sort(), [
      'compose',
      'environment',
      'haproxy',
      'image',
      'kubernetes',
      'nginx',
      'pm2',
      'systemd',
      'terraform',
    ])
  })
})

describe('planted mistakes', () => {
  const copy = project(shipped)

  it('are at least thirty', () => {
    assert.ok(mistakes.length >= 30, `${mistakes.length}`)
  })

  for (const { what, code, file, from, to, at = file, on = to.split('\n', 1)[0] ?? '', also } of mistakes) {
    it(what, async () => {
      const undo = [copy.edit(file, from, to), also ? copy.edit(also.file, also.from, also.to) : () => {}]
      try {
        // This finding and no other. The compose file's pools inherit the mistakes of `app`.
        const compose = 'docker-compose.loadbalancer.yml'
        const [first, end] = [copy.line(compose, '  app-v2:'), copy.line(compose, '  # Runs once')]
        const inherits = (finding: Finding): boolean =>
          finding.code === code && finding.file === compose && finding.line >= first && finding.line < end
        const found = (await findingsOf(copy.folder, shipped)).filter((finding) => !inherits(finding))
        assert.deepEqual(found.map(brief), [`${code} ${at}:${copy.line(at, on)}`])
      } finally {
        for (const back of undo) back()
      }
    })
  }
})

describe('files of a user', () => {
  const one = async (files: Record<string, string>, names = Object.keys(files)): Promise<string[]> => {
    const own = project()
    for (const [file, text] of Object.entries(files)) own.write(file, text)
    return (await findingsOf(own.folder, names)).map(brief)
  }
  const proxy =
    'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;\n'
  const nginx = (upstream: string): string =>
    `upstream app {\n${upstream}\nkeepalive 8;\n}\nserver {\nlocation / {\n${proxy}proxy_pass http://app;\n}\n}\n`
  const haproxy = (backend: string): string =>
    [
      'defaults\n  mode http\n  timeout http-keep-alive 30s\n  timeout check 1s\n  option redispatch\n  option forwardfor',
      'frontend front\n  bind :80\n  http-request set-header X-Forwarded-Proto http\n  default_backend app',
      `backend app\n${backend}`,
    ].join('\n')
  const checked = '  option httpchk\n  http-check send meth GET uri /ready\n'

  it('pass without a problem', async () => {
    assert.deepEqual(await one({ 'site.conf': nginx('server 10.0.0.1:3000 fail_timeout=8s;') }), [])
    assert.deepEqual(
      await one({ 'haproxy.cfg': haproxy(`${checked}  server a 10.0.0.1:3000 check inter 1s fall 2`) }),
      [],
    )
  })

  it('are read to the end when list entries are null or of another type', async () => {
    const deployment =
      'apiVersion: apps/v1\nkind: Deployment\nspec:\n  template:\n    spec:\n      containers: [null, { env: [null, 1, { name: 2 }] }]\n'
    const kustomization = 'apiVersion: v1\nkind: Kustomization\npatches: [null, 1, { path: 3 }, { path: [] }]\n'
    assert.deepEqual(await one({ 'a.yml': deployment, 'kustomization.yml': kustomization }), [])
    const broken = await one({ 'kustomization.yml': 'apiVersion: v1\nkind: Kustomization\npatches: [' })
    assert.deepEqual(broken, ['DOCTOR_SYNTAX kustomization.yml:3'])
  })

  it('reads nginx files that include each other once', async () => {
    const text = `${'include *.conf;\n'.repeat(20)}${nginx('server 10.0.0.1:3000 fail_timeout=8s;')}`
    const files = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [`${name}.conf`, text]))
    assert.deepEqual(await one(files), [])
  })

  for (const [file, unit] of [
    ['nginx.conf', 'a { '],
    ['compose.yml', '['],
  ] as const)
    it(`${file} with ${JSON.stringify(unit)} nested without end is reported as unreadable`, async () => {
      const own = project()
      own.write(file, `services: ${unit.repeat(20_000)}`)
      const [finding, ...more] = await findingsOf(own.folder, [file])
      assert.deepEqual(more, [])
      assert.match(finding?.message ?? '', /nested/)
    })

  const shown = '{"format_version":"1.2","values":'
  for (const [file, text, ...codes] of [
    // A variable that does not end opens a block.
    ['nginx.conf', '${'.repeat(100_000), 'DOCTOR_SYNTAX nginx.conf:1'],
    ['plan.json', `${shown}${'"address":"'.repeat(50_000)}`, 'DOCTOR_SYNTAX plan.json:1'],
    ['plan.json', `${shown}${'"address": '.repeat(50_000)}`, 'DOCTOR_SYNTAX plan.json:1'],
    ['plan.json', `${shown}"address":"${'\\'.repeat(200_000)}`, 'DOCTOR_SYNTAX plan.json:1'],
    [
      'plan.json',
      `${shown}{"root_module":${'{"child_modules":['.repeat(20_000)}${']}'.repeat(20_000)}}}`,
      'DOCTOR_SYNTAX plan.json:1',
    ],
    ['a.service', `ExecStart=node x${' '.repeat(300_000)}y`],
    [
      'compose.yml',
      `services: { a: { environment: { REDIS_URL: "${'${a-'.repeat(50_000)}" } } }`,
      'DOCTOR_GRACE compose.yml:1',
      'DOCTOR_VALUE compose.yml:1',
    ],
  ] as const)
    it(`${file} with ${JSON.stringify(text.slice(0, 12))} without an end is read in bounded time`, async () => {
      assert.deepEqual(await one({ [file]: text }), codes)
    })

  it('follows nginx includes among the given files only', async () => {
    const text = `include /**/*;\ninclude [z-a].conf;\n${nginx('server 10.0.0.1:3000 fail_timeout=8s;')}`
    assert.deepEqual(await one({ 'site.conf': text }), [])
  })

  it('reads a URL whose password cannot be decoded', async () => {
    assert.deepEqual(await one({ '.env': 'REDIS_URL=redis://:50%off@10.0.0.1:6379\n' }), [
      'DOCTOR_SECRET_WEAK .env:1',
      'DOCTOR_VALUE .env:1',
    ])
  })

  it('reports nginx with `backup` and a method that rejects it', async () => {
    const text = nginx('ip_hash;\nserver 10.0.0.1:3000;\nserver 10.0.0.2:3000 backup;')
    assert.deepEqual(await one({ 'site.conf': text }), ['DOCTOR_NGINX_BACKUP site.conf:4'])
  })

  it('ignores directives in comments and quotes of nginx', async () => {
    const text = `# proxy_next_upstream non_idempotent;\nlog_format x '{ ip_hash; }';\n${nginx('server 10.0.0.1:3000;')}`
    assert.deepEqual(await one({ 'site.conf': text }), [])
  })

  it('reports HAProxy without a check, with a port check only, and with retries of POSTs', async () => {
    assert.deepEqual(await one({ 'haproxy.cfg': haproxy('  server a 10.0.0.1:3000') }), [
      'DOCTOR_HAPROXY_NO_CHECK haproxy.cfg:12',
    ])
    assert.deepEqual(await one({ 'haproxy.cfg': haproxy('  server a 10.0.0.1:3000 check inter 1s fall 2') }), [
      'DOCTOR_HAPROXY_NO_HTTPCHK haproxy.cfg:12',
    ])
    const retries = `${checked}  retry-on all-retryable-errors\n  server a 10.0.0.1:3000 check inter 1s fall 2`
    assert.deepEqual(await one({ 'haproxy.cfg': haproxy(retries) }), ['DOCTOR_HAPROXY_REPEATS_POSTS haproxy.cfg:14'])
  })

  it('reports that HAProxy with its defaults notices a drain too late', async () => {
    const text = haproxy(`${checked}  server a 10.0.0.1:3000 check`)
    assert.deepEqual(await one({ 'haproxy.cfg': text }), ['DOCTOR_NOTICE haproxy.cfg:14'])
    assert.deepEqual(
      await one({ 'haproxy.cfg': text, '.env': 'FLEET_NAME=a\nTRUST_PROXY=10.0.0.5\nDRAIN_DELAY=9000' }),
      [],
    )
  })

  it('takes values of a compose file from the .env beside it', async () => {
    const compose = [
      'services:',
      '  app:',
      '    environment:',
      '      - REDIS_URL=redis://redis',
      '      - TRUST_PROXY=uniquelocal',
      '      - SHUTDOWN_TIMEOUT=${TIMEOUT:-20000}',
      '    stop_grace_period: 25s',
    ].join('\n')
    assert.deepEqual(await one({ 'compose.yml': compose }), [])
    assert.deepEqual(await one({ 'compose.yml': compose, '.env': 'TIMEOUT=30000' }, ['compose.yml']), [
      'DOCTOR_GRACE compose.yml:7',
    ])
  })

  it('reports Terraform’s plan or state by address, and does not judge what is known only after the apply', async () => {
    const group = (values: object, address = 'aws_lb_target_group.a'): object => ({
      address,
      mode: 'managed',
      type: 'aws_lb_target_group',
      values: { health_check: [{ path: '/ready', interval: 1, unhealthy_threshold: 2, timeout: 1 }], ...values },
    })
    const output = (part: string, ...resources: object[]): string =>
      JSON.stringify({ format_version: '1.2', [part]: { root_module: { child_modules: [{ resources }] } } })
    const short = { deregistration_delay: '10' }
    for (const part of ['planned_values', 'values'])
      assert.deepEqual(await one({ 'plan.json': output(part, group(short)) }), ['DOCTOR_DEREGISTER plan.json:1'])
    assert.deepEqual(await one({ 'plan.json': output('values', group({})) }), [])
    assert.deepEqual(await one({ 'plan.json': output('values', group({ deregistration_delay: null })) }), [])

    const text = output('values', group(short), group(short, 'aws_lb_target_group.b["x"]'))
    const { findings } = await examine([{ file: '-', text }], options)
    assert.deepEqual(
      findings.map(({ code, address }) => [code, address]),
      [
        ['DOCTOR_DEREGISTER', 'aws_lb_target_group.a'],
        ['DOCTOR_DEREGISTER', 'aws_lb_target_group.b["x"]'],
      ],
    )
  })

  it('has the defaults of AWS where a health check or a stop timeout is not set', async () => {
    const resources = [
      { address: 'a', mode: 'managed', type: 'aws_lb', values: { idle_timeout: null } },
      { address: 'b', mode: 'managed', type: 'aws_lb_target_group', values: { deregistration_delay: null } },
      { address: 'c', mode: 'managed', type: 'aws_lb', values: { load_balancer_type: 'network', idle_timeout: 350 } },
      { address: 'd', mode: 'data', type: 'aws_lb', values: { idle_timeout: 4_000 } },
      {
        address: 'e',
        mode: 'managed',
        type: 'aws_ecs_task_definition',
        values: {
          container_definitions: '[{"name":"app","environment":[{"name":"TRUST_PROXY","value":"uniquelocal"}]}]',
        },
      },
    ]
    const text = JSON.stringify({ format_version: '1.0', values: { root_module: { resources } } }, undefined, 1)
    assert.deepEqual(await one({ 'plan.json': text }), [
      'DOCTOR_NOTICE plan.json:15',
      'DOCTOR_READINESS_PATH plan.json:15',
      'DOCTOR_GRACE plan.json:40',
    ])
  })

  it('names Terraform’s sources, which it does not read', async () => {
    const own = project()
    own.write('main.tf', 'resource "aws_lb" "this" { idle_timeout = 4000 }\n')
    own.write('site.conf', nginx('server 10.0.0.1:3000 fail_timeout=8s;'))
    const { findings, read, unread } = await examine(collect([own.folder]), options)
    assert.deepEqual(findings, [])
    assert.deepEqual(
      read.map(({ kind }) => kind),
      ['nginx'],
    )
    assert.deepEqual(
      unread.map(({ file }) => basename(file)),
      ['main.tf'],
    )
  })

  it('reports a broken file once and reads the others', async () => {
    const found = await one({
      'compose.yml': 'services: [\n',
      'other/compose.yml': 'services:\n  app:\n    environment: { JWT_SECRET: short, TRUST_PROXY: loopback }\n',
    })
    assert.deepEqual(
      found.map((line) => line.replace(/:\d+$/, '')),
      ['DOCTOR_SYNTAX compose.yml', 'DOCTOR_GRACE other/compose.yml', 'DOCTOR_SECRET_WEAK other/compose.yml'],
    )
  })
})
