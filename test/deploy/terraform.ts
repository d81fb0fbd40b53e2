import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { findProgram } from '../../src/cli/up/find.ts'

export const terraform: string | undefined = findProgram(['terraform', 'tofu'])

/** Runs Terraform in a folder. @throws with its messages in `stderr` */
function run(folder: string, ...args: readonly string[]): string {
  return execFileSync(terraform as string, args, {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, CHECKPOINT_DISABLE: '1' },
    timeout: 300_000,
    maxBuffer: 64 * 1024 * 1024,
  })
}

/** Terraform's message, in one line: it wraps and frames it. */
export const messageOf = (error: unknown): string =>
  String((error as { stderr?: unknown }).stderr ?? error)
    .replaceAll(/[│╷╵\s]+/g, ' ')
    .trim()

const folders: string[] = []
after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** A copy of files of a module, with more files. It is removed after the tests. */
export function copy(files: readonly string[], more: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-terraform-'))
  folders.push(folder)
  for (const file of files) copyFileSync(file, join(folder, file.split('/').at(-1) as string))
  for (const [name, text] of Object.entries(more)) writeFileSync(join(folder, name), text)
  return folder
}

/** @returns why a folder's providers cannot be installed here, or `undefined` */
export function initialise(folder: string): string | undefined {
  try {
    run(folder, 'init', '-no-color', '-input=false')
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}

/** The outputs of a folder without resources. @throws Terraform's error */
export function outputs(folder: string, variables: object): Record<string, never> {
  writeFileSync(join(folder, 'terraform.tfvars.json'), JSON.stringify(variables))
  run(folder, 'apply', '-no-color', '-input=false', '-auto-approve', '-compact-warnings')
  const all = JSON.parse(run(folder, 'output', '-json')) as Record<string, { value: never }>
  return Object.fromEntries(Object.entries(all).map(([name, { value }]) => [name, value]))
}

/** A plan as JSON. @throws Terraform's error */
export function plan(folder: string, variables: object): string {
  writeFileSync(join(folder, 'terraform.tfvars.json'), JSON.stringify(variables))
  run(folder, 'plan', '-no-color', '-input=false', '-refresh=false', '-out', 'saved')
  return run(folder, 'show', '-json', 'saved')
}
