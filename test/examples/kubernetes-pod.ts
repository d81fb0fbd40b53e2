import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type KubernetesObject, parse } from '../deploy/kustomize.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { within } from '../helpers/within.ts'
import type { Env, Example } from './checks.ts'
import { examples } from './installed.ts'
import { cookieOf } from './requests.ts'

const folder = join(examples, 'kubernetes/manifests')
export const manifestFiles: readonly string[] = readdirSync(folder).map((file) => join(folder, file))
export const manifests: readonly KubernetesObject[] = manifestFiles.flatMap((file) => parse(readFileSync(file, 'utf8')))
export const find = (kind: string): KubernetesObject => {
  const found = manifests.find((object) => object.kind === kind)
  assert.ok(found, `no ${kind}`)
  return found
}

export const pod = find('Deployment').spec.template.spec
export const [container] = pod.containers
/** The variables that the Deployment sets itself, without those of the Secret. */
export const podEnv: Readonly<Record<string, string>> = Object.fromEntries(
  container.env
    .filter(({ value }: { value?: string }) => value !== undefined)
    .map(({ name, value }: { name: string; value: string }) => [name, value]),
)
const preStopMs = container.lifecycle.preStop.sleep.seconds * 1000
const graceMs = pod.terminationGracePeriodSeconds * 1000

/** Two instances run as two pods would, on ports of this machine. */
export const kubernetes: Example = {
  env: async () => ({
    ...podEnv,
    PORT: undefined,
    NODE_ENV: 'production',
    TRUST_PROXY: 'loopback',
    FLEET_ADMIN_PORT: await freePort(),
  }),

  check: async (a, b, { apps: [app], envs: [env] }) => {
    const probe = async (name: string): Promise<number> => {
      const { path } = container[name].httpGet
      return (await fetch(`http://127.0.0.1:${(env as Env).FLEET_ADMIN_PORT}${path}`)).status
    }
    for (const name of ['startupProbe', 'livenessProbe', 'readinessProbe']) assert.equal(await probe(name), 200, name)
    assert.equal((await fetch(`${a}/metrics`)).status, 404, 'the Service leads to no operators’ endpoint')
    // The load balancer in front has TLS.
    const headers = { 'x-forwarded-proto': 'https' }
    const cookie = cookieOf(await fetch(a, { headers }))
    assert.equal((await (await fetch(b, { headers: { ...headers, cookie } })).json()).visits, 2)

    // After preStop:
    const exit = app.kill('SIGTERM')
    await until(async () => (await probe('readinessProbe')) === 503)
    assert.equal(await probe('livenessProbe'), 200)
    assert.equal((await fetch(a)).status, 200, 'a draining pod serves requests')
    await within(graceMs - preStopMs, 'the exit before SIGKILL', () => app.ended, [app.pid])
    await exit
    assert.deepEqual(app.ended, { code: 0, signal: null })
  },
}
