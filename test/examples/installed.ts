import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'acorn'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { npm, packed } from '../helpers/packed.ts'

export const examples: string = fileURLToPath(new URL('../../examples', import.meta.url))
export const names: readonly string[] = readdirSync(examples, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name)

export const dependenciesOf = (name: string): Record<string, string> =>
  JSON.parse(readFileSync(join(examples, name, 'package.json'), 'utf8')).dependencies

/** The packages that an example imports. */
export function importsOf(name: string): string[] {
  const files = readdirSync(join(examples, name)).filter((file) => file.endsWith('.js'))
  const sources = files.flatMap((file) => {
    const text = readFileSync(join(examples, name, file), 'utf8')
    const { body } = parse(text, { ecmaVersion: 'latest', sourceType: 'module' })
    return body.flatMap((node) => (node.type === 'ImportDeclaration' ? [String(node.source.value)] : []))
  })
  const packages = sources.filter((source) => !/^(?:node:|\.)/.test(source))
  return [...new Set(packages.map((source) => /^(?:@[^/]+\/)?[^/]+/.exec(source)?.[0] ?? source))]
}

/** Copies all examples into a folder with the packed package and what they depend on. One installation serves all. */
export async function install(): Promise<string> {
  const folder = temporaryFolder('examples')
  for (const name of names) cpSync(join(examples, name), join(folder, name), { recursive: true })
  const dependencies = {
    ...Object.assign({}, ...names.map(dependenciesOf)),
    'fastify-fleet': `file:${await packed()}`,
  }
  // Node finds packages in the folder above.
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }))
  await npm(['install', '--prefer-offline', '--no-audit', '--no-fund', '--no-package-lock'], folder)
  return folder
}
