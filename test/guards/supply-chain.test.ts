import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string): string => readFileSync(join(root, file), 'utf8')
const manifest = JSON.parse(read('package.json'))

const folder = mkdtempSync(join(tmpdir(), 'fleet-supply-chain-'))
after(() => rmSync(folder, { recursive: true, force: true }))

interface Component {
  readonly 'bom-ref': string
  readonly type: string
  readonly name: string
  readonly version: string
  readonly purl: string
  readonly hashes: readonly { alg: string; content: string }[]
  readonly licenses: readonly object[]
}

describe('the bill of materials', () => {
  let bom: {
    bomFormat: string
    specVersion: string
    serialNumber: string
    metadata: { timestamp: string; component: Component }
    components: Component[]
    dependencies: { ref: string; dependsOn: string[] }[]
  }

  before(() => {
    const file = join(folder, 'sbom.cdx.json')
    execFileSync(process.execPath, ['scripts/sbom.js', file], { cwd: root, stdio: 'pipe' })
    bom = JSON.parse(readFileSync(file, 'utf8'))
  })

  it('is CycloneDX and names this package and version', () => {
    assert.equal(bom.bomFormat, 'CycloneDX')
    assert.match(bom.specVersion, /^1\.[5-9]$/)
    assert.match(bom.serialNumber, /^urn:uuid:[\da-f-]{36}$/)
    assert.ok(Date.parse(bom.metadata.timestamp) > 0)
    const { name, version, purl } = bom.metadata.component
    assert.deepEqual(
      { name, version, purl },
      { name: manifest.name, version: manifest.version, purl: `pkg:npm/${manifest.name}@${manifest.version}` },
    )
  })

  it('gives each component a version, a package URL, a hash and a licence', () => {
    for (const { type, name, version, purl, hashes, licenses } of bom.components) {
      assert.equal(type, 'library')
      assert.equal(purl, `pkg:npm/${name.replace('@', '%40')}@${version}`)
      assert.ok(
        hashes.some(({ alg, content }) => alg === 'SHA-512' && /^[\da-f]{128}$/.test(content)),
        name,
      )
      assert.ok(licenses.length > 0, name)
    }
  })

  it('contains every production dependency and no development dependency', () => {
    const names = bom.components.map(({ name }) => name)
    for (const name of Object.keys(manifest.dependencies)) assert.ok(names.includes(name), name)
    for (const name of Object.keys(manifest.devDependencies)) assert.ok(!names.includes(name), name)
    const listed = [...read('THIRD_PARTY_LICENSES.md').matchAll(/^\| (\S+) \| (\S+) \| .* \| package \|$/gm)]
    assert.deepEqual(
      bom.components.map(({ name, version }) => `${name} ${version}`).sort(),
      listed.map(([, name, version]) => `${name} ${version}`).sort(),
    )
  })

  it('lists the dependencies of each component', () => {
    const refs = new Set([bom.metadata.component, ...bom.components].map((component) => component['bom-ref']))
    assert.deepEqual(new Set(bom.dependencies.map(({ ref }) => ref)), refs)
    for (const { dependsOn } of bom.dependencies) for (const ref of dependsOn) assert.ok(refs.has(ref), ref)
  })
})

describe('third-party licences', () => {
  it('are all allowed, and THIRD_PARTY_LICENSES.md is up to date', () => {
    const { status, stderr } = spawnSync(process.execPath, ['scripts/licences.js', '--check'], {
      cwd: root,
      encoding: 'utf8',
    })
    assert.equal(status, 0, stderr)
  })

  it('are rejected unless each part that applies is allowed', () => {
    const expressions = [
      'MIT',
      '(MIT OR GPL-3.0)',
      'MIT AND CC0-1.0',
      'AGPL-3.0',
      'MIT AND GPL-2.0',
      'none',
      'UNLICENSED',
    ]
    const program = `import { isAllowed } from './scripts/licences.js'
      console.log(JSON.stringify(${JSON.stringify(expressions)}.map(isAllowed)))`
    const printed = execFileSync(process.execPath, ['--input-type=module', '--eval', program], { cwd: root })
    assert.deepEqual(JSON.parse(printed.toString()), [true, true, true, false, false, false, false])
  })
})

