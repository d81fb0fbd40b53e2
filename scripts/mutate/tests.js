// Which test files can notice a change of a source file, by their names and the imports of tests and sources.
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { pathsIn } from './syntax.js'

/** Tests of fleets, fronts, attacks and rules take too long for each mutant, or do not run the source. The pages made of it do. */
const slow =
  /^test\/(fleet|haproxy|nginx|deploy|fuzz|guards(?!\/(options|reference)\.)|scripts|compat)\/|hostile-(client|upstream)|\/(fleet-test|rolling)\./
/** Sources between a test of another folder and the mutated file, at most. */
const farthest = 2
/** The first group of tests. */
const near = 0

/**
 * @returns for a source file, its test files with the closest first: `{ test, isNear, isOwn }`. Near are the tests of its folder
 * that import it or have its name; its own have the name of the file or the beginning of it.
 */
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
      .map((test) => ({ test, ...closeness(test, file, distances.get(test).get(file)) }))
      .filter(({ group }) => group !== undefined)
      .sort((a, b) => a.group - b.group || b.shared - a.shared || a.distance - b.distance || (a.test < b.test ? -1 : 1))
      .map(({ test, group, isOwn }) => ({ test, isNear: group === near, isOwn }))
}

/** Number of sources on the way to each source. Helpers of tests do not count. */
function distancesFrom(test, importsOf) {
  const distances = new Map([[test, 0]])
  for (const [file, distance] of distances) {
    for (const path of importsOf(file)) {
      const next = distance + (path.startsWith('src/') ? 1 : 0)
      if (!(distances.get(path) <= next)) {
        distances.delete(path)
        distances.set(path, next)
      }
    }
  }
  return distances
}

/**
 * The tests of a folder are those in the folder of its name, and the files that start with its name: `health-probes.test.ts` is
 * one of `health/`. Of these, the ones that share most of the source's name are closest: `sign-in.test.ts` to `sign-in-routes.ts`.
 */
function closeness(test, file, distance = Number.POSITIVE_INFINITY) {
  const [own, wanted] = [wordsOf(test), wordsOf(file)]
  const differs = wanted.findIndex((word, index) => word !== own[index])
  const shared = differs === -1 ? wanted.length : differs
  const folder = wordsOf(dirname(file)).length
  const isOfFolder = folder > 0 && shared >= folder
  const isNear = isOfFolder && (shared > folder || distance < Number.POSITIVE_INFINITY)
  // A folder within a module may have no tests of its own: those of the module that reach it are its tests.
  const isOfModule = shared > 1 && shared === wordsOf(dirname(test)).length && distance < Number.POSITIVE_INFINITY
  // A test may start the source as a program of its own.
  const group = isNear ? near : distance <= farthest ? near + 1 : isOfFolder || isOfModule ? near + 2 : undefined
  const isWhole = shared === own.length
  // All of its name is more than a part of it.
  return { group, isOwn: isNear && isWhole && shared > folder, shared: isWhole ? shared + 0.5 : shared, distance }
}

/** The same of `src/instance/health/probes.ts` and `test/instance/health-probes.test.ts`. */
const wordsOf = (path) =>
  path
    .replace(/^(src|test)(\/|$)/, '')
    .replace(/(\.test)?\.ts$/, '')
    .split(/[/-]/)
    .filter(Boolean)
