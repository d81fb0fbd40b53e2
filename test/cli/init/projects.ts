import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import init from '../../../src/cli/commands/init.ts'
import { temporaryFolder } from '../../../src/cli/up/child.ts'
import { runCommand, type Said } from '../commands.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

export type Files = Readonly<Record<string, string>>

export const manifest = (more: object = {}): string =>
  `${JSON.stringify({ name: 'shop', dependencies: { fastify: '^5.0.0' }, ...more }, null, 2)}\n`

/** A project outside this repository that finds Fastify, its plugins and the source of this package. */
export function project(files: Files): string {
  const folder = temporaryFolder('init')
  const modules = join(folder, 'node_modules')
  write(folder, {
    '.gitignore': 'node_modules\n',
    'node_modules/fastify-fleet/package.json': '{"name":"fastify-fleet","type":"module","main":"index.js"}',
    'node_modules/fastify-fleet/index.js': `export * from ${JSON.stringify(join(root, 'src/index.ts'))}\n`,
    ...files,
  })
  for (const name of ['fastify', '@fastify', 'fastify-plugin']) {
    if (!existsSync(join(modules, name))) symlinkSync(join(root, 'node_modules', name), join(modules, name))
  }
  return folder
}

export function write(folder: string, files: Files): void {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    writeFileSync(join(folder, file), text)
  }
}

export const read = (folder: string, file: string): string => readFileSync(join(folder, file), 'utf8')

/** All files of the project by name, without packages and the repository. */
export const contents = (folder: string): Files =>
  Object.fromEntries(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !/node_modules|\.git(?:\/|$)/.test(entry.parentPath))
      .map(({ parentPath, name }) => [
        join(parentPath, name).slice(folder.length + 1),
        readFileSync(join(parentPath, name), 'utf8'),
      ]),
  )

export function git(folder: string, ...args: string[]): void {
  const author = ['-c', 'user.name=Test', '-c', 'user.email=test@example.com', '-c', 'core.autocrlf=false']
  execFileSync('git', [...author, '-C', folder, ...args], { stdio: ['ignore', 'ignore', 'inherit'] })
}

export function commitAll(folder: string): void {
  git(folder, 'init', '--quiet')
  git(folder, 'add', '--all')
  git(folder, 'commit', '--quiet', '--message', 'all')
}

export const fleetInit = (...args: string[]): Promise<Said> => runCommand(init, ...args)

/** What `--json` prints. */
export async function report(...args: string[]): Promise<
  Record<string, unknown> & {
    diff: string
    notes: string[]
    joined: string[]
    manual: { place: string; reason: string; lines: string[] }[]
  }
> {
  return JSON.parse((await fleetInit(...args, '--json')).stdout)
}
