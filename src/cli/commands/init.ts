import { lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { readRegular } from '../../base/regular-file.ts'
import { type Command, defineCommand, flag, option, usageError } from '../args.ts'
import { readProject } from '../eject/project.ts'
import { applied, type Change, unifiedDiff } from '../init/change.ts'
import { environmentChange } from '../init/environment.ts'
import { uncommitted } from '../init/git.ts'
import { type InitPlan, type Manual, planInit } from '../init/plan.ts'
import { newApp } from '../init/template.ts'
import { type Output, plural } from '../output.ts'
import { canAsk, isYes } from '../up/consent.ts'

const command: Command = defineCommand({
  name: 'init',
  summary: 'Set up fleet in an existing Fastify app, or make a new one',
  usage: `fleet init [DIR] [options]
fleet init --new DIR [--typescript]

Finds the file in DIR (default: the current folder) that creates the Fastify instance, by the scripts and \`main\` of package.json.
Prints a diff and applies it after a yes on the terminal, or with --yes: the line that registers fleet, \`serverOptions()\`, PORT
and HOST, npm scripts and .env.example. Files with uncommitted changes are not edited, so that git can undo it. A second run
changes nothing. What cannot be edited with certainty is printed as lines to add by hand.

Exit codes: 0 the app is set up, or with --dry-run; 1 something is left: changes were not applied, or lines are to be added by hand;
2 there is no package.json, no Fastify 5, or the command line is invalid.`,
  options: {
    app: option('FILE of the app (default: from package.json)'),
    name: option('NAME of the fleet (default: from package.json)'),
    docker: flag('Also write Dockerfile, .dockerignore and compose.yml where they are missing'),
    yes: flag('Apply the changes without asking', { short: 'y' }),
    'dry-run': flag('Print the diff and change nothing'),
    force: flag('Edit files with uncommitted changes, too'),
    new: flag('Make a new app in DIR, which must be empty or missing'),
    typescript: flag('With --new: in TypeScript'),
  },
  suggest: { files: true },
  async run({ values, positionals, out }) {
    const [folder = '.', ...more] = positionals
    if (more.length > 0) throw usageError('expected one DIR; see `fleet init --help`')
    if (values.typescript && !values.new)
      throw usageError('--typescript is for --new; an existing app keeps its language')
    const plan = values.new
      ? planNew(folder, { name: values.name, typescript: values.typescript === true })
      : planInit(folder, { app: values.app, name: values.name, docker: values.docker })
    if (values.new && (values.app || values.docker)) throw usageError('--app and --docker are for an existing app')
    const diff = plan.changes.map(unifiedDiff).join('')
    show(plan, diff, out)
    const isDry = values['dry-run'] === true
    const wanted = plan.changes.length > 0 && !isDry
    const refusal = wanted ? await whyNot(plan, { yes: values.yes || values.new, force: values.force }, out) : undefined
    const isApplied = wanted && refusal === undefined
    if (isApplied) apply(plan)
    const { entry, changes, joined, notes, manual, next } = plan
    out.result({
      entry,
      files: changes.map(({ file }) => file),
      diff,
      applied: isApplied,
      reason: refusal,
      joined,
      notes,
      manual,
      next,
    })
    if (refusal !== undefined) out.line(`nothing was changed: ${refusal}`)
    else if (isApplied) conclude(plan, out)
    else if (changes.length === 0 && manual.length === 0) out.line('nothing to do: fleet is set up')
    return isDry || (refusal === undefined && manual.length === 0) ? 0 : 1
  },
})
export default command

function planNew(folder: string, { name, typescript }: { name?: string; typescript: boolean }): InitPlan {
  const found = lstatSync(folder, { throwIfNoEntry: false })
  if (found && !found.isDirectory()) throw usageError(`${folder} is not a folder`)
  if (found && readdirSync(folder).some((entry) => entry !== '.git'))
    throw usageError(`${folder} is not empty; for an existing app, leave out --new`)
  const project = readProject(folder, { name })
  const environment = environmentChange(folder)
  const changes = newApp(project.name, typescript, environment as Change)
  const next = [`cd ${folder}`, 'npm install', 'npm test', 'npm run fleet']
  return {
    folder,
    entry: changes[0]?.file,
    changes,
    joined: [],
    notes: [],
    manual: [],
    next: folder === '.' ? next.slice(1) : next,
  }
}

function show({ changes, joined, notes, manual, entry }: InitPlan, diff: string, out: Output): void {
  if (entry !== undefined) out.line(`app   ${entry}`)
  for (const what of joined) out.line(`joins ${what}`)
  for (const note of notes) out.line(`${out.style('yellow', 'note')}  ${note}`)
  if (changes.length > 0) out.line()
  for (const line of diff.split('\n').slice(0, -1)) out.line(coloured(line.replace(/\r$/, ''), out))
  if (changes.length > 0) out.line()
  for (const one of manual) for (const line of linesOf(one)) out.line(line)
}

function coloured(line: string, out: Output): string {
  if (line.startsWith('diff ')) return out.style('bold', line)
  if (line.startsWith('+')) return out.style('green', line)
  return line.startsWith('-') ? out.style('red', line) : line
}

const linesOf = ({ place, reason, lines }: Manual): string[] => [
  `${place} is not edited: ${reason}. Add by hand:`,
  ...lines.map((line) => `    ${line}`),
  '',
]

/** Why the changes are not applied; `undefined`: they may be. */
async function whyNot(
  { folder, changes }: InitPlan,
  given: { yes?: boolean; force?: boolean },
  out: Output,
): Promise<string | undefined> {
  const edited = changes.filter(({ before }) => before !== undefined).map(({ file }) => file)
  const dirty = uncommitted(folder, edited)
  if (dirty && dirty.length > 0 && !given.force)
    return `${dirty.join(', ')} ${dirty.length === 1 ? 'has' : 'have'} changes that are not committed; commit them, so that git can undo this, or use --force`
  if (given.yes) return undefined
  if (out.json) return '--json does not ask; apply it with --yes'
  if (!canAsk(out)) return 'there is no terminal to ask on; apply it with --yes'
  const undo = dirty === undefined && edited.length > 0 ? ' There is no git repository to undo it.' : ''
  return (await isYes(`Apply these changes to ${plural(changes.length, 'file')}?${undo} [y/N]`, out))
    ? undefined
    : 'the reply was no'
}

/** @throws FLEET_ERR_USAGE if a file is not what the diff was made of; nothing is written then */
function apply({ folder, changes }: InitPlan): void {
  for (const { file, before } of changes) {
    if (
      readRegular(join(folder, file), false) !== before ||
      (before === undefined && lstatSync(join(folder, file), { throwIfNoEntry: false }))
    )
      throw usageError(`${join(folder, file)} has changed since it was read, or is a link; nothing was changed`)
  }
  for (const change of changes) {
    const path = join(folder, change.file)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, applied(change), { flag: change.before === undefined ? 'wx' : 'w' })
  }
}

function conclude({ changes, next, manual }: InitPlan, out: Output): void {
  for (const { file, before } of changes) out.line(`${before === undefined ? 'wrote ' : 'edited'} ${file}`)
  if (manual.length > 0) out.line('the lines above are left to add by hand')
  out.line('')
  out.line('Next:')
  for (const line of next) out.line(`  ${line}`)
}
