import { readEnv } from '../base/env.ts'
import { FleetError } from '../base/errors.ts'
import type { CheckReport } from '../instance/health/index.ts'
import type { Peer } from '../instance/identity.ts'
import { type FlagOption, flag, option, type StringOption, usageError, type Values } from './args.ts'
import { member, Target, type TargetRequest, type TargetResponse } from './target.ts'

const root = '/api/v1/load-balancer'

/** The checks of one instance, by name. */
export interface CheckedInstance {
  /** The instance whose checks these are. */
  readonly checkedBy: string
  readonly checks: Readonly<Record<string, Partial<CheckReport>>>
}

/** A fleet in one view: its instances, its totals, and the checks of the instance that responds. */
export interface FleetStatus extends CheckedInstance {
  readonly fleet: string
  readonly serving: number
  /** Of all instances, per second. */
  readonly rps: number
  /** Of the slowest instance, ms. */
  readonly p95: number
  /** Where sessions and cached values are kept; `none` without them. */
  readonly stores: { readonly session: string; readonly cache: string; readonly stateless: boolean }
  readonly instances: readonly Peer[]
}

/** Client of the operator API; every instance serves the whole fleet. */
export class Operators {
  readonly #target: Target
  readonly #headers: Record<string, string>

  /** @param token FLEET_ADMIN_TOKEN; without it only a development instance without one accepts local requests */
  constructor(target: Target, token?: string) {
    this.#target = target
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  }

  /** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
  async instances(): Promise<readonly Peer[]> {
    return this.#listOf((await this.#ask(`${root}/instances`)).json)
  }

  #listOf(json: unknown): readonly Peer[] {
    const instances = Array.isArray(json) ? json : member(json, 'instances')
    if (!Array.isArray(instances)) throw unreachable(this.#target, 'not an instance of a fleet')
    return instances
  }

  /** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
  async status(): Promise<FleetStatus> {
    const { json: list } = await this.#ask(`${root}/instances`)
    const instances = this.#listOf(list)
    const figures = member((await this.#ask(`${root}/metrics`)).json, 'fleet')
    const { json: own } = await this.#ask(`${root}/health`)
    const stores = member(own, 'loadBalancer')
    return {
      fleet: String(member(list, 'fleet') ?? ''),
      serving: instances.filter(({ state }) => state === 'serving').length,
      rps: Number(member(figures, 'rps') ?? 0),
      p95: Number(member(figures, 'p95') ?? 0),
      stores: {
        session: String(member(stores, 'sessionStore') ?? 'none'),
        cache: String(member(stores, 'cacheStore') ?? 'none'),
        stateless: member(stores, 'stateless') === true,
      },
      ...(await this.#checksOf(own)),
      instances,
    }
  }

  /** The checks of the instance that responds. @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
  async checks(): Promise<CheckedInstance> {
    return this.#checksOf((await this.#ask(`${root}/health`)).json)
  }

  /** @param own the status of an instance, which may not be the one that responds next */
  async #checksOf(own: unknown): Promise<CheckedInstance> {
    // An unhealthy instance responds 503. The path may be disabled, which leaves the status of each check.
    const detailed = await this.#target.request('/health/detailed', { headers: this.#headers })
    const checks = member(detailed.json, 'checks') as CheckedInstance['checks'] | undefined
    const known = Object.entries((member(own, 'dependencies') ?? {}) as Record<string, CheckReport['status']>)
    return {
      checkedBy: String(member(checks ? detailed.json : own, 'instanceId') ?? ''),
      checks: checks ?? Object.fromEntries(known.map(([name, status]) => [name, { status }])),
    }
  }

  /**
   * The effective configuration of the instance that responds, without secrets, and its checks.
   *
   * @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR
   */
  async effective(): Promise<{ readonly configuration: object; readonly checks: CheckedInstance['checks'] }> {
    const configuration = member((await this.#ask(`${root}/config`)).json, 'effective')
    if (typeof configuration !== 'object' || configuration === null)
      throw unreachable(this.#target, 'its version of fastify-fleet does not report its effective configuration')
    return { configuration, checks: (await this.checks()).checks }
  }

  /** The figures of the instance that responds. @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR */
  async metrics(): Promise<unknown> {
    return member((await this.#ask(`${root}/metrics`)).json, 'instance')
  }

  /**
   * Removes an instance from rotation or returns it.
   *
   * @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_NOT_OPERATOR, FLEET_ERR_INSTANCE_UNKNOWN
   */
  async command(command: 'drain' | 'undrain', instanceId: string): Promise<void> {
    const known = await this.instances()
    if (!known.some(({ id }) => id === instanceId)) {
      const ids = known.map(({ id }) => id).join(', ')
      throw new FleetError('FLEET_ERR_INSTANCE_UNKNOWN', `${JSON.stringify(instanceId)}; instances: ${ids}`)
    }
    await this.#ask(`${root}/${command}?instance=${encodeURIComponent(instanceId)}`, {
      method: 'POST',
      // The content type protects against cross-site requests.
      body: {},
    })
  }

  async #ask(path: string, request: TargetRequest = {}): Promise<TargetResponse> {
    const response = await this.#target.request(path, { ...request, headers: this.#headers })
    if (response.error) throw unreachable(this.#target, response.error)
    if ([401, 403, 404].includes(response.status)) {
      throw new FleetError(
        'FLEET_ERR_NOT_OPERATOR',
        `${this.#target.url} responds ${response.status} to operators’ paths; use the address of an instance, with its ` +
          'FLEET_ADMIN_PORT if set, and pass its FLEET_ADMIN_TOKEN (environment or --token)',
      )
    }
    if (response.status >= 300) throw unreachable(this.#target, `${path} responded ${response.status}`)
    return response
  }
}

/** Codes of OpenSSL for a certificate whose authority Node does not know. */
const untrusted = /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(GET|VERIFY)_\w+)$/

/** The target does not respond, or is not an instance of a fleet. */
export function unreachable(target: Target, why: string): FleetError {
  const fix = untrusted.test(why) ? '; set NODE_EXTRA_CA_CERTS to the file of its authority, or pass --insecure' : ''
  return new FleetError('FLEET_ERR_UNREACHABLE', `${target.url}: ${why}${fix}`)
}

/** The options of verbs that use the operator API. */
export const operatorOptions: { readonly token: StringOption; readonly insecure: FlagOption } = {
  token: option('TOKEN for operators’ paths (default FLEET_ADMIN_TOKEN, which process lists do not show)'),
  insecure: flag('Accept self-signed certificates'),
}

/** @throws FLEET_ERR_USAGE for more than one URL or an invalid one */
export function operatorsFrom(urls: readonly string[], values: Values<typeof operatorOptions>): Operators {
  const env = readEnv()
  const [url = `http://127.0.0.1:${env.FLEET_ADMIN_PORT || (env.FLEET_BASE_PORT ?? 4001)}`, ...more] = urls
  if (more.length > 0) throw usageError(`expected one URL, got ${urls.length}`)
  return new Operators(new Target(url, { insecure: values.insecure }), values.token ?? env.FLEET_ADMIN_TOKEN)
}
