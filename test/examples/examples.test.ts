import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it } from 'node:test'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/until.ts'
import { checks, common, type Env, type Example } from './checks.ts'
import { dependenciesOf, examples, importsOf, install, names } from './installed.ts'

// Every folder of examples/ runs with the packed package, two instances of it. All use one Redis, under their own names.

interface Instance {
  readonly app: App
  readonly url: string
  readonly env: Env
}

async function start(folder: string, variables: Env): Promise<Instance> {
  const env = { ...variables, PORT: await freePort() }
  const app = forkApp(join(folder, 'app.js'), { env, cwd: folder })
  const url = `http://127.0.0.1:${env.PORT}`
  const probes = `http://127.0.0.1:${variables.FLEET_ADMIN_PORT ?? env.PORT}`
  const isReady = async (): Promise<boolean> => {
    assert.equal(app.ended, undefined, `${app.stdout}${app.stderr}`)
    return (await fetch(`${probes}/ready`)).ok
  }
  await until(isReady, { what: `${folder} to be ready` })
  return { app, url, env }
}

describe('examples', () => {
  it('have a check and a line in the list each', () => {
    assert.deepEqual(Object.keys(checks).sort(), [...names].sort())
    const list = readFileSync(join(examples, 'README.md'), 'utf8')
    const listed = Array.from(list.matchAll(/^\| \[([\w-]+)\]\(\1\/README\.md\) \|/gm), ([, name]) => name)
    assert.deepEqual(listed.sort(), [...names].sort())
  })

  for (const name of names) {
    it(`${name} has a README with its purpose and how to run it`, () => {
      const text = readFileSync(join(examples, name, 'README.md'), 'utf8')
      assert.match(text, /^# .+\n\n[\s\S]+## Run it\n/)
    })

    // One installation for all would hide that a dependency is missing in one.
    it(`${name} depends on the packages that it imports`, () => {
      const dependencies = Object.keys(dependenciesOf(name))
      assert.deepEqual(
        importsOf(name).filter((imported) => !dependencies.includes(imported)),
        [],
      )
    })
  }

  describe('do what their README says', { concurrency: 4 }, () => {
    let installed: string
    let redis: { url: string }

    before(async () => {
      const servers = Object.values<Example>(checks).map((example) => example.before?.())
      ;[installed, redis] = await Promise.all([install(), startRedis(), ...servers])
    })

    for (const [name, { env, check }] of Object.entries<Example>(checks)) {
      it(name, async () => {
        const folder = join(installed, name)
        const launch = async (): Promise<Instance> =>
          start(folder, { ...common, REDIS_URL: redis.url, ...(await env?.(folder)) })
        const [a, b] = await Promise.all([launch(), launch()])
        await check(a.url, b.url, { folder, apps: [a.app, b.app], envs: [a.env, b.env] })
        await Promise.all([a.app.stop(), b.app.stop()])
      })
    }
  })
})
