import type { LifecycleState } from '../../instance/identity.ts'
import { type Command, defineCommand, usageError } from '../args.ts'
import { operatorOptions, operatorsFrom } from '../operators.ts'
import { waitUntil } from '../wait-until.ts'

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
        throw usageError('missing INSTANCE; `fleet ps` lists the ids')
      }
      const operators = operatorsFrom(rest, values)
      await operators.command(name, instanceId)
      let now: LifecycleState | undefined
      const isAtState = async (): Promise<boolean> => {
        now = (await operators.instances()).find(({ id }) => id === instanceId)?.state
        return now === state
      }
      const reached = await waitUntil(isAtState, timeoutMs, 100)
      out.result({ instanceId, state: now ?? 'gone' })
      if (reached) out.line(`${instanceId} is ${state}`)
      else out.error(`${instanceId} is ${now ?? 'gone'}, ${timeoutMs / 1000} s after the command ${name}`)
      return reached ? 0 : 1
    },
  })

const command: Command = drainCommand('drain', 'draining', 'Remove an instance from rotation; it keeps serving')
export default command
