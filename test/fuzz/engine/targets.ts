import { readdirSync } from 'node:fs'

const folder = new URL('../targets/', import.meta.url)

/** The targets by name, in alphabetical order. */
export const targets: readonly string[] = readdirSync(folder)
  .filter((file) => file.endsWith('.ts'))
  .map((file) => file.slice(0, -3))
  .sort()

export const fileOf = (name: string): string => new URL(`${name}.ts`, folder).href