describe('scripts/publish', () => {
  const git = (...args: string[]): void => {
    const identity = ['-c', 'user.name=test', '-c', 'user.email=test@example.com']
    execFileSync('git', [...identity, ...args], { cwd: folder, stdio: 'pipe' })
  }
  const publish = (...args: string[]): { status: number | null; stderr: string } =>
    spawnSync('scripts/publish', args, {
      cwd: folder,
      encoding: 'utf8',
      env: { ...process.env, GITHUB_ACTIONS: undefined },
    })

  before(() => {
    rmSync(join(folder, 'sbom.cdx.json'), { force: true })
    mkdirSync(join(folder, 'scripts'))
    cpSync(join(root, 'scripts/publish'), join(folder, 'scripts/publish'))
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'shop', version: '1.2.3' }))
    writeFileSync(join(folder, 'CHANGELOG.md'), '## [Unreleased]\n')
    git('init', '--quiet')
    git('add', '.')
    git('commit', '--quiet', '-m', 'release')
  })

  it('rejects a commit without the tag of its version', () => {
    git('tag', 'v1.2.4')
    const { status, stderr } = publish('--dry-run')
    assert.equal(status, 1)
    assert.match(stderr, /no tag v1\.2\.3/)
  })

  it('rejects a version that the changelog does not describe', () => {
    git('tag', 'v1.2.3')
    const { status, stderr } = publish('--dry-run')
    assert.equal(status, 1)
    assert.match(stderr, /CHANGELOG\.md has no section \[1\.2\.3\]/)
  })

  it('rejects a working tree with changes', () => {
    writeFileSync(join(folder, 'CHANGELOG.md'), '## [1.2.3]\n')
    const { status, stderr } = publish()
    assert.equal(status, 1)
    assert.match(stderr, /working tree has changes/)
  })

  it('publishes nothing outside the release workflow', () => {
    git('commit', '--quiet', '--all', '-m', 'release')
    git('tag', '--force', 'v1.2.3')
    const { status, stderr } = publish()
    assert.equal(status, 1)
    assert.match(stderr, /only the release workflow can sign/)
  })
})

describe('workflows', () => {
  interface Workflow {
    permissions: Record<string, string>
    jobs: Record<string, { permissions?: Record<string, string>; steps: { uses?: string; run?: string }[] }>
  }
  const files = readdirSync(join(root, '.github/workflows'))
  const workflow = (file: string): Workflow => parse(read(`.github/workflows/${file}`))

  it('may only read the repository, except to sign a release', () => {
    for (const file of files) {
      const { permissions, jobs } = workflow(file)
      assert.deepEqual(permissions, { contents: 'read' }, file)
      for (const job of Object.values(jobs)) {
        const expected = file === 'release.yml' ? { contents: 'read', 'id-token': 'write' } : undefined
        assert.deepEqual(job.permissions, expected, file)
      }
    }
  })

  it('name the version of each action, and run existing scripts', () => {
    for (const file of files) {
      for (const { uses, run } of Object.values(workflow(file).jobs).flatMap(({ steps }) => steps)) {
        if (uses) assert.match(uses, /@(?:v\d+|[\da-f]{40})$/, file)
        for (const [, script] of (run ?? '').matchAll(/npm run (\S+)/g))
          assert.ok(script && script in manifest.scripts, file)
      }
    }
  })

  it('run the commands of the README', () => {
    const commands = workflow('ci.yml').jobs.test?.steps.map(({ run }) => run ?? '') ?? []
    for (const command of ['npm ci', 'npm test', 'npm start']) {
      assert.ok(
        commands.some((run) => run.startsWith(command)),
        command,
      )
    }
    assert.match(read('README.md'), /npm ci && npm start[\s\S]*npm ci && npm test/)
  })
})

describe('scripts/pin-images', () => {
  it('finds every image of the compose file and the Dockerfile', () => {
    const listed = execFileSync(join(root, 'scripts/pin-images'), ['--list'], { encoding: 'utf8' }).trim().split('\n')
    const images = [...read('docker-compose.loadbalancer.yml').matchAll(/^ +image: ([^$\s]+)$/gm)].map(
      (match) => match[1],
    )
    const bases = [...read('Dockerfile').matchAll(/^FROM (\S+)/gm)].map((match) => match[1])
    assert.ok(images.length >= 6 && bases.length === 2)
    assert.deepEqual(listed, [...new Set([...images, ...bases])].sort())
  })
})
