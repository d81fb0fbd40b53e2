import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { parse } from 'yaml'
import eject from '../../src/cli/commands/eject.ts'
import { collect } from '../../src/cli/doctor/files.ts'
import { examine } from '../../src/cli/doctor/run.ts'
import { assets } from '../../src/cli/eject/eject.ts'
import { kits } from '../../src/cli/eject/kits.ts'
import { type Project, readProject } from '../../src/cli/eject/project.ts'
import { haproxyProgram } from '../../src/cli/up/haproxy.ts'
import { provide } from '../../src/cli/up/install.ts'
import { run as kustomize, missing, parse as parseObjects } from '../deploy/kustomize.ts'
import { nginx } from '../nginx/front.ts'
import { runCommand } from './commands.ts'

function userProject(files: Record<string, string> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-eject-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const all = { 'package.json': '{"name":"@acme/Shop_api"}', 'server.ts': '// the app\n', ...files }
  for (const [file, text] of Object.entries(all)) {
    mkdirSync(join(folder, file, '..'), { recursive: true })
    writeFileSync(join(folder, file), text)
  }
  return folder
}

const withPrisma = { 'prisma/migrations/1_init/migration.sql': 'SELECT 1;\n' }
const ejectInto = (folder: string, what: string, ...more: string[]) => runCommand(eject, what, folder, ...more)

describe('fleet eject', () => {
  it('reads the name, main file and migrations of a project', () => {
    const seen = readProject(userProject(), {})
    assert.deepEqual(
      [seen.name, seen.app, seen.host, seen.migrates],
      ['shop-api', 'server.ts', 'shop-api.example.com', false],
    )
    assert.equal(readProject(userProject(withPrisma), {}).migrates, true)
    assert.throws(() => readProject(userProject(), { name: 'No Name' }), { code: 'FLEET_ERR_USAGE' })
    const longest = 'a'.repeat(20)
    assert.equal(readProject(userProject(), { name: longest }).name, longest)
    for (const given of [{ name: `${longest}a` }, { app: 'a"; rm -rf' }, { host: 'a.example"; rm -rf' }])
      assert.throws(() => readProject(userProject(), given), { code: 'FLEET_ERR_USAGE' }, JSON.stringify(given))
    const main = { 'package.json': '{"name":"shop","main":"dist/shop.js"}' }
    assert.equal(readProject(userProject(main), {}).app, 'server.ts', 'a source file with a usual name comes first')
  })

  it('neither writes through links nor reads devices and pipes', async () => {
    const [folder, outside] = [userProject(), userProject()]
    symlinkSync(outside, join(folder, 'nginx'))
    const linked = await ejectInto(folder, 'nginx', '--force')
    assert.equal(linked.code, 2)
    assert.match(linked.stderr, /nginx is a link/)
    assert.ok(!existsSync(join(outside, 'nginx.conf')))

    const other = userProject()
    const target = join(outside, 'written')
    symlinkSync(target, join(other, 'ecosystem.config.cjs'))
    assert.equal((await ejectInto(other, 'pm2')).code, 1)
    assert.equal((await ejectInto(other, 'pm2', '--force')).code, 0)
    assert.ok(!existsSync(target) && lstatSync(join(other, 'ecosystem.config.cjs')).isFile())

    rmSync(join(other, 'package.json'))
    symlinkSync('/dev/zero', join(other, 'package.json'))
    assert.throws(() => readProject(other, {}), { code: 'FLEET_ERR_USAGE' })
  })

  it('writes nothing at all if one of its folders is a link, or below one', async () => {
    for (const [what, link] of [
      ['systemd', 'deploy'],
      // The folder of nginx would be written before.
      ['compose', 'haproxy'],
    ] as const) {
      const [folder, outside] = [userProject(), userProject()]
      symlinkSync(outside, join(folder, link))
      const before = [readdirSync(folder), readdirSync(outside)]
      const { code, stderr } = await ejectInto(folder, what)
      assert.equal(code, 2, what)
      assert.ok(stderr.includes(`${join(folder, link)} is a link; nothing is written through it`), stderr)
      assert.deepEqual([readdirSync(folder), readdirSync(outside)], before, what)
    }
  })

  for (const [what, kit] of Object.entries(kits)) {
    it(`writes ${what} with the values of the project, and nothing the second time`, async () => {
      const folder = userProject()
      const first = await ejectInto(folder, what)
      assert.equal(first.code, 0, first.stderr)
      assert.match(first.stdout, /wrote /)
      assert.match(first.stdout, /\nNext:\n {2}\S/)
      const again = await ejectInto(folder, what, '--json')
      assert.deepEqual(JSON.parse(again.stdout).ejected, [])
      // A replacement that meets nothing any more would leave our names in a user's files.
      const project: Project = { ...readProject(folder, {}), name: 'another' }
      for (const [file, from] of kit.fills) {
        const plain = assets({ ...kit, fills: [] }, project).filter((asset) => file.test(asset.file))
        assert.ok(
          plain.some(({ text }) => new RegExp(from.source, from.flags.replace('g', '')).test(text)),
          `${from}`,
        )
      }
    })
  }

  it('writes nothing when a file differs, except with --keep or --force', async () => {
    const folder = userProject({ Dockerfile: 'FROM mine\n' })
    const refused = await ejectInto(folder, 'compose')
    assert.equal(refused.code, 1)
    assert.match(refused.stdout, /differs Dockerfile/)
    assert.ok(!existsSync(join(folder, 'docker-compose.loadbalancer.yml')))

    assert.equal((await ejectInto(folder, 'compose', '--keep')).code, 0)
    assert.equal(readFileSync(join(folder, 'Dockerfile'), 'utf8'), 'FROM mine\n')
    assert.ok(existsSync(join(folder, 'docker-compose.loadbalancer.yml')))

    assert.equal((await ejectInto(folder, 'compose', '--force')).code, 0)
    assert.match(readFileSync(join(folder, 'Dockerfile'), 'utf8'), /CMD \["node", "server\.ts"\]/)
  })

  it('lists what it wrote, kept and found as JSON', async () => {
    const folder = userProject({ Dockerfile: 'FROM mine\n' })
    const json = async (...more: string[]) => JSON.parse((await ejectInto(folder, 'compose', '--json', ...more)).stdout)
    const refused = await json()
    assert.deepEqual(refused, { ejected: [], conflicts: ['Dockerfile'], same: [], dryRun: false })
    const dry = await json('--dry-run', '--keep')
    assert.deepEqual([dry.kept, dry.dryRun, dry.ejected.includes('Dockerfile')], [['Dockerfile'], true, false])
    assert.ok(!existsSync(join(folder, '.dockerignore')))
    const kept = await json('--keep')
    assert.deepEqual([kept.kept, kept.ejected, kept.dryRun], [['Dockerfile'], dry.ejected, false])
    const again = await json('--keep')
    assert.deepEqual([again.kept, again.ejected, again.same], [['Dockerfile'], [], kept.ejected])
    const forced = await json('--force')
    assert.deepEqual([forced.kept, forced.ejected], [[], ['Dockerfile']])
    assert.ok(forced.next.length > 0)
  })

  it('writes nothing with --dry-run', async () => {
    const folder = userProject()
    assert.match((await ejectInto(folder, 'pm2', '--dry-run')).stdout, /would write ecosystem\.config\.cjs/)
    assert.ok(!existsSync(join(folder, 'ecosystem.config.cjs')))
  })

  it('exits with 2 without a kit', async () => {
    for (const args of [[], ['apache'], ['nginx', 'a', 'b']]) assert.equal((await runCommand(eject, ...args)).code, 2)
  })
})

