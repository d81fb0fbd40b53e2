import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { duration, formatDuration } from '../../../src/cli/doctor/durations.ts'
import { isInstance, lineAt, probedPath, type Variable } from '../../../src/cli/doctor/facts.ts'
import { kindOf } from '../../../src/cli/doctor/files.ts'
import { weakness } from '../../../src/cli/doctor/secrets.ts'

describe('a duration', () => {
  it('has the units of configuration files, and a bare number that of its file', () => {
    const values = { '500us': 0.5, '500ms': 500, '2s': 2_000, '2sec': 2_000, '1second': 1_000, '2seconds': 2_000 }
    const more = {
      '1m': 60_000,
      '2min': 120_000,
      '1minute': 60_000,
      '2minutes': 120_000,
      '1h': 3_600_000,
      '1hr': 3_600_000,
    }
    const long = {
      '1hour': 3_600_000,
      '2hours': 7_200_000,
      '1d': 86_400_000,
      '1m30s': 90_000,
      ' 2min 20s ': 140_000,
      '1.5s': 1_500,
    }
    for (const [text, ms] of Object.entries({ ...values, ...more, ...long })) assert.equal(duration(text), ms, text)
    assert.deepEqual([duration('60'), duration('60', 'ms'), duration('0.5')], [60_000, 60, 500])
    for (const text of [
      '',
      'infinity',
      '$timeout',
      '1x',
      '1s!',
      '-1s',
      's',
      '1 2',
      `${' '.repeat(9)}${'1s'.repeat(33)}`,
    ])
      assert.equal(duration(text), undefined, text)
    assert.equal(duration('1s'.repeat(32)), 32_000)
  })

  it('is shown in the largest unit that is exact, minutes from two on', () => {
    const shown = [0, 250, 999, 1_000, 1_500, 60_000, 119_999, 120_000, 121_000, 180_000].map(formatDuration)
    assert.deepEqual(shown, [
      '0 ms',
      '250 ms',
      '999 ms',
      '1 s',
      '1.5 s',
      '60 s',
      '119.999 s',
      '2 min',
      '121 s',
      '3 min',
    ])
  })
})

describe('a secret', () => {
  const strong = 'k3yThatNobodyKnows-0123456789-xyz'
  it('that signs needs 32 bytes and no common word, each of a list', () => {
    for (const name of ['FLEET_SECRET', 'SESSION_SECRET', 'JWT_SECRET', 'FLEET_ADMIN_TOKEN']) {
      assert.equal(weakness(name, strong), undefined, name)
      assert.equal(weakness(name, strong.slice(0, 32)), undefined)
      assert.equal(weakness(name, strong.slice(0, 31)), '31 bytes, 32 are needed')
      assert.equal(weakness(name, `${strong}, ${strong.slice(0, 5)}`), '5 bytes, 32 are needed')
      assert.equal(weakness(name, 'ä'.repeat(16)), 'it contains a common password', 'one character repeated')
      for (const word of ['change-me', 'password', 'secret', 'example', 'keyboard cat', 'qwerty'])
        assert.equal(weakness(name, `${word}${strong}`), 'it contains a common password', word)
    }
    assert.equal(weakness('JWT_SECRET', 'kéyThatNöbodyKnöws-0123456789x'), undefined, '34 bytes, 30 characters')
    assert.equal(weakness('OTHER', 'x'), undefined)
  })

  it('that is a password needs 12 characters, also in a URL', () => {
    assert.equal(weakness('REDIS_PASSWORD', 'k3yNobodyXyz'), undefined)
    assert.equal(weakness('REDIS_PASSWORD', 'k3yNobodyXy'), '11 characters, use 12 or more')
    assert.equal(weakness('REDIS_PASSWORD', 'postgres'), 'a common password')
    assert.equal(weakness('REDIS_PASSWORD_FILE', 'x'), undefined)
    for (const name of ['REDIS_URL', 'DATABASE_URL', 'DATABASE_REPLICA_URLS', 'DATABASE_URL_REPLICA_2']) {
      assert.equal(weakness(name, 'redis://a:k3yNobodyXyz@h'), undefined, name)
      assert.equal(weakness(name, 'redis://h, redis://a:short%21@h'), '6 characters, use 12 or more', name)
    }
    assert.equal(weakness('REDIS_URL', 'redis://h'), undefined)
    assert.equal(weakness('CURL', 'redis://a:x@h'), undefined)
  })
})

