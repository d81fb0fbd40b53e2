import { askReload } from '../../host/control.ts'
import { type Command, defineCommand, option, usageError } from '../args.ts'

const command: Command = defineCommand({
  name: 'reload',
  summary: 'Replace the workers of `fleet start` without losing requests, and report the result',
  usage: `fleet reload --control PATH

For workers of \`fleet start FILE --control PATH\`. Exit code 1: a new worker did not become ready, and the remaining old
workers keep serving.`,
  options: { control: option('PATH of the control socket, as for `fleet start`') },
  async run({ values, out }) {
    if (!values.control) throw usageError('missing --control PATH, as for `fleet start`')
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
