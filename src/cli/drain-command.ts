import { setTimeout as delay } from 'node:timers/promises'
import { FleetError } from '../base/errors.ts'
import type { LifecycleState } from '../instance/identity.ts'
import { type Command, defineCommand } from './args.ts'
import { operatorOptions, operatorsFrom } from './operators.ts'

/** Time until the registry shows the new state, ms: broadcast carries the command, heartbeats carry the state. */
const timeoutMs = 10_000

/** A verb that sends `name` to an instance and waits until the registry shows `state`. */
export const drainCommand = (name: 'drain' | 'undrain', state: LifecycleState, summary: string): Command =>
  defineCommand({
    name,
    summary,
    usage: `fleet ${name} INSTANCE [URL] [options]

INSTANCE is an id from \`fleet ps\`. URL is any instance, or a front that forwards operators’ paths (default: the first
instance on this machine).`,
    options: operatorOptions,
    async run({ values, positionals: [instanceId, ...rest], out }) {
      if (instanceId === undefined) {
        throw new FleetError('FLEET_ERR_USAGE', 'missing INSTANCE; `fleet ps` lists the ids')
      }
      const operators = operatorsFrom(rest, values)
      await operators.command(name, instanceId)
      const deadline = performance.now() + timeoutMs
      let now: LifecycleState | undefined
      while (now !== state && performance.now() < deadline) {
        now = (await operators.instances()).find(({ id }) => id === instanceId)?.state
        if (now !== state) await delay(100)
      }
      out.result({ instanceId, state: now ?? 'gone' })
      if (now === state) out.line(`${instanceId} is ${state}`)
      else out.error(`${instanceId} is ${now ?? 'gone'}, ${timeoutMs / 1000} s after the command ${name}`)
      return now === state ? 0 : 1
    },
  })