describe('a fact', () => {
  it('is on a line counted from 1', () => {
    assert.deepEqual(
      [0, 1, 2, 3, 4].map((index) => lineAt('a\n\nb', index)),
      [1, 1, 2, 3, 3],
    )
  })

  it('is the path in the command of a health check', () => {
    for (const [command, path] of [
      ['curl -f http://127.0.0.1:3000/ready', '/ready'],
      ["fetch('http://x/health/detailed')", '/health/detailed'],
      ['wget -q http://x/healthz?a=1', '/healthz'],
      ['curl -f localhost:3000/live || exit 1', '/live'],
      ['curl https://[::1]:3000/ready', '/ready'],
      ["get({ port: 1, path: '/ready' })", '/ready'],
      ['curl http://x/live;', undefined],
      ['curl http://x/readiness', undefined],
      ['cat /etc/x/status', undefined],
    ] as const)
      assert.equal(probedPath(command), path, command)
  })

  it('is about an instance if its environment has a variable of one', () => {
    const env = (...names: string[]) =>
      new Map(names.map((name) => [name, { value: 'x', file: 'f', line: 1 } as Variable]))
    for (const name of [
      'REDIS_URL',
      'REDIS_HOST',
      'SESSION_SECRET',
      'JWT_SECRET',
      'FLEET_NAME',
      'SHUTDOWN_TIMEOUT',
      'DRAIN_DELAY',
      'TRUST_PROXY',
      'SESSION_SECRET_FILE',
    ])
      assert.ok(isInstance(env(name)), name)
    assert.ok(!isInstance(env('DATABASE_URL', 'PORT')))
  })
})

it('reads each file by its name and content', () => {
  const kinds = {
    compose: ['compose.yml', 'x/docker-compose.prod.yaml'],
    pm2: ['ecosystem.config.cjs', 'ecosystem.json', 'pm2.config.js', 'ecosystem.yml'],
    systemd: ['app.service', '/etc/systemd/system/app.service.d/10-limits.conf'],
    environment: ['.env', '.env.production', 'prod.env'],
    image: ['Dockerfile', 'Dockerfile.web', 'web.Dockerfile', 'Containerfile'],
    nothing: [
      '.env.example',
      '.env.test',
      'app.js',
      'server.ts',
      'Dockerfile.dockerignore',
      'plan.json',
      'README.md',
      'haproxy.cfg',
      'values.yml',
    ],
  }
  for (const [kind, files] of Object.entries(kinds))
    for (const file of files) assert.equal(kindOf({ file, text: '' }) ?? 'nothing', kind, file)
  assert.equal(kindOf({ file: '.env.test', text: '', named: true }), 'environment')
  const server = 'server {\n  listen 80;\n}\n'
  for (const file of ['site.conf', 'site.conf.template', 'sites-available/shop', '-'])
    assert.equal(kindOf({ file, text: server }), 'nginx', file)
  const bind = 'frontend web\n  bind :80\n'
  for (const file of ['lb.conf', 'haproxy.cfg', 'lb', '-']) assert.equal(kindOf({ file, text: bind }), 'haproxy', file)
  for (const [file, text] of [
    ['redis.conf', 'bind 127.0.0.1\nport 6379\n'],
    ['httpd.conf', 'Listen 80\n<VirtualHost *:80>\n  ServerName a\n</VirtualHost>\n'],
    ['supervisord.conf', '[program:app]\ncommand=node server.js\n'],
    ['named.conf', 'options {\n  listen-on { any; };\n};\nserver 10.0.0.1 {\n};\n'],
    ['my.conf', ''],
  ] as const)
    assert.equal(kindOf({ file, text }), undefined, file)
  assert.equal(kindOf({ file: 'haproxy.cfg', text: 'global\nbackend x\n' }), 'haproxy')
  assert.equal(kindOf({ file: 'setup.cfg', text: '[metadata]\n' }), undefined)
  const object = 'apiVersion: v1\nkind: Pod\n'
  for (const file of ['a.yml', '-']) assert.equal(kindOf({ file, text: object }), 'kubernetes')
  assert.equal(kindOf({ file: '-', text: 'services:\n' }), 'compose')
  assert.equal(kindOf({ file: 'plan.json', text: '{"format_version":"1","planned_values":{}}' }), 'terraform')
  const [most, more] = [262_144, 262_145].map((length) => object.padEnd(length, '#'))
  assert.deepEqual(
    [kindOf({ file: 'a.yml', text: most ?? '' }), kindOf({ file: 'a.yml', text: more ?? '' })],
    ['kubernetes', undefined],
  )
})
