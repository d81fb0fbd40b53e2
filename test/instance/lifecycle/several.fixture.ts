/** A process with several apps, one for each exit code. It gets a signal, and they close one after the other. */

import { setImmediate as nextTurn } from 'node:timers/promises'
import { onExitSignal } from '../../../src/instance/lifecycle/signals.ts'

for (const [index, code] of (process.env.FIXTURE_CODES ?? '').split(',').entries())
  onExitSignal({
    async first() {
      for (let turn = 0; turn < index * 10; turn++) await nextTurn()
      console.log(`closed ${code}`)
      if (code === 'fails') throw new Error('cannot close')
      return Number(code)
    },
    second: () => undefined,
  })
// A signal that is on its way keeps no process alive.
setInterval(() => undefined, 1_000)
process.kill(process.pid, 'SIGTERM')
