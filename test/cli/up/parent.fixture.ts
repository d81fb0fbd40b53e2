import childProcess, { type SpawnOptions } from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'
import { dirname } from 'node:path'
import { type Child, launch, temporaryFolder } from '../../../src/cli/up/child.ts'

const [, , end] = process.argv
if (end === 'stubborn') {
  const { spawn } = childProcess
  // The guard waits ten seconds for children that ignore their signal; here it does not.
  const impatient = (command: string, args: readonly string[], options: SpawnOptions) =>
    spawn(
      command,
      args.map((each) => each.replace('sleep 0.2', ':')),
      options,
    )
  Object.assign(childProcess, { spawn: impatient })
  syncBuiltinESMExports()
}
const folder = temporaryFolder('parent')
const report = (...children: readonly Child[]): void =>
  console.log(`started ${children.map((child) => child.pid).join(' ')} in ${dirname(folder)}`)

launch('/bin/sh', ['-c', 'exit 0']).exit.then(async () => {
  if (end === 'stubborn') {
    const child = launch('/bin/sh', ['-c', "trap '' TERM; echo ready; exec /bin/sleep 600"])
    await child.waitFor(/ready/)
    return report(child)
  }
  report(
    launch('/bin/sh', ['-c', '/bin/sleep 60; /bin/sleep 60']),
    launch('/bin/sh', ['-c', 'exec /bin/sleep 60']),
    launch('/bin/sh', ['-c', "trap '' INT; exec /bin/sleep 60"], { stopSignal: 'SIGKILL' }),
  )
  if (end === 'exit') process.exit(0)
  if (end === 'throw') throw new Error('crash')
})
