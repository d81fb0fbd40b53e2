import { dirname } from 'node:path'
import { launch, temporaryFolder } from '../../../src/cli/up/child.ts'

const folder = temporaryFolder('parent')
launch('/bin/sh', ['-c', 'exit 0']).exit.then(() => {
  const children = [
    launch('/bin/sh', ['-c', '/bin/sleep 60; /bin/sleep 60']),
    launch('/bin/sh', ['-c', 'exec /bin/sleep 60']),
    launch('/bin/sh', ['-c', "trap '' INT; exec /bin/sleep 60"], { stopSignal: 'SIGKILL' }),
  ]
  console.log(`started ${children.map((child) => child.pid).join(' ')} in ${dirname(folder)}`)
  if (process.argv[2] === 'exit') process.exit(0)
  if (process.argv[2] === 'throw') throw new Error('crash')
})
