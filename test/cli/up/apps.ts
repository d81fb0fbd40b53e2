import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { type App, forkApp } from '../../helpers/fork-app.ts'
import { freePort } from '../../helpers/free-port.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
export const main: string = join(root, 'src/cli/main.ts')

/** The start of an app that registers the plugin. */
export const withPlugin = `
import Fastify from 'fastify'
import fleet from ${JSON.stringify(join(root, 'src/index.ts'))}
const app = Fastify()
await app.register(fleet)
`
/** The same with no more than `fleet up` needs, for tests that start many instances. */
export const withHealth = `
import Fastify from 'fastify'
import health from ${JSON.stringify(join(root, 'src/instance/health/index.ts'))}
import lifecycle from ${JSON.stringify(join(root, 'src/instance/lifecycle/index.ts'))}
const app = Fastify()
await app.register(lifecycle)
await app.register(health)
`
export const listens = "await app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })\n"

/** A project outside this repository: files by their path. It can import what this repository has installed. */
export function project(files: Readonly<Record<string, string>>): string {
  const folder = temporaryFolder('project')
  chmodSync(folder, 0o755)
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  for (const [path, content] of Object.entries({ 'package.json': '{"type":"module"}', ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
  return folder
}

/** Starts `fleet up` in a project, on free ports and without servers of the environment. */
export async function fleetUp(
  cwd: string,
  args: readonly string[],
  env: Readonly<Record<string, string | number | undefined>> = {},
): Promise<App> {
  const ports = { FLEET_PORT: await freePort(), FLEET_BASE_PORT: await freePort(4) }
  const own = { REDIS_URL: undefined, DATABASE_URL: undefined, ...ports, ...env }
  return forkApp(main, { args: ['up', ...args], cwd, env: own })
}
