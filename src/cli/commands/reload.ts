import { FleetError } from '../../base/errors.ts'
import { askReload } from '../../host/control.ts'
import { type Command, defineCommand } from '../args.ts'

const command: Command = defineCommand({
  name: 'reload',
  summary: 'Replace the workers of `fleet start` without a loss, and tell whether the new build was taken',
  usage: `fleet reload --control PATH

For a group that was started with \`fleet start FILE --control PATH\`. Exit code 1: a new worker did not become ready,
and those not replaced yet serve on.`,
  options: { control: { type: 'string', describe: 'PATH that was given to `fleet start`' } },
  async run({ values, out }) {
    if (!values.control) throw new FleetError('FLEET_ERR_USAGE', 'give the --control PATH that `fleet start` was given')
    const progress = out.progress('replacing workers')
    try {
      await askReload(values.control)
    } catch (error) {
      progress.fail()
      throw error
    }
    progress.done('all workers replaced')
    out.result({ reloaded: true })
    return 0
  },
})
export default command
