import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../..', import.meta.url))

/** The shipped files that the doctor reads. */
export const shipped = [
  'nginx',
  'haproxy',
  'deploy',
  'docker-compose.loadbalancer.yml',
  'ecosystem.config.cjs',
  'Dockerfile',
  'src/app',
  // The deploy/aws and deploy/cloudflare modules as `terraform show -json` prints them, shortened to what is read.
  'test/cli/doctor/shipped-plan.json',
] as const

export interface Project {
  readonly folder: string
  path(file: string): string
  /** Replaces a text that occurs once. @returns a function that restores it */
  edit(file: string, from: string, to: string): () => void
  /** The line of the first occurrence. */
  line(file: string, text: string): number
  write(file: string, text: string): void
}

/** A copy of the given files in a temporary folder, which is removed after the tests. */
export function project(files: readonly string[] = []): Project {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-doctor-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  for (const file of files) cpSync(join(root, file), join(folder, file), { recursive: true })
  const path = (file: string): string => join(folder, file)
  const write = (file: string, text: string): void => {
    mkdirSync(dirname(path(file)), { recursive: true })
    writeFileSync(path(file), text)
  }
  return {
    folder,
    path,
    write,
    edit(file, from, to) {
      const text = readFileSync(path(file), 'utf8')
      if (text.split(from).length !== 2) throw new Error(`${JSON.stringify(from)} does not occur once in ${file}`)
      write(
        file,
        text.replace(from, () => to),
      )
      return () => write(file, text)
    },
    line(file, text) {
      const content = readFileSync(path(file), 'utf8')
      const index = content.indexOf(text)
      if (index === -1) throw new Error(`${JSON.stringify(text)} is not in ${file}`)
      return content.slice(0, index).split('\n').length
    },
  }
}
