import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, symlinkSync } from 'node:fs'
import { relative } from 'node:path'
import { describe, it } from 'node:test'
import { collect, type Unreadable } from '../../../src/cli/doctor/files.ts'
import { examine } from '../../../src/cli/doctor/run.ts'
import { type Project, project } from './project.ts'

async function certain(own: Project, ...names: string[]): Promise<string[]> {
  const sources = collect(names.map((name) => own.path(name)))
  const { findings } = await examine(sources, { longestMs: 10_000, connect: false })
  return findings
    .filter(({ confidence }) => confidence === 'certain')
    .map(({ code, file, line }) => `${code} ${relative(own.folder, file)}:${line}`)
}

describe('folders of others', () => {
  it('have links for the sites that nginx includes', async () => {
    const own = project()
    const site = 'server { listen 80; location / { proxy_pass http://127.0.0.1:3000; } }\n'
    own.write('nginx.conf', 'events {}\nhttp { include /etc/nginx/sites-enabled/*; }\n')
    own.write('sites-available/shop.example', site)
    own.write('sites-available/old.example', site)
    mkdirSync(own.path('sites-enabled'))
    symlinkSync('../sites-available/shop.example', own.path('sites-enabled/shop.example'))
    symlinkSync('missing', own.path('sites-enabled/gone.example'))
    assert.deepEqual(await certain(own, '.'), ['DOCTOR_FRONT_ADDRESS sites-enabled/shop.example:1'])
    assert.deepEqual(
      collect([own.folder]).map(({ file }) => relative(own.folder, file)),
      ['nginx.conf', 'sites-available/old.example', 'sites-enabled/shop.example'],
    )
  })

  it('have links that lead out, which are named and not read', () => {
    const [own, outside] = [project(), project()]
    own.write('compose.yml', 'services: {}\n')
    outside.write('production.env', 'JWT_SECRET=short\n')
    symlinkSync(outside.path('production.env'), own.path('production.env'))
    const unread: Unreadable[] = []
    assert.equal(collect([own.folder], unread).length, 1)
    assert.deepEqual(
      unread.map(({ why }) => why),
      ['it is a link out of the folder'],
    )
  })

  it('have files and folders that this user may not read', {
    skip: process.getuid?.() === 0 && 'root may read everything',
  }, () => {
    const own = project()
    own.write('compose.yml', 'services: {}\n')
    own.write('a.env', 'JWT_SECRET=short\n')
    own.write('locked/b.env', 'JWT_SECRET=short\n')
    for (const name of ['a.env', 'locked']) chmodSync(own.path(name), 0)
    const unread: Unreadable[] = []
    assert.equal(collect([own.folder], unread).length, 1)
    chmodSync(own.path('locked'), 0o700)
    assert.deepEqual(
      unread.map(({ why }) => why),
      ['it is not readable', 'it is not readable'],
    )
  })
})

describe('files of others', () => {
  it('begin with the mark of their encoding', async () => {
    const own = project()
    own.write('.env.production', '\uFEFFJWT_SECRET=short\r\nTRUST_PROXY=loopback\r\n')
    own.write(
      'compose.yml',
      '\uFEFFservices:\r\n  db:\r\n    image: postgres:17\r\n    environment: [POSTGRES_PASSWORD=x]\r\n',
    )
    assert.deepEqual(await certain(own, '.env.production', 'compose.yml'), [
      'DOCTOR_SECRET_WEAK .env.production:1',
      'DOCTOR_SECRET_WEAK compose.yml:4',
    ])
  })

  it('have an image whose timeout is no number, so that its rule is not judged, at the start of the file', async () => {
    const own = project()
    own.write('Dockerfile', 'FROM node:24\nENV SHUTDOWN_TIMEOUT=30s\nCMD ["node", "app.js"]\n')
    const { read } = await examine(collect([own.path('Dockerfile')]), { longestMs: 10_000, connect: false })
    assert.deepEqual(
      read.flatMap(({ unjudged }) => unjudged.map(({ line, why }) => `${line}: ${why}`)),
      ['1: the value of shutdown is not known'],
    )
  })

  it('use an anchor hundreds of times', async () => {
    const own = project()
    const services = Array.from({ length: 300 }, (_, i) => `  s${i}: { <<: *base, image: "shop:${i}" }\n`)
    const last = '  db: { image: "postgres:17", environment: { POSTGRES_PASSWORD: x } }\n'
    own.write(
      'compose.yml',
      `x-base: &base { restart: always, logging: &log { driver: json-file } }\nservices:\n${services.join('')}${last}`,
    )
    assert.deepEqual(await certain(own, 'compose.yml'), ['DOCTOR_SECRET_WEAK compose.yml:303'])
  })

  it('have keys that are no scalars, about which Node prints nothing', async (t) => {
    const own = project()
    own.write('compose.yml', 'services:\n  {{ name }}: { image: shop }\n')
    const warned = t.mock.method(process, 'emitWarning')
    assert.deepEqual(await certain(own, 'compose.yml'), [])
    assert.equal(warned.mock.callCount(), 0)
  })
})
