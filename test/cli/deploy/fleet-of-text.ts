import type { InstanceStatus } from '../../../src/cli/deploy/instance-status.ts'
import type { Release, Survey } from '../../../src/cli/deploy/plans.ts'
import type { Rotation, Shares } from '../../../src/cli/deploy/rotation.ts'

/** A front that records its rotation as text. */
export const rotation = (now: Shares): Rotation => {
  const say = (shares: Shares): string =>
    [...shares].map(([address, share]) => `${address.slice(-1)}=${share}`).join(' ')
  return {
    now,
    change: (from, to) =>
      say(from) === say(to) ? [] : [{ do: 'run', argv: ['front', ...say(to).split(' ')], timeoutMs: 1 }],
  }
}
export const full = (...addresses: string[]): Shares => new Map(addresses.map((address) => [address, 'full']))
export const survey = (versions: Record<string, string | undefined>, color?: string): Survey =>
  new Map(
    Object.entries(versions).map(([address, version]): [string, InstanceStatus] =>
      version === undefined
        ? [address, { ready: false, summary: 'ECONNREFUSED' }]
        : [address, { ready: true, version, color, summary: version }],
    ),
  )
export const release: Release = {
  version: '2',
  programs: { start: ['start', '{version}', '{port}'], stop: ['stop', '{port}'] },
  timeoutMs: 1000,
}
