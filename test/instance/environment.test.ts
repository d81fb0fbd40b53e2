import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import Fastify, { type FastifyServerOptions } from 'fastify'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { appVersion } from '../../src/instance/app-version.ts'
import { identity } from '../../src/instance/identity.ts'
import { forkApp } from '../helpers/fork-app.ts'

function setEnv(t: TestContext, name: string, value: string): void {
  process.env[name] = value
  t.after(() => delete process.env[name])
}

describe('LOG_LEVEL', () => {
  async function linesOf(t: TestContext, level: string, logger: object): Promise<string[]> {
    setEnv(t, 'LOG_LEVEL', level)
    const lines: string[] = []
    const stream = { write: (line: string) => lines.push(JSON.parse(line).msg) }
    const app = Fastify({ logger: { ...logger, stream } as FastifyServerOptions['logger'] })
    t.after(() => app.close())
    await app.register(identity)
    app.get('/', async (request) => {
      for (const each of ['trace', 'info', 'warn', 'error'] as const) request.log[each](each)
      return ''
    })
    lines.length = 0
    await app.inject('/')
    return lines.filter((line) => ['trace', 'info', 'warn', 'error'].includes(line))
  }

  it('sets the level of the app’s logger, whatever level the app gave it', async (t) => {
    assert.deepEqual(await linesOf(t, 'trace', { level: 'warn' }), ['trace', 'info', 'warn', 'error'])
    assert.deepEqual(await linesOf(t, 'error', { level: 'trace' }), ['error'])
    assert.deepEqual(await linesOf(t, 'silent', {}), [])
  })

  it('has no effect on an app without a logger, and only warns with a logger that has no such level', async (t) => {
    setEnv(t, 'LOG_LEVEL', 'debug')
    const app = Fastify()
    t.after(() => app.close())
    await app.register(identity)
    const warnings: string[] = []
    const none = (): void => {}
    const own = { info: none, error: none, debug: none, fatal: none, trace: none, silent: none, level: 'info' }
    const loggerInstance = { ...own, warn: (line: string) => warnings.push(line), child: () => loggerInstance }
    const other = Fastify({ loggerInstance: loggerInstance as never })
    t.after(() => other.close())
    await other.register(identity)
    assert.equal(loggerInstance.level, 'info')
    assert.match(warnings.join(), /LOG_LEVEL=debug/)
  })
})

describe('the version of an instance', () => {
  const folder = temporaryFolder('versions')
  const put = (path: string, text: string): string => {
    const file = join(folder, path)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, text)
    return file
  }
  put('app/package.json', '{"name":"shop","version":"1.2.3"}')
  put('app/dist/package.json', '{"type":"commonjs"}')
  const main = put('app/dist/src/main.js', '')

  it('is that of the package.json above the main program', () => {
    assert.equal(appVersion(main, '/'), '1.2.3')
    assert.equal(appVersion(join(folder, 'app'), '/'), '1.2.3')
  })

  it('is found through a link to the program, and to its folder', () => {
    const link = join(put('bin/x', ''), '../shop')
    symlinkSync(main, link)
    assert.equal(appVersion(link, '/'), '1.2.3')
    put('releases/2/package.json', '{"name":"shop","version":"2.0.0"}')
    put('releases/2/main.js', '')
    symlinkSync(join(folder, 'releases/2'), join(folder, 'current'))
    assert.equal(appVersion(join(folder, 'current/main.js'), '/'), '2.0.0')
  })

  it('is that above the working directory for a program in node_modules, such as fastify-cli', () => {
    put('app/node_modules/fastify-cli/package.json', '{"name":"fastify-cli","version":"9.9.9"}')
    const cli = put('app/node_modules/fastify-cli/cli.js', '')
    const link = join(put('app/node_modules/.bin/x', ''), '../fastify')
    symlinkSync(cli, link)
    assert.equal(appVersion(cli, join(folder, 'app/dist')), '1.2.3')
    assert.equal(appVersion(link, join(folder, 'app')), '1.2.3')
    put('nvm/package.json', '{"name":"nvm","version":"0.40.0"}')
    const global = join(put('nvm/bin/x', ''), '../fastify')
    symlinkSync(cli, global)
    assert.equal(appVersion(global, join(folder, 'app')), '1.2.3')
    assert.equal(appVersion('', join(folder, 'app')), '1.2.3')
  })

  it('is unknown without a usable one, and has only characters that are safe in a header', () => {
    for (const [name, text] of Object.entries({
      a: '{"name":"a"}',
      b: '{"name":"b","version":""}',
      c: '{"name":"c","version":1}',
    })) {
      put(`${name}/package.json`, text)
      assert.equal(appVersion(put(`${name}/main.js`, ''), '/'), undefined)
    }
    put('d/package.json', '{"version":"1.0.0+build 5"}')
    assert.equal(appVersion(put('d/main.js', ''), '/'), '1.0.0-build-5')
    put('app/broken/package.json', '{')
    assert.equal(appVersion(put('app/broken/main.js', ''), '/'), '1.2.3')
  })

  it('is the default of FLEET_VERSION in a program of its own', async () => {
    const module = JSON.stringify(new URL('../../src/index.ts', import.meta.url).href)
    const fastify = JSON.stringify(import.meta.resolve('fastify'))
    const file = put(
      'app/own.mjs',
      `import Fastify from ${fastify}
import { identity } from ${module}
const app = Fastify()
await app.register(identity)
console.log(app.fleet.instance.version)`,
    )
    for (const [version, expected] of [
      [undefined, '1.2.3'],
      ['', '1.2.3'],
      ['7', '7'],
    ] as const) {
      const app = forkApp(file, { env: { FLEET_VERSION: version }, cwd: '/' })
      await app.exit
      assert.equal(app.stdout.trim(), expected, app.stderr)
    }
  })
})
