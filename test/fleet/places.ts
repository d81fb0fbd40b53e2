import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readStatus } from '../../src/cli/deploy/instance-status.ts'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'

const app = fileURLToPath(new URL('fixtures/versioned.ts', import.meta.url))
export const token = 'a token for the tests of deploys only'

/**
 * Addresses where a program starts instances, as a service manager would: they outlive the process that starts them. A
 * file per address stores the process id.
 */
export class Places {
  readonly folder: string = temporaryFolder('places')
  readonly orders: string = join(this.folder, 'orders')
  readonly program: string = join(this.folder, 'place')
  readonly addresses: readonly string[]

  private constructor(first: number, count: number) {
    this.addresses = Array.from({ length: count }, (_, i) => `127.0.0.1:${first + i}`)
    writeFileSync(this.orders, '')
    writeFileSync(
      this.program,
      `#!/bin/sh
set -eu
cd '${this.folder}'
if [ -f "$2.pid" ]; then kill -TERM "$(cat "$2.pid")" || true; fi
while [ -f "$2.pid" ]; do sleep 0.05; done
[ "$1" = start ] || exit 0
unset NODE_TEST_CONTEXT NODE_OPTIONS
export ORDERS='${this.orders}' FLEET_ADMIN_TOKEN='${token}' FLEET_AGENT_PORT=$(($2 + ${count}))
export DRAIN_DELAY=500 TRUST_PROXY=127.0.0.1 FLEET_NAME="$2"
(
  '${process.execPath}' '${app}' &
  echo $! > "$2.new" && mv "$2.new" "$2.pid"
  wait $! || true
  rm -f "$2.pid"
) > "$2.log" 2>&1 &
while ! [ -f "$2.pid" ]; do sleep 0.02; done
`,
    )
    chmodSync(this.program, 0o755)
  }

  static async find(count: number): Promise<Places> {
    return new Places(await freePort(count * 2), count)
  }

  get start(): string {
    return `${this.program} start {port}`
  }

  get stop(): string {
    return `${this.program} stop {port}`
  }

  agentPort(address: string): number {
    return portOf(address) + this.addresses.length
  }

  /** Starts a version at an address, and waits until it is ready. */
  async put(version: string, ...addresses: string[]): Promise<void> {
    for (const address of addresses) await this.#run('start', address, { FLEET_VERSION: version, FLEET_COLOR: 'blue' })
    for (const address of addresses) {
      const what = `${address} to be ready`
      await until(async () => (await readStatus(`http://${address}`)).ready, { what, timeoutMs: 30_000 })
    }
  }

  /** The version at each address; `undefined` where none responds. */
  async versions(): Promise<(string | undefined)[]> {
    return Promise.all(this.addresses.map(async (address) => (await readStatus(`http://${address}`)).version))
  }

  async clear(): Promise<void> {
    await Promise.all(this.addresses.map((address) => this.#run('stop', address)))
  }

  async #run(verb: 'start' | 'stop', address: string, env: Record<string, string> = {}): Promise<void> {
    const port = String(portOf(address))
    const child = launch('/bin/sh', ['-c', '"$0" "$@"', this.program, verb, port], { env: { ...env, PORT: port } })
    const { code } = await child.exit
    if (code !== 0) throw new Error(`${verb} ${address}: ${child.stderr}`)
  }
}

const portOf = (address: string): number => Number(address.split(':')[1])
