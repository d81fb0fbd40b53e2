import type { FleetEnv } from '../../base/env.ts'
import { FleetError } from '../../base/errors.ts'
import { freePort, isPortFree } from './port.ts'

const defaultPort = 8080
const defaultBasePort = 4001

/**
 * The port of the front, and those of the instances, which are consecutive.
 *
 * @throws FLEET_ERR_PORT_TAKEN
 */
export async function choosePorts(env: FleetEnv, count: number): Promise<{ front: number; instances: number[] }> {
  const base = env.FLEET_BASE_PORT ?? defaultBasePort
  const front = env.FLEET_PORT === 0 ? await freePort() : (env.FLEET_PORT ?? defaultPort)
  const instances = Array.from({ length: count }, (_, index) => base + index)
  const wanted = [
    ...instances.map((port) => ({ port, user: 'an instance', fix: 'FLEET_BASE_PORT=5001' })),
    { port: front, user: 'the front', fix: 'FLEET_PORT=9090' },
  ]
  for (const { port, user, fix } of wanted) {
    if (port <= 65_535 && (await isPortFree(port)) && (user === 'the front' || port !== front)) continue
    const detail = `${port}, which ${user} needs; stop the program that uses it, or choose another port, e.g. ${fix} npm start`
    throw new FleetError('FLEET_ERR_PORT_TAKEN', detail)
  }
  return { front, instances }
}
