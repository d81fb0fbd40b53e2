import { createRequire } from 'node:module'
import { join, resolve } from 'node:path'
import { usageError } from '../args.ts'

/** The installed version decides, else the range in package.json. @throws FLEET_ERR_USAGE */
export function assertFastify5(folder: string, range: string | undefined): void {
  const version = installed(folder) ?? /^[\s^~>=v]*(\d[\w.-]*)/.exec(range ?? '')?.[1]
  if (version !== undefined && version.split('.')[0] !== '5')
    throw usageError(
      `the app uses Fastify ${version}; fastify-fleet needs Fastify 5: https://fastify.dev/docs/latest/Guides/Migration-Guide-V5/`,
    )
}

function installed(folder: string): string | undefined {
  try {
    const { version } = createRequire(join(resolve(folder), 'package.json'))('fastify/package.json') as {
      version: string
    }
    return version
  } catch {
    return undefined
  }
}
