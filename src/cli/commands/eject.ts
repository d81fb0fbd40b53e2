import { type Command, defineCommand, flag, option, usageError } from '../args.ts'
import { assets, plan, write } from '../eject/eject.ts'
import { kits } from '../eject/kits.ts'
import { readProject } from '../eject/project.ts'

const names = Object.keys(kits).join('|')

const command: Command = defineCommand({
  name: 'eject',
  summary: 'Copy front configurations, compose files, manifests and Terraform into your project',
  usage: `fleet eject ${names} [DIR] [options]

Writes files of this package into DIR (default: the current folder) under the same paths, with the name and main file of your
project. If an existing file differs, it writes nothing.`,
  options: {
    name: option('NAME of the project (default: from package.json)'),
    app: option('FILE of the app (default: the first of app.js, server.js, src/app.ts, … that exists)'),
    host: option('HOST name for clients (default: NAME.example.com)'),
    force: flag('Overwrite files that differ'),
    keep: flag('Keep files that differ, and write the others'),
    'dry-run': flag('Print the files without writing them'),
  },
  suggest: { words: Object.keys(kits), files: true },
  async run({ values, positionals, out }) {
    const [what = '', folder = '.', ...more] = positionals
    const kit = Object.hasOwn(kits, what) ? kits[what] : undefined
    if (!kit || more.length > 0) throw usageError(`expected one of ${names} and a folder; see \`fleet eject --help\``)
    const project = readProject(folder, values)
    const wanted = assets(kit, project)
    const { write: missing, same, conflicts } = plan(wanted, project)
    const dryRun = values['dry-run'] === true

    if (conflicts.length > 0 && !values.force && !values.keep) {
      out.result({ ejected: [], conflicts, same, dryRun })
      for (const file of conflicts) out.line(`${out.style('red', 'differs')} ${file}`)
      out.line('nothing was written; --force overwrites these files, --keep keeps them and writes the others')
      return 1
    }
    const written = values.keep ? missing.filter(({ file }) => !conflicts.includes(file)) : missing
    if (!dryRun) write(written, project)
    out.result({
      ejected: written.map(({ file }) => file),
      kept: values.keep ? conflicts : [],
      same,
      dryRun,
      next: kit.next(project),
    })
    for (const { file } of written) out.line(`${dryRun ? 'would write' : 'wrote'} ${file}`)
    if (values.keep) for (const file of conflicts) out.line(`kept ${file}`)
    if (written.length === 0) out.line('all files exist already')
    out.line('')
    out.line('Next:')
    for (const line of kit.next(project)) out.line(`  ${line}`)
    return 0
  },
})
export default command
