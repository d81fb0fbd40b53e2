import { setTimeout as delay } from 'node:timers/promises'
import { FleetError } from '../base/errors.ts'
import type { LifecycleState } from '../instance/identity.ts'
import { type Command, defineCommand } from './args.ts'
import { operatorOptions, operatorsFrom } from './operators.ts'

/** How long an instance may take to say that it has obeyed, ms: the command travels by broadcast, the state by heartbeat. */
const patienceMs = 10_000

/** The verb that brings an instance into `state`, and waits until the fleet sees it there. */
export const rotation = (name: 'drain' | 'undrain', state: LifecycleState, summary: string): Command =>
  defineCommand({
    name,
    summary,
    usage: `fleet ${name} INSTANCE [URL] [options]

INSTANCE is an id as \`fleet ps\` lists it. URL is that of any instance, or of a front that lets operators through
(default: the first instance on this machine).`,
    options: operatorOptions,
    async run({ values, positionals: [instanceId, ...rest], out }) {
      if (instanceId === undefined) {
        throw new FleetError('FLEET_ERR_USAGE', `give the id of an instance; \`fleet ps\` lists them`)
      }
      const operators = operatorsFrom(rest, values)
      await operators.command(name, instanceId)
      const deadline = performance.now() + patienceMs
      let now: LifecycleState | undefined
      while (now !== state && performance.now() < deadline) {
        now = (await operators.instances()).find(({ id }) => id === instanceId)?.state
        if (now !== state) await delay(100)
      }
      out.result({ instanceId, state: now ?? 'gone' })
      if (now === state) out.line(`${instanceId} is ${state}`)
      else out.error(`${instanceId} is ${now ?? 'gone'}, ${patienceMs / 1000} s after it was told to ${name}`)
      return now === state ? 0 : 1
    },
  })