describe('the ejected files', () => {
  it('pass fleet doctor together', async () => {
    const folder = userProject()
    for (const what of Object.keys(kits)) assert.equal((await ejectInto(folder, what)).code, 0, what)
    const { findings, read } = await examine(collect([folder]), { longestMs: 10_000, connect: false })
    assert.deepEqual(findings, [])
    assert.ok(read.length > 60, `${read.length}`)
  })

  it('have a database in the compose file only for a project with migrations', async () => {
    const services = async (
      files?: Record<string, string>,
    ): Promise<Record<string, { depends_on?: object; environment?: object }>> => {
      const folder = userProject(files)
      await ejectInto(folder, 'compose')
      const text = readFileSync(join(folder, 'docker-compose.loadbalancer.yml'), 'utf8')
      assert.equal(text.includes('POSTGRES'), files !== undefined)
      assert.equal(existsSync(join(folder, 'deploy/compose/postgres-primary.sh')), files !== undefined)
      assert.ok((statSync(join(folder, 'deploy/compose/secrets.sh')).mode & 0o111) !== 0)
      const project = parse(text, { merge: true })
      assert.equal(project.name, 'shop-api')
      assert.match(project.services.app.image, /^shop-api:/)
      const stack = readFileSync(join(folder, 'deploy/swarm/stack.yml'), 'utf8')
      assert.equal(/postgres|DATABASE/i.test(stack), files !== undefined)
      const { services } = parse(stack, { merge: true })
      assert.match(services.app.image, /^\$\{FLEET_IMAGE:-shop-api\}:/)
      for (const service of Object.keys(services)) assert.ok(service in project.services, service)
      return project.services
    }
    const small = await services()
    assert.deepEqual(Object.keys(small).sort(), [
      'app',
      'app-heavy',
      'app-v2',
      'balancer',
      'grafana',
      'haproxy',
      'nginx',
      'prometheus',
      'redis',
      'secrets',
    ])
    assert.deepEqual(Object.keys(small.app?.depends_on ?? {}), ['secrets', 'redis'])
    const large = await services(withPrisma)
    assert.ok(large.migrate && large.postgres && large['postgres-replica'])
    assert.deepEqual(Object.keys(large.app?.depends_on ?? {}).sort(), [
      'migrate',
      'postgres',
      'postgres-replica',
      'redis',
      'secrets',
    ])
  })

  it('are accepted by nginx and HAProxy', async () => {
    const folder = userProject()
    await ejectInto(folder, 'nginx')
    await ejectInto(folder, 'haproxy')
    const program = await nginx()
    const target = join(folder, 'rendered')
    const env = { ...process.env, NGINX: program, FLEET_TARGETS: '127.0.0.1:4001 127.0.0.1:4002' }
    execFileSync(join(folder, 'scripts/nginx-render'), [target], { env })
    execFileSync(program, ['-p', target, '-c', join(target, 'nginx.conf'), '-e', 'stderr', '-t'], { stdio: 'pipe' })
    const rendered = join(folder, 'rendered-haproxy')
    const lists = { LB_SERVERS: '127.0.0.1:4001:5001 127.0.0.1:4002', LB_STATS_PASSWORD: 'for a test' }
    execFileSync(join(folder, 'scripts/haproxy-render'), [rendered], { env: { ...process.env, ...lists } })
    for (const [config, more] of [
      [join(folder, 'haproxy/haproxy.cfg'), { LB_SERVERS: 'off' }],
      [join(rendered, 'haproxy.cfg'), {}],
    ] as const)
      execFileSync(await provide(haproxyProgram), ['-c', '-f', config], {
        env: { ...process.env, ...lists, ...more },
        stdio: 'pipe',
      })
  })

  it('are Kubernetes objects with the name of the project', { skip: missing }, async () => {
    const folder = userProject()
    await ejectInto(folder, 'kubernetes', '--name', 'shop', '--host', 'shop.test')
    const objects = parseObjects(kustomize(join(folder, 'deploy/kubernetes/overlays/prod')))
    for (const { kind, metadata } of objects) {
      assert.equal(metadata.name, 'shop', kind)
      assert.equal(metadata.namespace, 'shop', kind)
    }
    const deployment = objects.find(({ kind }) => kind === 'Deployment')
    assert.ok(deployment)
    const { containers, serviceAccountName } = deployment.spec.template.spec
    assert.equal(containers[0].image, 'registry.example.com/shop:0.1.0')
    assert.deepEqual(containers[0].envFrom, [{ configMapRef: { name: 'shop' } }, { secretRef: { name: 'shop' } }])
    assert.equal(serviceAccountName, 'shop')
    assert.equal(objects.find(({ kind }) => kind === 'Ingress')?.spec.rules[0].host, 'shop.test')
    const canary = parseObjects(kustomize(join(folder, 'deploy/kubernetes/canary')))
    const route = canary.find(({ kind }) => kind === 'HTTPRoute')
    assert.deepEqual(
      route?.spec.rules[0].backendRefs.map(({ name }: { name: string }) => name),
      ['shop', 'shop-canary'],
    )
    const overlay = join(folder, 'deploy/kubernetes/overlays/prod/kustomization.yml')
    const pools = '  - ../../components/pools\n  - ../../components/pools/gateway\n'
    const text = readFileSync(overlay, 'utf8')
    writeFileSync(overlay, text.replace('  # - ../../components/pools\n', pools))
    const all = parseObjects(kustomize(join(folder, 'deploy/kubernetes/overlays/prod')))
    const named = (wanted: string): string[] =>
      all.filter(({ kind }) => kind === wanted).map(({ metadata }) => metadata.name)
    assert.deepEqual(
      [named('Deployment'), named('Ingress'), named('HTTPRoute')],
      [['shop', 'shop-v2'], ['shop'], ['shop-v2']],
    )
    const routed = all.find(({ kind }) => kind === 'HTTPRoute')?.spec
    assert.deepEqual([routed.hostnames, routed.rules[0].backendRefs[0].name], [['shop.test'], 'shop-v2'])
    const requests = all
      .filter(({ kind }) => kind === 'Deployment')
      .map(({ spec }) => spec.template.spec.containers[0].resources.requests.memory)
    assert.deepEqual(requests, ['384Mi', '192Mi'], 'larger.yml is for the default pool')
  })

  it('start the project’s app with pm2 and systemd', async () => {
    const folder = userProject()
    await ejectInto(folder, 'pm2')
    await ejectInto(folder, 'systemd')
    assert.match(
      readFileSync(join(folder, 'ecosystem.config.cjs'), 'utf8'),
      /name: 'shop-api',\n +script: '\.\/server\.ts'/,
    )
    const unit = readFileSync(join(folder, 'deploy/systemd/shop-api.service'), 'utf8')
    assert.match(unit, /fleet start server\.ts .*--control %t\/shop-api\/control\.sock/)
    assert.match(unit, /RuntimeDirectory=shop-api\n/)
  })
})
