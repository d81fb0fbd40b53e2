import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import type { Peer } from '../instance/identity.ts'
import type { CommandOptions, Values } from './args.ts'
import { member, Target, type TargetRequest, type TargetResponse } from './target.ts'

const root = '/api/v1/load-balancer'

/** What operators ask of a fleet; any instance answers for all. */
export class Operators {
  readonly #target: Target
  readonly #headers: Record<string, string>

  /** @param token FLEET_ADMIN_TOKEN; without it only a development instance that has none responses, on its own machine */
  constructor(target: Target, token?: string) {
    this.#target = target
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  }

  /** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
  async instances(): Promise<readonly Peer[]> {
    const { json } = await this.#ask(`${root}/instances`)
    const instances = Array.isArray(json) ? json : member(json, 'instances')
    if (!Array.isArray(instances)) throw unreachable(this.#target, 'what answers there is no fleet')
    return instances
  }

  /**
   * Takes an instance out of the rotation, or back into it.
   *
   * @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR, FLEET_ERR_INSTANCE_UNKNOWN
   */
  async command(command: 'drain' | 'undrain', instanceId: string): Promise<void> {
    const known = await this.instances()
    if (!known.some(({ id }) => id === instanceId)) {
      const ids = known.map(({ id }) => id).join(', ')
      throw new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', `no instance ${JSON.stringify(instanceId)}; there are ${ids}`)
    }
    await this.#ask(`${root}/${command}?instance=${encodeURIComponent(instanceId)}`, {
      method: 'POST',
      // The content type is what shows that no page of another site sent it.
      body: {},
    })
  }

  async #ask(path: string, request: TargetRequest = {}): Promise<TargetResponse> {
    const response = await this.#target.request(path, { ...request, headers: this.#headers })
    if (response.error) throw unreachable(this.#target, response.error)
    if ([401, 403, 404].includes(response.status)) {
      throw new FleetError(
        'FLEET_ERR_NOT_OPERATOR',
        `${this.#target.url} answers ${response.status} to operators’ paths; ask an instance directly, on its ` +
          'FLEET_ADMIN_PORT if it has one, and set FLEET_ADMIN_TOKEN to its token (or give --token)',
      )
    }
    if (response.status >= 300) throw unreachable(this.#target, `${path} answers ${response.status}`)
    return response
  }
}

/** Nobody there, or somebody who says no fleet’s words. */
export const unreachable = (target: Target, why: string): FleetError =>
  new FleetError('FLEET_ERR_UNREACHABLE', `${target.url}: ${why}`)

/** The options of every verb that speaks to operators’ paths. */
export const operatorOptions = {
  token: {
    type: 'string',
    describe: 'TOKEN for operators’ paths (default FLEET_ADMIN_TOKEN, which no process list shows)',
  },
  insecure: { type: 'boolean', describe: 'Accept certificates that nobody signed' },
} as const satisfies CommandOptions

/** @throws FLEET_ERR_USAGE for more than one URL, or one that is none */
export function operatorsFrom(urls: readonly string[], values: Values<typeof operatorOptions>): Operators {
  const env = readEnv()
  const [url = `http://127.0.0.1:${env.FLEET_ADMIN_PORT || (env.FLEET_BASE_PORT ?? 4001)}`, ...more] = urls
  if (more.length > 0) throw new FleetError('FLEET_ERR_USAGE', `one URL is enough, but there are ${urls.length}`)
  return new Operators(new Target(url, { insecure: values.insecure }), values.token ?? env.FLEET_ADMIN_TOKEN)
}
