// Which test files can notice a change of a source file, by the imports of tests and sources.
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { pathsIn } from './syntax.js'

/** Tests of fleets, fronts, attacks and rules take too long for each mutant, or do not run the source. The page of options does. */
const slow =
  /^test\/(fleet|haproxy|nginx|deploy|fuzz|guards(?!\/options)|scripts|compat)\/|hostile-(client|upstream)|\/(fleet-test|rolling)\./
/** Sources between a test and the mutated file, at most. */
const farthest = 2

/** @returns for a source file, its test files with the closest first */
export function testFinder(root) {
  const tests = globSync('test/**/*.test.ts', { cwd: root }).filter((file) => !slow.test(file))
  const imports = new Map()
  const importsOf = (file) => {
    if (!imports.has(file)) {
      const named = pathsIn(readFileSync(join(root, file), 'utf8'))
      const paths = named.map((path) => (path.startsWith('src/') ? path : join(dirname(file), path)))
      const isCode = (path) => /^(src|test|scripts)\/.*\.[jt]s$/.test(path) && existsSync(join(root, path))
      imports.set(file, paths.filter(isCode))
    }
    return imports.get(file)
  }
  const distances = new Map(tests.map((test) => [test, distancesFrom(test, importsOf)]))
  return (file) =>
    tests
      .map((test) => ({ test, rank: rankOf(test, file, distances.get(test).get(file)) }))
      .filter(({ rank }) => rank !== undefined)
      .sort((a, b) => a.rank - b.rank || (a.test < b.test ? -1 : 1))
      .map(({ test }) => test)
}

/** Number of sources on the way to each source. Helpers of tests do not count. */
function distancesFrom(test, importsOf) {
  const distances = new Map([[test, 0]])
  for (const [file, distance] of distances) {
    for (const path of importsOf(file)) {
      const next = distance + (path.startsWith('src/') ? 1 : 0)
      if (next <= farthest && !(distances.get(path) <= next)) {
        distances.delete(path)
        distances.set(path, next)
      }
    }
  }
  return distances
}

/** 0 is the test of this name; then the tests of the folder, then the others by distance. */
function rankOf(test, file, distance) {
  const mirrored = file.replace(/^src/, 'test').replace(/\.ts$/, '')
  if (test === `${mirrored}.test.ts`) return 0
  const folder = dirname(mirrored)
  const isOfFolder = !relative(folder, test).startsWith('..') || test === `${folder}.test.ts`
  // A test may start the source as a program of its own.
  if (isOfFolder && folder !== 'test') return distance ?? 10
  return distance === undefined ? undefined : distance + farthest
}
